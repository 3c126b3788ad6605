use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use durable::Digest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, io_error};
use crate::home::{Home, private_dir};
use crate::lock::Lock;

const VERSION: u32 = 1;

/// The files of an adapter, in mlx-lm's layout; sorted, since their listing is the identity.
const FILES: [&str; 2] = ["adapter_config.json", "adapters.safetensors"];

/// Who serves, who waits, and how it came to that. `None` stands for the base model itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    version: u32,
    /// The adapter that serves.
    pub champion: Option<Digest>,
    /// The adapter that sat the last exam.
    pub candidate: Option<Digest>,
    /// The adapter that served before the champion; what a rollback goes to.
    pub previous: Option<Digest>,
    /// Every change of champion, oldest first.
    pub history: Vec<Change>,
}

impl Default for State {
    fn default() -> Self {
        Self { version: VERSION, champion: None, candidate: None, previous: None, history: vec![] }
    }
}

/// One change of champion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// When.
    pub at: Timestamp,
    /// Promotion or rollback.
    pub action: Action,
    /// Who serves from here on.
    pub champion: Option<Digest>,
    /// Who served until then.
    pub previous: Option<Digest>,
    /// The night that asked for it; none when done by hand.
    pub night: Option<String>,
    /// Why.
    pub reason: String,
}

/// How a champion came to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// An adapter took over.
    Promote,
    /// The one before came back.
    Rollback,
}

/// What became of a call to [`Registry::promote`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Promotion {
    /// The adapter serves from now on.
    Done,
    /// Nothing changed: the same night had promoted the same adapter, or it serves already.
    AlreadyDone,
    /// Nothing changed: the champion that the candidate was measured against serves no more.
    Overtaken,
}

/// Who asks for a promotion.
#[derive(Debug, Clone, Copy)]
pub enum Mandate<'a> {
    /// A night, whose candidate won against this champion.
    Night {
        /// The night's id.
        id: &'a str,
        /// The champion that the candidate was measured against; none for the base model.
        against: Option<Digest>,
    },
    /// A person.
    Hand,
}

impl<'a> Mandate<'a> {
    fn night(self) -> Option<&'a str> {
        match self {
            Mandate::Night { id, .. } => Some(id),
            Mandate::Hand => None,
        }
    }

    fn was_carried_out(self, state: &State, adapter: Digest) -> bool {
        state.history.iter().any(|change| {
            change.action == Action::Promote
                && change.champion == Some(adapter)
                && change.night.is_some()
                && change.night.as_deref() == self.night()
        })
    }
}

/// The champion registry of a home: content-addressed adapters, and one small file, replaced
/// atomically, that says which of them serves.
///
/// An adapter's digest is that of its `sha256sum` listing, so anyone can check it:
/// `cd adapters/DIGEST && sha256sum * | sha256sum`.
#[derive(Debug, Clone)]
pub struct Registry {
    home: Home,
}

impl Registry {
    /// The registry of `home`; nothing is read yet.
    pub fn new(home: &Home) -> Self {
        Self { home: home.clone() }
    }

    /// Aliases and history, as they stand.
    pub fn state(&self) -> Result<State> {
        let path = self.path();
        let refuse = |found: String| Error::Record {
            path: path.clone(),
            line: None,
            expected: "a champion registry of version 1",
            found,
        };
        let state: State = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| refuse(e.to_string()))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(State::default()),
            Err(e) => return Err(io_error(&path, "read")(e)),
        };
        match state.version {
            VERSION => Ok(state),
            other => Err(refuse(format!("version {other}"))),
        }
    }

    /// Where an adapter lies. Use [`Registry::verified`] to be sure of what lies there.
    pub fn folder(&self, adapter: Digest) -> PathBuf {
        self.home.adapters().join(adapter.to_string())
    }

    /// The adapter's folder, once its content is found to be what its name says.
    pub fn verified(&self, adapter: Digest) -> Result<PathBuf> {
        self.audited("read", adapter, || self.intact(adapter))
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
        let held = self.adapters()?;
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
            self.store(dir, adapter)?;
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
    pub fn promote(&self, adapter: Digest, by: Mandate<'_>, reason: &str) -> Result<Promotion> {
        self.audited("promote", adapter, || {
            let _lock = self.lock()?;
            let mut state = self.state()?;
            if state.champion == Some(adapter) || by.was_carried_out(&state, adapter) {
                return Ok(Promotion::AlreadyDone);
            }
            if let Mandate::Night { against, .. } = by
                && against != state.champion
            {
                return Ok(Promotion::Overtaken);
            }
            self.intact(adapter)?;
            state.change(Action::Promote, Some(adapter), by.night(), reason);
            self.save(&state)?;
            Ok(Promotion::Done)
        })
    }

    /// Brings the champion's predecessor back; a second rollback undoes the first.
    pub fn rollback(&self, reason: &str) -> Result<State> {
        self.audited("rollback", "previous", || {
            let _lock = self.lock()?;
            let mut state = self.state()?;
            if state.champion.is_none() && state.previous.is_none() {
                return Err(Error::NothingToRollBack { path: self.path() });
            }
            let previous = state.previous;
            previous.map(|adapter| self.intact(adapter)).transpose()?;
            state.change(Action::Rollback, previous, None, reason);
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

    fn save(&self, state: &State) -> Result<()> {
        Ok(durable::write_json(self.path(), state)?)
    }

    /// The adapter's folder, if its content is what its name says.
    fn intact(&self, adapter: Digest) -> Result<PathBuf> {
        let path = self.folder(adapter);
        let found = adapter_digest(&path)?;
        match found == adapter {
            true => Ok(path),
            false => Err(Error::Corrupt { path, expected: adapter, found }),
        }
    }

    /// All digests that have a folder.
    fn adapters(&self) -> Result<Vec<Digest>> {
        let dir = self.home.adapters();
        let mut found = vec![];
        for item in fs::read_dir(&dir).map_err(io_error(&dir, "list"))? {
            let name = item.map_err(io_error(&dir, "list"))?.file_name();
            found.extend(name.to_str().and_then(|name| name.parse::<Digest>().ok()));
        }
        found.sort();
        Ok(found)
    }

    /// Copies an adapter next to its place and renames it there, so that a folder named by a
    /// digest is always whole.
    fn store(&self, dir: &Path, adapter: Digest) -> Result<()> {
        let place = self.folder(adapter);
        if place.exists() {
            return self.intact(adapter).map(drop);
        }
        let shelf = self.home.adapters();
        let draft = shelf.join(format!(".tmp-{adapter}"));
        if draft.exists() {
            fs::remove_dir_all(&draft).map_err(io_error(&draft, "empty"))?;
        }
        private_dir(&draft)?;
        for name in FILES {
            let from = dir.join(name);
            let mut source = File::open(&from).map_err(io_error(&from, "read"))?;
            let mut copy = durable::Writer::create(draft.join(name))?;
            io::copy(&mut source, &mut copy).map_err(io_error(&draft.join(name), "write"))?;
            copy.commit()?;
        }
        fs::rename(&draft, &place).map_err(io_error(&place, "make"))?;
        // The rename lasts through a power cut only once the folder above is on disk.
        File::open(&shelf).and_then(|f| f.sync_all()).map_err(io_error(&shelf, "sync"))
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

impl State {
    fn change(&mut self, action: Action, champion: Option<Digest>, night: Option<&str>, why: &str) {
        self.previous = self.champion;
        self.champion = champion;
        self.history.push(Change {
            at: Timestamp::now(),
            action,
            champion,
            previous: self.previous,
            night: night.map(str::to_owned),
            reason: why.to_owned(),
        });
    }
}

/// The identity of an adapter folder: the digest of its `sha256sum` listing.
pub fn adapter_digest(dir: &Path) -> Result<Digest> {
    let mut listing = String::new();
    for name in FILES {
        listing += &format!("{}  {name}\n", durable::sha256_file(dir.join(name))?);
    }
    Ok(durable::digest(listing))
}
