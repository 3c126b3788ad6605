//! The champion registry: which adapter is champion on each base model, and the history of changes.

mod adapter_store;
mod base;
mod migrate;
mod state;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use durable::Digest;
use jiff::Timestamp;
use serde::Deserialize;

pub use adapter_store::adapter_digest;
pub use base::BaseRegistry;
pub use state::{Action, BaseState, Best, Change, ExamId, Promotion, Requester, State};

use crate::base_model;
use crate::config::NightConfig;
use crate::error::{Error, Result};
use crate::files;
use crate::home::Home;
use crate::lock::Lock;
use crate::serving;
use adapter_store::AdapterStore;
use migrate::Version1;
use state::VERSION;
pub(crate) use state::name_of;

/// The champion registry of a home: adapters stored by digest, and one file, replaced atomically,
/// with the aliases (champion, candidate, previous) and the history of each base model.
///
/// An adapter's digest is the SHA-256 of its `sha256sum` listing:
/// `cd adapters/DIGEST && sha256sum * | sha256sum`. Every call that changes the registry, every dry
/// run and every read of an adapter is recorded in `audit.jsonl`, also when it fails.
///
/// Changes are made through [`BaseRegistry`] and concern one base model only. A file of version 1,
/// which had one champion for all base models, is read, and written anew with the next change; it
/// stays as `registry.v1.json`.
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

    /// The part of a base model: `base` is the [digest](models::model_digest) of its files, `path` where they are.
    pub fn of(&self, base: Digest, path: impl Into<PathBuf>) -> BaseRegistry {
        let path = path.into();
        let path = std::path::absolute(&path).unwrap_or(path);
        BaseRegistry::new(self.clone(), base, path)
    }

    /// The part of a configuration's base model, whose files are read.
    ///
    /// # Errors
    /// The model cannot be read; the demo model cannot be fetched.
    pub fn of_config(&self, config: &NightConfig) -> Result<BaseRegistry> {
        let path = base_model::path_of(&config.setup.model, &mut |_, _| ())?;
        Ok(self.of(models::model_digest(&path)?, path))
    }

    /// The part of the base model with this name (that of its file or folder), path, or beginning of its digest; without a
    /// name, that of the only one. A model at a path is read: its files say which base model it is.
    ///
    /// # Errors
    /// [`Error::UnknownBase`] with the base models that the registry has, if not exactly one of them is meant; as
    /// [`state`](Self::state).
    pub fn find(&self, name: Option<&str>) -> Result<BaseRegistry> {
        let state = self.state()?;
        let path = name.map(Path::new);
        let is_named = |(digest, base): &(&Digest, &BaseState)| match name {
            None => true,
            Some(name) => {
                base.name() == name || name.len() >= 4 && digest.to_string().starts_with(name)
            }
        };
        let was_there = |(_, base): &(&Digest, &BaseState)| {
            path.is_some_and(|path| std::path::absolute(path).is_ok_and(|path| base.path == path))
        };
        let known = only(state.bases.iter().filter(is_named));
        let found = match (known, path) {
            (None, Some(path)) if path.exists() => {
                return Ok(self.of(models::model_digest(path)?, path));
            }
            (known, _) => known.or_else(|| only(state.bases.iter().filter(was_there))),
        };
        match found {
            // Of a base model of version 1, the path may be only a name.
            Some((digest, base)) => Ok(BaseRegistry::new(self.clone(), *digest, base.path.clone())),
            None => Err(Error::UnknownBase {
                path: self.path(),
                wanted: name.map_or("none".to_owned(), |name| format!("{name:?}")),
                held: held(&state),
            }),
        }
    }

    /// The aliases and the history of each base model.
    ///
    /// # Errors
    /// A registry file that is damaged or of another version.
    pub fn state(&self) -> Result<State> {
        match files::read_if_there(&self.path())? {
            Some(bytes) => self.parse(&bytes),
            // There was no night yet.
            None => Ok(State::default()),
        }
    }

    fn parse(&self, bytes: &[u8]) -> Result<State> {
        let error = |found: String| Error::Record {
            path: self.path(),
            line: None,
            expected: "a champion registry of version 1 or 2 (the state before the last change is in \
                       registry.last.json)",
            found,
        };
        match version(bytes).map_err(|e| error(e.to_string()))? {
            1 => {
                let old: Version1 =
                    serde_json::from_slice(bytes).map_err(|e| error(e.to_string()))?;
                old.by_base(&self.home)
            }
            VERSION => serde_json::from_slice(bytes).map_err(|e| error(e.to_string())),
            other => Err(error(format!("version {other}"))),
        }
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
        self.audited("read", None, adapter, || self.adapters.intact(adapter))
    }

    /// Deletes all adapters except the `keep` newest and, of every base model, the champion, the previous champion and the
    /// candidate. Returns the deleted adapters, oldest first.
    ///
    /// # Errors
    /// As [`state`](Self::state); an adapter that cannot be deleted.
    pub fn prune(&self, keep: usize) -> Result<Vec<Digest>> {
        self.audited("prune", None, keep, || {
            let _lock = self.lock()?;
            let mut state = self.state()?;
            let surplus = self.adapters.surplus(keep, &state.protected())?;
            if !surplus.is_empty() {
                // First, so that no adapter is named that is not there.
                state.forget(&surplus);
                self.save(&mut state)?;
            }
            surplus.iter().try_for_each(|adapter| self.adapters.delete(*adapter))?;
            Ok(surplus)
        })
    }

    /// The adapters that [`prune`](Self::prune) would delete. Changes only the audit log.
    ///
    /// # Errors
    /// As [`state`](Self::state).
    pub fn prune_dry_run(&self, keep: usize) -> Result<Vec<Digest>> {
        self.audited("prune (dry run)", None, keep, || {
            self.adapters.surplus(keep, &self.state()?.protected())
        })
    }

    fn path(&self) -> PathBuf {
        self.home.path().join("registry.json")
    }

    fn lock(&self) -> Result<Lock> {
        Lock::wait(&self.home.path().join("registry.lock"))
    }

    /// Writes the state, and a copy of the file before, for repairing a damaged one.
    fn save(&self, state: &mut State) -> Result<()> {
        let before = files::read_if_there(&self.path())?;
        let migrates =
            before.as_deref().is_some_and(|bytes| version(bytes).is_ok_and(|it| it == 1));
        if let Some(bytes) = before {
            durable::write(self.home.path().join("registry.last.json"), &bytes)?;
            if migrates {
                durable::write(self.home.path().join("registry.v1.json"), &bytes)?;
            }
        }
        let placed: Vec<_> = state.unplaced.iter().copied().collect();
        state.unplaced = placed.into_iter().filter(|it| state.base_of(*it).is_none()).collect();
        durable::write_json(self.path(), state)?;
        if migrates {
            for adapter in &state.unplaced {
                tracing::warn!("{}: {}", self.path().display(), unplaced(*adapter));
            }
            // Version 1 told the servers of all base models of one champion.
            for (base, of_base) in &state.bases {
                serving::update(&self.home, *base, of_base)?;
            }
        }
        Ok(())
    }

    /// Runs a call and records it in the audit log, also when it fails.
    fn audited<T>(
        &self,
        call: &str,
        base: Option<Digest>,
        subject: impl ToString,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let result = work();
        let line = serde_json::json!({
            "at": Timestamp::now(),
            "call": call,
            "base": base,
            "subject": subject.to_string(),
            "outcome": if result.is_ok() { "ok" } else { "error" },
            "message": result.as_ref().err().map(ToString::to_string),
        });
        durable::append_line(self.home.path().join("audit.jsonl"), &line.to_string())?;
        result
    }
}

/// What to do about an adapter of version 1 of which nothing tells the base model, in words.
pub fn unplaced(adapter: Digest) -> String {
    format!(
        "nothing tells on which base model the adapter {adapter} was trained, and it serves nowhere; `champion promote \
         {adapter} --base MODEL` makes it champion of that model"
    )
}

/// The only element; `None` if there is none or another one.
fn only<T>(mut all: impl Iterator<Item = T>) -> Option<T> {
    all.next().filter(|_| all.next().is_none())
}

/// The version of a registry file.
fn version(bytes: &[u8]) -> serde_json::Result<u32> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    Ok(serde_json::from_slice::<Versioned>(bytes)?.version)
}

/// The base models of a registry, in words.
fn held(state: &State) -> String {
    let mut text = String::new();
    for (digest, base) in &state.bases {
        let comma = if text.is_empty() { "" } else { ", " };
        let _ = write!(text, "{comma}{} ({})", base.name(), digest.short());
    }
    match text.is_empty() {
        true => "none: no night has run here, so there is no candidate and nothing to roll back"
            .to_owned(),
        false => text,
    }
}
