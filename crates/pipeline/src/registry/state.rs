//! The content of `registry.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use durable::Digest;
use eval::BestScores;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The version that is written.
pub(super) const VERSION: u32 = 2;

/// What serves on each base model, and how it came about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
#[serde(deny_unknown_fields)]
pub struct State {
    pub(super) version: u32,
    /// By base model: its digest ([`models::model_digest`]), which covers weights, configuration and tokenizer.
    pub bases: BTreeMap<Digest, BaseState>,
    /// Champion, candidate or previous champion of a registry of version 1 of which nothing tells the base model. They serve
    /// nowhere and are never deleted; a promotion by hand gives one to its base model.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unplaced: BTreeSet<Digest>,
    /// The reason of a pin of version 1, set before any base model was known. It holds for each base model that is added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<String>,
}

/// Aliases and history of one base model. An alias of `None` is the base model itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
#[serde(deny_unknown_fields)]
pub struct BaseState {
    /// Where its file or folder was when it was last used; for people, and to check that an adapter loads.
    pub path: PathBuf,
    /// The current champion.
    pub champion: Option<Digest>,
    /// The adapter of the last exam.
    pub candidate: Option<Digest>,
    /// The last good champion before the current one, which a rollback restores.
    pub previous: Option<Digest>,
    /// The reason for which the champion is pinned; `None` if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<String>,
    /// Grows with every change of champion, and never falls. Servers see it in `serving/BASE.json`.
    pub generation: u64,
    /// Every change of champion, oldest first.
    pub history: Vec<Change>,
    /// The best scores of served models, by exam. No floor of the gate falls below them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub best: Vec<Best>,
    /// The adapters that were trained on this base model.
    pub adapters: BTreeSet<Digest>,
}

/// The best scores on one exam.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// The exam.
    pub exam: ExamId,
    /// The highest mean score of each category.
    pub scores: BestScores,
}

/// What scores on the same base model must have in common to be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExamId {
    /// The digest of the suite.
    pub suite: Digest,
    /// The version of the scoring.
    pub scoring_version: u32,
}

/// One change of champion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Time of the change.
    pub at: Timestamp,
    /// What was done.
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
    /// The champion failed, and the last good one before it was restored. No night and no rollback makes it champion again.
    Rollback,
    /// The last good champion was restored for a reason that is not the adapter's fault: a server that did not take it, or
    /// a damaged copy.
    Withdraw,
}

/// The result of [`BaseRegistry::promote`](crate::registry::BaseRegistry::promote).
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
    /// Nothing changed: the adapter was champion before and was rolled back. Only a person may promote it again.
    FailedBefore,
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

impl Default for State {
    fn default() -> Self {
        Self { version: VERSION, bases: BTreeMap::new(), unplaced: BTreeSet::new(), pinned: None }
    }
}

impl State {
    /// Whether this night has promoted the adapter.
    pub(crate) fn has_promoted(&self, night: &str, adapter: Digest) -> bool {
        self.bases.values().any(|base| base.has_promoted(night, adapter))
    }

    /// The base model that an adapter was trained on; `None` if it is not known.
    pub fn base_of(&self, adapter: Digest) -> Option<Digest> {
        let base = self.bases.iter().find(|(_, base)| base.adapters.contains(&adapter));
        base.map(|(digest, _)| *digest)
    }

    /// The state of a base model; empty before its first night.
    pub(super) fn of(&self, base: Digest, path: &Path) -> BaseState {
        self.bases.get(&base).cloned().unwrap_or_else(|| BaseState {
            path: path.to_path_buf(),
            pinned: self.pinned.clone(),
            ..BaseState::default()
        })
    }

    /// The state of the base model at `path`, by which it is found without its digest. If its files were changed since, it is
    /// that of the model with the latest change.
    pub(crate) fn at(&self, path: &Path) -> BaseState {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let there = self.bases.values().filter(|base| base.path == path);
        let latest = there.max_by_key(|base| base.history.last().map(|change| change.at));
        latest.cloned().unwrap_or_default()
    }

    /// The adapters that are never deleted.
    pub(super) fn protected(&self) -> BTreeSet<Digest> {
        let aliases =
            self.bases.values().flat_map(|base| [base.champion, base.candidate, base.previous]);
        aliases.flatten().chain(self.unplaced.iter().copied()).collect()
    }

    /// Forgets adapters that were deleted.
    pub(super) fn forget(&mut self, deleted: &[Digest]) {
        for base in self.bases.values_mut() {
            base.adapters.retain(|adapter| !deleted.contains(adapter));
        }
    }
}

impl BaseState {
    /// The base model's name: that of its file or folder, without `.gguf`.
    pub fn name(&self) -> String {
        name_of(&self.path)
    }

    /// The champions that were rolled back.
    pub fn failed(&self) -> BTreeSet<Digest> {
        self.judged().failed
    }

    /// The adapters that a rollback may restore, the last champion first: those that were champion, and neither failed
    /// nor were withdrawn since.
    pub(super) fn good(&self) -> Vec<Digest> {
        let Judged { mut good, failed } = self.judged();
        good.retain(|adapter| Some(*adapter) != self.champion && !failed.contains(adapter));
        good.reverse();
        good
    }

    /// What the history says of those that were champion.
    fn judged(&self) -> Judged {
        let Judged { mut good, mut failed } = Judged::default();
        for change in &self.history {
            // In version 1, a second rollback undid the first.
            let undone = change.action == Action::Rollback
                && change.champion.is_some_and(|restored| failed.remove(&restored));
            let taken_back = change.previous.filter(|_| change.action != Action::Promote);
            if !undone {
                good.retain(|adapter| Some(*adapter) != taken_back);
                failed.extend(taken_back.filter(|_| change.action == Action::Rollback));
            }
            good.retain(|adapter| Some(*adapter) != change.champion);
            good.extend(change.champion);
        }
        Judged { good, failed }
    }

    pub(super) fn has_promoted(&self, night: &str, adapter: Digest) -> bool {
        self.history.iter().any(|change| {
            change.action == Action::Promote
                && change.champion == Some(adapter)
                && change.night.as_deref() == Some(night)
        })
    }

    pub(super) fn raise_best(&mut self, exam: &ExamId, scores: &BestScores) {
        match self.best.iter_mut().find(|best| best.exam == *exam) {
            Some(best) => best.scores.raise(scores),
            None => self.best.push(Best { exam: *exam, scores: scores.clone() }),
        }
    }

    pub(super) fn change(
        &mut self,
        action: Action,
        champion: Option<Digest>,
        night: Option<&str>,
        reason: &str,
    ) {
        let (at, night, reason) = (Timestamp::now(), night.map(str::to_owned), reason.to_owned());
        self.push(Change { at, action, champion, previous: self.champion, night, reason });
    }

    /// Adds a change and sets the aliases that follow from it.
    pub(super) fn push(&mut self, change: Change) {
        self.champion = change.champion;
        self.adapters.extend(change.champion);
        self.history.push(change);
        self.generation += 1;
        self.previous = self.good().first().copied();
    }
}

/// Those that were champion, by what became of them.
#[derive(Default)]
struct Judged {
    /// Oldest first. An adapter that failed and was promoted again by hand is in both.
    good: Vec<Digest>,
    failed: BTreeSet<Digest>,
}

/// The name of a base model at `path`.
pub(crate) fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    name.strip_suffix(".gguf").unwrap_or(&name).to_owned()
}
