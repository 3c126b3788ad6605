use std::path::Path;

use durable::Digest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files::read_if_there;

const VERSION: u32 = 1;

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
    /// Why the champion stays whatever nights find; absent: the best may serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<String>,
    /// Every change of champion, oldest first.
    pub history: Vec<Change>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            version: VERSION,
            champion: None,
            candidate: None,
            previous: None,
            pinned: None,
            history: vec![],
        }
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

/// What became of a call to [`Registry::promote`](crate::Registry::promote).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Promotion {
    /// The adapter serves from now on.
    Done,
    /// Nothing changed: the same night had promoted the same adapter, or it serves already.
    AlreadyDone,
    /// Nothing changed: the champion that the candidate was measured against serves no more.
    Overtaken,
    /// Nothing changed: the champion is pinned.
    Pinned,
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
    pub(super) fn night(self) -> Option<&'a str> {
        match self {
            Mandate::Night { id, .. } => Some(id),
            Mandate::Hand => None,
        }
    }

    pub(super) fn was_carried_out(self, state: &State, adapter: Digest) -> bool {
        state.history.iter().any(|change| {
            change.action == Action::Promote
                && change.champion == Some(adapter)
                && change.night.is_some()
                && change.night.as_deref() == self.night()
        })
    }
}

impl State {
    /// Reads the state from the registry's file; without one, nobody was ever promoted.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let refuse = |found: String| Error::Record {
            path: path.to_path_buf(),
            line: None,
            expected: "a champion registry of version 1 (the state before the last change is in \
                       registry.last.json)",
            found,
        };
        let Some(bytes) = read_if_there(path)? else { return Ok(State::default()) };
        let state: State = serde_json::from_slice(&bytes).map_err(|e| refuse(e.to_string()))?;
        match state.version {
            VERSION => Ok(state),
            other => Err(refuse(format!("version {other}"))),
        }
    }

    /// The adapters that are never deleted.
    pub(super) fn protected(&self) -> [Option<Digest>; 3] {
        [self.champion, self.candidate, self.previous]
    }

    pub(super) fn change(
        &mut self,
        action: Action,
        champion: Option<Digest>,
        night: Option<&str>,
        why: &str,
    ) {
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
