//! Who serves, and how it came to that.

mod shelf;
mod state;

use std::path::{Path, PathBuf};

use durable::Digest;
use jiff::Timestamp;

pub use shelf::adapter_digest;
pub use state::{Action, Change, Mandate, Promotion, State};

use crate::error::{Error, Result};
use crate::home::Home;
use crate::lock::Lock;
use shelf::Shelf;

/// The champion registry of a home: content-addressed adapters, and one small file, replaced
/// atomically, that says which of them serves.
///
/// An adapter's digest is that of its `sha256sum` listing, so anyone can check it:
/// `cd adapters/DIGEST && sha256sum * | sha256sum`. Every call that changes something, would
/// change something, or hands out an adapter leaves a line in `audit.jsonl`, whatever comes of it.
#[derive(Debug, Clone)]
pub struct Registry {
    home: Home,
    shelf: Shelf,
}

impl Registry {
    /// The registry of `home`; nothing is read yet.
    pub fn new(home: &Home) -> Self {
        Self { home: home.clone(), shelf: Shelf::new(home.adapters()) }
    }

    /// Aliases and history, as they stand.
    pub fn state(&self) -> Result<State> {
        State::read(&self.path())
    }

    /// Where an adapter lies. Use [`Registry::verified`] to be sure of what lies there.
    pub fn folder(&self, adapter: Digest) -> PathBuf {
        self.shelf.folder(adapter)
    }

    /// The adapter's folder, once its content is found to be what its name says.
    pub fn verified(&self, adapter: Digest) -> Result<PathBuf> {
        self.audited("read", adapter, || self.shelf.intact(adapter))
    }

    /// The adapter that `name` stands for: `champion`, `candidate`, `previous`, a digest, or the
    /// unique beginning of one.
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
        let held = self.shelf.adapters()?;
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

    /// Copies the adapter in `dir` into the registry, under its digest, and makes it the
    /// candidate.
    pub fn nominate(&self, dir: &Path) -> Result<Digest> {
        let adapter = adapter_digest(dir)?;
        self.audited("nominate", adapter, || {
            let _lock = self.lock()?;
            self.shelf.store(dir, adapter)?;
            let mut state = self.state()?;
            if state.candidate != Some(adapter) {
                state.candidate = Some(adapter);
                self.save(&state)?;
            }
            Ok(adapter)
        })
    }

    /// Makes an adapter the champion. Safe to repeat: a night promotes an adapter at most once,
    /// even if it was rolled back in between.
    ///
    /// # Errors
    /// [`Error::Pinned`] for a promotion by hand while the champion is pinned.
    pub fn promote(&self, adapter: Digest, by: Mandate<'_>, reason: &str) -> Result<Promotion> {
        self.audited("promote", adapter, || {
            let _lock = self.lock()?;
            let mut state = self.state()?;
            let promotion = self.may_promote(&state, adapter, by)?;
            if promotion == Promotion::Done {
                state.change(Action::Promote, Some(adapter), by.night(), reason);
                self.save(&state)?;
            }
            Ok(promotion)
        })
    }

    /// What [`promote`](Self::promote) would do now. Nothing changes but the audit log.
    pub fn try_promote(&self, adapter: Digest, by: Mandate<'_>) -> Result<Promotion> {
        self.audited("promote (dry run)", adapter, || self.may_promote(&self.state()?, adapter, by))
    }

    /// Brings the champion's predecessor back; a second rollback undoes the first. A pin does not
    /// stand in the way of safety: it then holds for whoever came back.
    pub fn rollback(&self, reason: &str) -> Result<State> {
        self.audited("rollback", "previous", || {
            let _lock = self.lock()?;
            let mut state = self.state()?;
            let previous = self.may_roll_back(&state)?;
            state.change(Action::Rollback, previous, None, reason);
            self.save(&state)?;
            Ok(state)
        })
    }

    /// Whom [`rollback`](Self::rollback) would bring back now; `None` is the base model. Nothing
    /// changes but the audit log.
    pub fn try_rollback(&self) -> Result<Option<Digest>> {
        self.audited("rollback (dry run)", "previous", || self.may_roll_back(&self.state()?))
    }

    /// Keeps the champion, whatever nights find, until [`unpin`](Self::unpin).
    pub fn pin(&self, reason: &str) -> Result<State> {
        self.set_pin("pin", Some(reason.to_owned()))
    }

    /// Lets the best serve again.
    pub fn unpin(&self) -> Result<State> {
        self.set_pin("unpin", None)
    }

    /// Deletes all adapters but the `keep` youngest, and never the champion, its predecessor or the
    /// candidate. Returns those that are gone, oldest first.
    pub fn prune(&self, keep: usize) -> Result<Vec<Digest>> {
        self.audited("prune", keep, || {
            let _lock = self.lock()?;
            let surplus = self.surplus(keep)?;
            surplus.iter().try_for_each(|adapter| self.shelf.delete(*adapter))?;
            Ok(surplus)
        })
    }

    /// What [`prune`](Self::prune) would delete now. Nothing changes but the audit log.
    pub fn try_prune(&self, keep: usize) -> Result<Vec<Digest>> {
        self.audited("prune (dry run)", keep, || self.surplus(keep))
    }

    fn may_promote(&self, state: &State, adapter: Digest, by: Mandate<'_>) -> Result<Promotion> {
        if state.champion == Some(adapter) || by.was_carried_out(state, adapter) {
            return Ok(Promotion::AlreadyDone);
        }
        match (by, &state.pinned) {
            (Mandate::Night { against, .. }, _) if against != state.champion => {
                return Ok(Promotion::Overtaken);
            }
            (Mandate::Night { .. }, Some(_)) => return Ok(Promotion::Pinned),
            (Mandate::Hand, Some(reason)) => {
                return Err(Error::Pinned { path: self.path(), reason: reason.clone() });
            }
            (_, None) => {}
        }
        self.shelf.intact(adapter)?;
        Ok(Promotion::Done)
    }

    fn may_roll_back(&self, state: &State) -> Result<Option<Digest>> {
        if state.champion.is_none() && state.previous.is_none() {
            return Err(Error::NothingToRollBack { path: self.path() });
        }
        state.previous.map(|adapter| self.shelf.intact(adapter)).transpose()?;
        Ok(state.previous)
    }

    fn surplus(&self, keep: usize) -> Result<Vec<Digest>> {
        self.shelf.surplus(keep, &self.state()?.protected())
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

    /// Writes the state, and keeps the one before beside it for whoever has to mend the file.
    fn save(&self, state: &State) -> Result<()> {
        durable::write_json(self.home.path().join("registry.last.json"), &self.state()?)?;
        Ok(durable::write_json(self.path(), state)?)
    }

    /// Runs a call and leaves one line about it in the audit log, whatever comes of it.
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
