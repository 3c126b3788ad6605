//! The content of `registry.json`.

use std::path::Path;

use durable::Digest;
use eval::BestScores;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files::read_if_there;

const VERSION: u32 = 1;

/// Aliases and history of a registry. An alias of `None` is the base model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
#[serde(deny_unknown_fields)]
pub struct State {
    version: u32,
    /// The current champion.
    pub champion: Option<Digest>,
    /// The adapter of the last exam.
    pub candidate: Option<Digest>,
    /// The champion before the current one, which a rollback restores.
    pub previous: Option<Digest>,
    /// The reason for which the champion is pinned; `None` if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<String>,
    /// Every change of champion, oldest first.
    pub history: Vec<Change>,
    /// The best scores of served models, by base model and exam. No floor of the gate falls below them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub best: Vec<Best>,
}

/// The best scores of the models of one base on one exam.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// The exam.
    pub exam: ExamOfBase,
    /// The highest mean score of each category.
    pub scores: BestScores,
}

/// A base model and an exam: what scores must have in common to be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExamOfBase {
    /// The digest of the base model.
    pub base: Digest,
    /// The digest of the suite.
    pub suite: Digest,
    /// The version of the scoring.
    pub scoring_version: u32,
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
            best: vec![],
        }
    }
}

/// One change of champion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Time of the change.
    pub at: Timestamp,
    /// Promotion or rollback.
    pub action: Action,
    /// The new champion.
    pub champion: Option<Digest>,
    /// The champion before it.
    pub previous: Option<Digest>,
    /// The night that made the change; `None` if made by hand.
    pub night: Option<String>,
    /// The reason given.
    pub reason: String,
}

/// The kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// An adapter became champion.
    Promote,
    /// The previous champion was restored.
    Rollback,
}

/// The result of [`Registry::promote`](crate::Registry::promote).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Promotion {
    /// The adapter is champion now.
    Done,
    /// Nothing changed: the adapter is champion already, or the same night had promoted it before.
    AlreadyDone,
    /// Nothing changed: the champion is no longer the one that the candidate was compared with.
    #[serde(rename = "overtaken")]
    ChampionChanged,
    /// Nothing changed: the champion is pinned.
    Pinned,
}

/// Who requests a promotion.
#[derive(Debug, Clone, Copy)]
pub enum Requester<'a> {
    /// A night whose candidate passed the gate.
    Night {
        /// The night's id.
        id: &'a str,
        /// The champion that the candidate was compared with; `None` for the base model.
        against: Option<Digest>,
    },
    /// A person.
    Operator,
}

impl<'a> Requester<'a> {
    pub(super) fn night(self) -> Option<&'a str> {
        match self {
            Requester::Night { id, .. } => Some(id),
            Requester::Operator => None,
        }
    }
}

impl State {
    /// Whether this night has promoted the adapter.
    pub(crate) fn has_promoted(&self, night: &str, adapter: Digest) -> bool {
        self.history.iter().any(|change| {
            change.action == Action::Promote
                && change.champion == Some(adapter)
                && change.night.as_deref() == Some(night)
        })
    }

    /// Reads the state from the registry's file; without a file, there was no promotion yet.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let error = |found: String| Error::Record {
            path: path.to_path_buf(),
            line: None,
            expected: "a champion registry of version 1 (the state before the last change is in \
                       registry.last.json)",
            found,
        };
        let Some(bytes) = read_if_there(path)? else { return Ok(State::default()) };
        let state: State = serde_json::from_slice(&bytes).map_err(|e| error(e.to_string()))?;
        match state.version {
            VERSION => Ok(state),
            other => Err(error(format!("version {other}"))),
        }
    }

    pub(super) fn raise_best(&mut self, exam: &ExamOfBase, scores: &BestScores) {
        match self.best.iter_mut().find(|best| best.exam == *exam) {
            Some(best) => best.scores.raise(scores),
            None => self.best.push(Best { exam: *exam, scores: scores.clone() }),
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
