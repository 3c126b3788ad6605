//! The champion registry: which adapter is champion, and the history of changes.

mod adapter_store;
mod state;

use std::path::{Path, PathBuf};

use durable::Digest;
use eval::BestScores;
use jiff::Timestamp;

pub use adapter_store::adapter_digest;
pub use state::{Action, Best, Change, ExamOfBase, Promotion, Requester, State};

use crate::error::{Error, Result};
use crate::home::Home;
use crate::lock::Lock;
use crate::serving;
use adapter_store::AdapterStore;

/// The champion registry of a home: adapters stored by digest, and one file, replaced atomically,
/// with the aliases (champion, candidate, previous) and the history.
///
/// An adapter's digest is the SHA-256 of its `sha256sum` listing:
/// `cd adapters/DIGEST && sha256sum * | sha256sum`. Every call that changes the registry, every dry
/// run and every read of an adapter is recorded in `audit.jsonl`, also when it fails.
#[derive(Debug, Clone)]
pub struct Registry {
    home: Home,
    adapters: AdapterStore,
}

impl Registry {
    /// The registry of `home`. Reads nothing.
    pub fn new(home: &Home) -> Self {
        Self { home: home.clone(), adapters: AdapterStore::new(home.adapters()) }
    }

    /// The home that it belongs to.
    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    /// The best scores that a model of this base has reached on an exam while it served; none if none ever did. Scores of
    /// another exam, or of another version of the scoring, cannot be compared and are kept apart.
    ///
    /// # Errors
    /// As [`state`](Self::state).
    pub fn best(&self, exam: &ExamOfBase) -> Result<Option<BestScores>> {
        let state = self.state()?;
        Ok(state.best.into_iter().find(|best| best.exam == *exam).map(|best| best.scores))
    }

    /// Raises the best scores on an exam to those of a model that serves. They never fall.
    ///
    /// # Errors
    /// As [`state`](Self::state), or if the state cannot be written.
    pub fn raise_best(&self, exam: &ExamOfBase, scores: &BestScores) -> Result<()> {
        self.audited("raise best scores", exam.suite, || {
            let _lock = self.lock()?;
            let mut state = self.state()?;
            state.raise_best(exam, scores);
            self.save(&state)
        })
    }

    /// The current aliases and the history.
    ///
    /// # Errors
    /// A registry file that is damaged or of another version.
    pub fn state(&self) -> Result<State> {
        State::read(&self.path())
    }

    /// The folder of an adapter, unchecked. See [`Registry::verified`].
    pub fn folder(&self, adapter: Digest) -> PathBuf {
        self.adapters.folder(adapter)
    }

    /// The folder of an adapter after a check of its content.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the content does not match the digest.
    pub fn verified(&self, adapter: Digest) -> Result<PathBuf> {
        self.audited("read", adapter, || self.adapters.intact(adapter))
    }

    /// The adapter with this name: `champion`, `candidate`, `previous`, a digest, or a unique prefix
    /// of at least four characters.
    ///
    /// # Errors
    /// [`Error::UnknownAdapter`] with the adapters that exist.
    pub fn resolve(&self, name: &str) -> Result<Digest> {
        let state = self.state()?;
        let alias = match name {
            "champion" => state.champion,
            "candidate" => state.candidate,
            "previous" => state.previous,
            _ => None,
        };
        if let Some(adapter) = alias {
            return Ok(adapter);
        }
        let held = self.adapters.list()?;
        let mut matching =
            held.iter().filter(|d| name.len() >= 4 && d.to_string().starts_with(name));
        match (matching.next(), matching.next()) {
            (Some(adapter), None) => Ok(*adapter),
            _ => Err(Error::UnknownAdapter {
                path: self.path(),
                wanted: name.to_owned(),
                held: match held.iter().map(|d| d.to_string()[..12].to_owned()).collect::<Vec<_>>()
                {
                    list if list.is_empty() => "none".to_owned(),
                    list => list.join(", "),
                },
            }),
        }
    }

    /// Copies the adapter in `dir` into the registry and makes it the candidate.
    pub fn nominate(&self, dir: &Path) -> Result<Digest> {
        let adapter = adapter_digest(dir)?;
        self.audited("nominate", adapter, || {
            let _lock = self.lock()?;
            self.adapters.store(dir, adapter)?;
            let mut state = self.state()?;
            if state.candidate != Some(adapter) {
                state.candidate = Some(adapter);
                self.save(&state)?;
            }
            Ok(adapter)
        })
    }

    /// Makes an adapter the champion. Repeating the call has no effect: a night promotes an adapter at
    /// most once, even if it was rolled back in between.
    ///
    /// # Errors
    /// [`Error::Pinned`] for a promotion by hand while the champion is pinned; [`Error::Corrupt`] for
    /// a damaged adapter.
    pub fn promote(&self, adapter: Digest, by: Requester<'_>, reason: &str) -> Result<Promotion> {
        self.audited("promote", adapter, || {
            let _lock = self.lock()?;
            let mut state = self.state()?;
            let promotion = self.check_promote(&state, adapter, by)?;
            if promotion == Promotion::Done {
                state.change(Action::Promote, Some(adapter), by.night(), reason);
                self.save(&state)?;
                // A night's champion serves after its smoke test.
                if by.night().is_none() {
                    serving::update(&self.home, &state)?;
                }
            }
            Ok(promotion)
        })
    }

    /// What [`promote`](Self::promote) would do. Changes only the audit log.
    pub fn promote_dry_run(&self, adapter: Digest, by: Requester<'_>) -> Result<Promotion> {
        self.audited("promote (dry run)", adapter, || {
            self.check_promote(&self.state()?, adapter, by)
        })
    }

    /// Makes the previous champion champion again; a second rollback undoes the first. It works while
    /// the champion is pinned, and the pin stays.
    ///
    /// # Errors
    /// [`Error::NothingToRollBack`] before the first promotion; [`Error::Corrupt`] if the previous
    /// champion is damaged.
    pub fn rollback(&self, reason: &str) -> Result<State> {
        self.audited("rollback", "previous", || {
            let _lock = self.lock()?;
            let mut state = self.state()?;
            let previous = self.check_rollback(&state)?;
            state.change(Action::Rollback, previous, None, reason);
            self.save(&state)?;
            serving::update(&self.home, &state)?;
            Ok(state)
        })
    }

    /// The adapter that [`rollback`](Self::rollback) would make champion; `None` for the base model.
    /// Changes only the audit log.
    pub fn rollback_dry_run(&self) -> Result<Option<Digest>> {
        self.audited("rollback (dry run)", "previous", || self.check_rollback(&self.state()?))
    }

    /// Prevents promotions until [`unpin`](Self::unpin).
    pub fn pin(&self, reason: &str) -> Result<State> {
        self.set_pin("pin", Some(reason.to_owned()))
    }

    /// Allows promotions again.
    pub fn unpin(&self) -> Result<State> {
        self.set_pin("unpin", None)
    }

    /// Deletes all adapters except the `keep` newest, the champion, the previous champion and the
    /// candidate. Returns the deleted adapters, oldest first.
    pub fn prune(&self, keep: usize) -> Result<Vec<Digest>> {
        self.audited("prune", keep, || {
            let _lock = self.lock()?;
            let surplus = self.surplus(keep)?;
            surplus.iter().try_for_each(|adapter| self.adapters.delete(*adapter))?;
            Ok(surplus)
        })
    }

    /// The adapters that [`prune`](Self::prune) would delete. Changes only the audit log.
    pub fn prune_dry_run(&self, keep: usize) -> Result<Vec<Digest>> {
        self.audited("prune (dry run)", keep, || self.surplus(keep))
    }

    fn check_promote(
        &self,
        state: &State,
        adapter: Digest,
        by: Requester<'_>,
    ) -> Result<Promotion> {
        let by_this_night = by.night().is_some_and(|night| state.has_promoted(night, adapter));
        if state.champion == Some(adapter) || by_this_night {
            return Ok(Promotion::AlreadyDone);
        }
        match (by, &state.pinned) {
            (Requester::Night { against, .. }, _) if against != state.champion => {
                return Ok(Promotion::ChampionChanged);
            }
            (Requester::Night { .. }, Some(_)) => return Ok(Promotion::Pinned),
            (Requester::Operator, Some(reason)) => {
                return Err(Error::Pinned { path: self.path(), reason: reason.clone() });
            }
            (_, None) => {}
        }
        self.adapters.intact(adapter)?;
        Ok(Promotion::Done)
    }

    fn check_rollback(&self, state: &State) -> Result<Option<Digest>> {
        if state.champion.is_none() && state.previous.is_none() {
            return Err(Error::NothingToRollBack { path: self.path() });
        }
        state.previous.map(|adapter| self.adapters.intact(adapter)).transpose()?;
        Ok(state.previous)
    }

    fn surplus(&self, keep: usize) -> Result<Vec<Digest>> {
        self.adapters.surplus(keep, &self.state()?.protected())
    }

    fn set_pin(&self, call: &str, reason: Option<String>) -> Result<State> {
        self.audited(call, "champion", || {
            let _lock = self.lock()?;
            let mut state = self.state()?;
            state.pinned = reason;
            self.save(&state)?;
            Ok(state)
        })
    }

    fn path(&self) -> PathBuf {
        self.home.path().join("registry.json")
    }

    fn lock(&self) -> Result<Lock> {
        Lock::wait(&self.home.path().join("registry.lock"))
    }

    /// Writes the state, and a copy of the one before, for repairing a damaged file.
    fn save(&self, state: &State) -> Result<()> {
        durable::write_json(self.home.path().join("registry.last.json"), &self.state()?)?;
        Ok(durable::write_json(self.path(), state)?)
    }

    /// Runs a call and records it in the audit log, also when it fails.
    fn audited<T>(
        &self,
        call: &str,
        subject: impl ToString,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let result = work();
        let line = serde_json::json!({
            "at": Timestamp::now(),
            "call": call,
            "subject": subject.to_string(),
            "outcome": if result.is_ok() { "ok" } else { "error" },
            "message": result.as_ref().err().map(ToString::to_string),
        });
        durable::append_line(self.home.path().join("audit.jsonl"), &line.to_string())?;
        result
    }
}
