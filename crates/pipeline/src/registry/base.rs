//! The part of the registry that concerns one base model.

use std::path::{Path, PathBuf};

use durable::Digest;
use eval::BestScores;
use models::{Adapter, Model, WeightResidency};

use super::adapter_store::adapter_digest;
use super::state::{Action, BaseState, ExamId, Promotion, Requester, State};
use super::{Registry, only};
use crate::error::{Error, Result};
use crate::serving;

/// The part of a [`Registry`] that concerns one base model. Nothing here changes what serves on another.
#[derive(Debug, Clone)]
pub struct BaseRegistry {
    all: Registry,
    base: Digest,
    path: PathBuf,
}

/// Where a rollback leads.
struct Way {
    /// `None` for the base model.
    to: Option<Digest>,
    /// The champions that were passed over, each with the reason.
    passed_over: Vec<String>,
}

impl BaseRegistry {
    pub(super) fn new(all: Registry, base: Digest, path: PathBuf) -> Self {
        Self { all, base, path }
    }

    /// The digest of the base model.
    pub fn base(&self) -> Digest {
        self.base
    }

    /// The base model's file or folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The registry of all base models.
    pub fn all(&self) -> &Registry {
        &self.all
    }

    /// The current aliases and the history; empty before the first night with this base model.
    ///
    /// # Errors
    /// As [`Registry::state`].
    pub fn state(&self) -> Result<BaseState> {
        Ok(self.all.state()?.of(self.base, &self.path))
    }

    /// See [`Registry::folder`].
    pub fn folder(&self, adapter: Digest) -> PathBuf {
        self.all.folder(adapter)
    }

    /// See [`Registry::verified`].
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the content does not match the digest.
    pub fn verified(&self, adapter: Digest) -> Result<PathBuf> {
        self.all.verified(adapter)
    }

    /// The best scores that a model has reached on an exam while it served; none if none ever did. Scores of another exam,
    /// or of another version of the scoring, cannot be compared and are kept apart.
    ///
    /// # Errors
    /// As [`state`](Self::state).
    pub fn best(&self, exam: &ExamId) -> Result<Option<BestScores>> {
        let best = self.state()?.best.into_iter().find(|best| best.exam == *exam);
        Ok(best.map(|best| best.scores))
    }

    /// Raises the best scores on an exam to those of a model that serves. They never fall.
    ///
    /// # Errors
    /// As [`state`](Self::state), or if the state cannot be written.
    pub fn raise_best(&self, exam: &ExamId, scores: &BestScores) -> Result<()> {
        self.change("raise best scores", exam.suite, |_, base| {
            base.raise_best(exam, scores);
            Ok(())
        })
    }

    /// The adapter with this name: `champion`, `candidate`, `previous`, a digest, or a unique prefix of at least four
    /// characters. Adapters of other base models are not found.
    ///
    /// # Errors
    /// [`Error::UnknownAdapter`] with the adapters that exist.
    pub fn resolve(&self, name: &str) -> Result<Digest> {
        let state = self.all.state()?;
        let base = state.of(self.base, &self.path);
        let alias = match name {
            "champion" => base.champion,
            "candidate" => base.candidate,
            "previous" => base.previous,
            _ => None,
        };
        if let Some(adapter) = alias {
            return Ok(adapter);
        }
        let mut held = self.all.adapters.list()?;
        held.retain(|adapter| state.base_of(*adapter).is_none_or(|base| base == self.base));
        let matches = |d: &&Digest| name.len() >= 4 && d.to_string().starts_with(name);
        match only(held.iter().filter(matches)) {
            Some(adapter) => Ok(*adapter),
            None => Err(Error::UnknownAdapter {
                path: self.all.path(),
                wanted: name.to_owned(),
                held: match held.iter().map(Digest::short).collect::<Vec<_>>() {
                    list if list.is_empty() => "none".to_owned(),
                    list => list.join(", "),
                },
            }),
        }
    }

    /// Copies the adapter in `dir` into the registry and makes it the candidate.
    ///
    /// # Errors
    /// As [`state`](Self::state); an adapter that cannot be read or copied.
    pub fn nominate(&self, dir: &Path) -> Result<Digest> {
        let adapter = adapter_digest(dir)?;
        self.change("nominate", adapter, |_, base| {
            self.all.adapters.store(dir, adapter)?;
            base.candidate = Some(adapter);
            base.adapters.insert(adapter);
            Ok(adapter)
        })
    }

    /// Makes an adapter the champion. Repeating the call has no effect: a night promotes an adapter at
    /// most once, even if it was rolled back in between, and never one that was rolled back before.
    ///
    /// # Errors
    /// [`Error::Pinned`] for a promotion by hand while the champion is pinned; [`Error::Corrupt`] for
    /// a damaged adapter; [`Error::OtherBase`] for one that was trained on another base model.
    pub fn promote(&self, adapter: Digest, by: Requester<'_>, reason: &str) -> Result<Promotion> {
        self.change("promote", adapter, |all, base| {
            let promotion = self.check_promote(all, base, adapter, by)?;
            if promotion == Promotion::Done {
                base.change(Action::Promote, Some(adapter), by.night(), reason);
            }
            Ok(promotion)
        })
    }

    /// What [`promote`](Self::promote) would do. Changes only the audit log.
    ///
    /// # Errors
    /// As [`promote`](Self::promote).
    pub fn promote_dry_run(&self, adapter: Digest, by: Requester<'_>) -> Result<Promotion> {
        self.all.audited("promote (dry run)", Some(self.base), adapter, || {
            let state = self.all.state()?;
            self.check_promote(&state, &state.of(self.base, &self.path), adapter, by)
        })
    }

    /// Takes the champion back because it failed, and restores the last good one: the last that was champion, never failed,
    /// is intact, and loads on the base model. If there is none, the base model serves. What failed is never restored by a
    /// rollback or a night. It works while the champion is pinned, and the pin stays.
    ///
    /// A champion whose copy is damaged did not fail: it is [withdrawn](Self::withdraw).
    ///
    /// # Errors
    /// [`Error::NothingToRollBack`] if the base model serves.
    pub fn rollback(&self, reason: &str) -> Result<BaseState> {
        self.take_back("rollback", Action::Rollback, reason)
    }

    /// Restores the last good champion, as [`rollback`](Self::rollback) does, for a reason that is not the champion's fault:
    /// a night may promote it again.
    ///
    /// # Errors
    /// As [`rollback`](Self::rollback).
    pub fn withdraw(&self, reason: &str) -> Result<BaseState> {
        self.take_back("withdraw", Action::Withdraw, reason)
    }

    /// The adapter that [`rollback`](Self::rollback) would make champion; `None` for the base model.
    /// Changes only the audit log.
    ///
    /// # Errors
    /// As [`rollback`](Self::rollback).
    pub fn rollback_dry_run(&self) -> Result<Option<Digest>> {
        self.all.audited("rollback (dry run)", Some(self.base), "champion", || {
            Ok(self.way_back(&self.state()?)?.to)
        })
    }

    /// Prevents promotions until [`unpin`](Self::unpin).
    ///
    /// # Errors
    /// As [`state`](Self::state), or if the state cannot be written.
    pub fn pin(&self, reason: &str) -> Result<BaseState> {
        self.set_pin("pin", Some(reason.to_owned()))
    }

    /// Allows promotions again.
    ///
    /// # Errors
    /// As [`pin`](Self::pin).
    pub fn unpin(&self) -> Result<BaseState> {
        self.set_pin("unpin", None)
    }

    fn set_pin(&self, call: &str, reason: Option<String>) -> Result<BaseState> {
        self.change(call, "champion", |_, base| {
            base.pinned = reason;
            Ok(base.clone())
        })
    }

    fn check_promote(
        &self,
        all: &State,
        base: &BaseState,
        adapter: Digest,
        by: Requester<'_>,
    ) -> Result<Promotion> {
        let by_this_night = by.night().is_some_and(|night| base.has_promoted(night, adapter));
        if base.champion == Some(adapter) || by_this_night {
            return Ok(Promotion::AlreadyDone);
        }
        match (by, &base.pinned) {
            (Requester::Night { against, .. }, _) if against != base.champion => {
                return Ok(Promotion::ChampionChanged);
            }
            (Requester::Night { .. }, Some(_)) => return Ok(Promotion::Pinned),
            (Requester::Night { .. }, None) if base.failed().contains(&adapter) => {
                return Ok(Promotion::FailedBefore);
            }
            (Requester::Operator, Some(reason)) => {
                return Err(Error::Pinned { path: self.all.path(), reason: reason.clone() });
            }
            (_, None) => {}
        }
        match all.base_of(adapter) {
            Some(other) if other != self.base && !base.adapters.contains(&adapter) => {
                let found = all.of(other, Path::new("")).name();
                let (path, expected) = (self.all.path(), super::state::name_of(&self.path));
                return Err(Error::OtherBase { path, adapter, expected, found });
            }
            _ => {}
        }
        self.all.adapters.intact(adapter)?;
        Ok(Promotion::Done)
    }

    fn take_back(&self, call: &str, action: Action, reason: &str) -> Result<BaseState> {
        self.change(call, "champion", |_, base| {
            let Way { to, passed_over } = self.way_back(base)?;
            let damaged = base.champion.is_some_and(|it| self.all.adapters.intact(it).is_err());
            let action = if damaged { Action::Withdraw } else { action };
            let reason = passed_over.iter().fold(reason.to_owned(), |all, one| all + "; " + one);
            base.change(action, to, None, &reason);
            Ok(base.clone())
        })
    }

    /// Where a rollback leads.
    fn way_back(&self, base: &BaseState) -> Result<Way> {
        if base.champion.is_none() {
            return Err(Error::NothingToRollBack { path: self.all.path() });
        }
        let mut passed_over = Vec::new();
        for adapter in base.good() {
            match self.usable(adapter) {
                Ok(()) => return Ok(Way { to: Some(adapter), passed_over }),
                Err(error) => {
                    tracing::warn!("{} cannot be restored: {error}", adapter.short());
                    let why = error.to_string().replace('\n', " ");
                    passed_over.push(format!("passed over {}: {why}", adapter.short()));
                }
            }
        }
        Ok(Way { to: None, passed_over })
    }

    /// Checks that an adapter is intact and loads on the base model, of which only headers are read.
    fn usable(&self, adapter: Digest) -> Result<()> {
        let folder = self.all.adapters.intact(adapter)?;
        let not_checked = |why: &dyn std::fmt::Display| {
            tracing::warn!("whether {} loads is not checked: {why}", adapter.short());
            Ok(())
        };
        let model = match Model::open_with(&self.path, WeightResidency::Streamed) {
            Ok(model) => model,
            // It may be on a disk that is not connected; the adapter is the one that loaded before.
            Err(error) => return not_checked(&error),
        };
        match Adapter::load(folder, &model).map_err(Error::from) {
            Err(error) if !error.is_of_adapter() => not_checked(&error),
            loaded => loaded.map(drop),
        }
    }

    /// Changes the state of this base model, and what its servers follow.
    fn change<T>(
        &self,
        call: &str,
        subject: impl ToString,
        work: impl FnOnce(&State, &mut BaseState) -> Result<T>,
    ) -> Result<T> {
        self.all.audited(call, Some(self.base), subject, || {
            let _lock = self.all.lock()?;
            let mut state = self.all.state()?;
            let before = state.of(self.base, &self.path);
            let mut after = before.clone();
            let result = work(&state, &mut after)?;
            if before == after && after.path == self.path {
                return Ok(result);
            }
            after.path.clone_from(&self.path);
            state.bases.insert(self.base, after.clone());
            self.all.save(&mut state)?;
            // A night's champion serves after its smoke test.
            let by_a_night = after.history.last().is_some_and(|change| change.night.is_some());
            if before.generation != after.generation && !by_a_night {
                serving::update(self.all.home(), self.base, &after)?;
            }
            Ok(result)
        })
    }
}
