//! The summary of a finished night, written to `summary.json` and read back for the index.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use durable::Digest;
use eval::Tier;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use crate::accounting::RowAccount;
use crate::error::Result;
use crate::format;
use crate::stages::exam::ExamRuns;
use crate::stages::prefer::Preferred;
use crate::stages::promote::PromotionOutcome;
use crate::stages::train::TrainedAdapter;

pub use crate::report::AnswerSample;
pub use crate::runner::StageSummary;
pub use crate::served_chats::DeletedChats;
pub use crate::stages::pair_rows::PairCounts;
pub use crate::stages::prefer::PreferenceChange;
pub use crate::stages::train::Losses;

/// How a night ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The candidate is champion.
    Promoted,
    /// The candidate was refused by the gate, the champion was pinned or replaced meanwhile, or the same adapter had been
    /// rolled back before.
    Refused,
    /// The candidate was promoted, failed the smoke test, and was rolled back.
    RolledBack,
    /// Nothing was trained, because nothing has changed since an earlier night: see [`Summary::since`].
    NothingNew,
}

impl From<&PromotionOutcome> for Outcome {
    fn from(outcome: &PromotionOutcome) -> Self {
        match outcome {
            PromotionOutcome::Promoted => Outcome::Promoted,
            PromotionOutcome::Refused
            | PromotionOutcome::ChampionChanged
            | PromotionOutcome::Pinned
            | PromotionOutcome::FailedBefore => Outcome::Refused,
            PromotionOutcome::RolledBack(_) => Outcome::RolledBack,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Outcome::Promoted => "promoted",
            Outcome::Refused => "refused",
            Outcome::RolledBack => "rolled back",
            Outcome::NothingNew => "nothing new",
        })
    }
}

/// A finished night: outcome, figures and paths.
///
/// Summaries written by other versions can be read: unknown fields are ignored, and fields that are
/// missing or have another form get their default.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Summary {
    /// The night's id.
    #[serde(default)]
    pub night: String,
    /// How the night ended.
    pub outcome: Outcome,
    /// What there is to say about the choice of the model, such as that it is the fallback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The night that this one has nothing new since. Losses, training, scores, verdict and pages are those of that night.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// The rows that the last night on the same model did not have; `None` if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "or_default")]
    pub new_rows: Option<NewRows>,
    /// Digest of the base model.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "or_default")]
    pub base: Option<Digest>,
    /// Digest of all that the verdict depends on; `None` of a partial night, which the next one goes on with.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "or_default")]
    pub inputs: Option<Digest>,
    /// Whether the time budget ended training or an exam before its end.
    #[serde(default)]
    pub partial: bool,
    /// What was done of it then, such as `5 of 12 updates`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "or_default")]
    pub done: Option<String>,
    /// The stages, in order.
    #[serde(default, deserialize_with = "or_default")]
    pub stages: Vec<StageSummary>,
    /// Total duration of the stages.
    pub seconds: f64,
    /// What became of the raw rows.
    #[serde(default, deserialize_with = "or_default")]
    pub rows: RowAccount,
    /// Losses of the training.
    #[serde(default, deserialize_with = "or_default")]
    pub losses: Losses,
    /// Figures of the training.
    #[serde(default, deserialize_with = "or_default")]
    pub training: Training,
    /// What came of the preference phase, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "or_default")]
    pub preference: Option<PreferencePhase>,
    /// Exam scores of base model, candidate and champion.
    pub scores: Scores,
    /// The gate's decision with every rule.
    #[serde(deserialize_with = "verdict")]
    pub verdict: eval::Verdict,
    /// Why the verdict was not carried out, if it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<String>,
    /// The case with the largest gain, of those that are not held out.
    #[serde(default, deserialize_with = "or_default")]
    pub sample: Option<AnswerSample>,
    /// The recorded chats that were deleted because of their age; `None` if they are kept for ever, or could not be
    /// deleted.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "or_default")]
    pub deleted_chats: Option<DeletedChats>,
    /// Paths of the night's files.
    #[serde(default, deserialize_with = "or_default")]
    pub paths: Paths,
}

/// The default for a value that another version wrote in another form.
fn or_default<'de, T, D>(deserializer: D) -> std::result::Result<T, D::Error>
where
    T: DeserializeOwned + Default,
    D: Deserializer<'de>,
{
    let value = Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

/// A verdict; of one that another version wrote in another form, only the reason.
fn verdict<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<eval::Verdict, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let reason_only = json!({
        "decision": "refuse", "reason": value["reason"], "reference": "base", "rules": [], "cases": 0,
        "detectable": null, "tiers": [], "categories": [], "agents": [], "scoring_version": 0,
    });
    let verdict = serde_json::from_value(value).or_else(|_| serde_json::from_value(reason_only));
    verdict.map_err(D::Error::custom)
}

/// The number of rows that the last night on the same model did not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NewRows {
    /// Different rows, after conversion.
    pub rows: u64,
    /// The id of the night that they are new since.
    pub since: String,
}

/// Figures of a training. A figure that was not measured is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Training {
    /// Optimizer updates done.
    pub updates: u64,
    /// Optimizer updates planned by the recipe.
    pub planned_updates: u64,
    /// Processed tokens per second.
    pub processed_per_second: f64,
    /// Trained tokens (with a loss) per second.
    pub trained_per_second: f64,
    /// Peak memory of MLX.
    pub peak_memory_bytes: u64,
    /// Largest resident set of the process.
    pub rss_bytes: u64,
}

impl From<&TrainedAdapter> for Training {
    fn from(trained: &TrainedAdapter) -> Self {
        Self {
            updates: trained.updates,
            planned_updates: trained.planned,
            processed_per_second: trained.processed_per_second(),
            trained_per_second: trained.trained_per_second(),
            peak_memory_bytes: trained.peak_memory_bytes,
            rss_bytes: trained.rss_bytes,
        }
    }
}

/// A preference phase.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct PreferencePhase {
    /// What came of it and what changed for its pairs, in a line each.
    pub lines: Vec<String>,
    /// A warning if the chosen answers have become less likely.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// Optimizer updates done; 0 if the supervised adapter goes on.
    pub updates: u64,
    /// Optimizer updates planned.
    pub planned_updates: u64,
    /// Numbers of pairs.
    pub pairs: PairCounts,
    /// Accuracy, margin and log-probabilities in the first and last updates; `None` without an update.
    pub change: Option<PreferenceChange>,
}

impl From<&Preferred> for PreferencePhase {
    fn from(phase: &Preferred) -> Self {
        Self {
            lines: phase.lines(),
            warning: phase.warning(),
            updates: phase.adapter().map_or(0, |trained| trained.updates),
            planned_updates: phase.planned,
            pairs: phase.pairs,
            change: phase.change,
        }
    }
}

/// The scores of an exam.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Scores {
    /// The model without an adapter.
    pub base: eval::Summary,
    /// The model with the night's adapter.
    pub candidate: eval::Summary,
    /// The model with the champion, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub champion: Option<eval::Summary>,
}

/// Paths of a night's files.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Paths {
    /// The home.
    pub home: PathBuf,
    /// The night's folder.
    pub night: PathBuf,
    /// The report of the night.
    pub report: PathBuf,
    /// The page about all nights.
    pub index: PathBuf,
    /// The candidate's folder in the registry; mlx-lm can load it.
    pub adapter: PathBuf,
    /// The champion's folder after the night; `None` for the base model.
    pub champion: Option<PathBuf>,
}

impl Summary {
    /// The summary in a night's folder; `None` if there is none that can be read.
    pub(crate) fn read(night: &Path) -> Option<Self> {
        let bytes = fs::read(night.join("summary.json")).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// The night in one line, for a notification.
    pub fn line(&self) -> String {
        match &self.note {
            Some(note) => format!("{}; {note}", self.outcome_line()),
            None => self.outcome_line(),
        }
    }

    fn outcome_line(&self) -> String {
        if let Some(since) = &self.since {
            let took = format::duration(self.seconds);
            return format!("night {}: nothing new since night {since}; {took}", self.night);
        }
        let partial = if self.partial { " (partial)" } else { "" };
        let held_out = match self.scores.held_out() {
            Some((base, candidate)) => format!(", held-out {candidate:.2} (base {base:.2})"),
            None => String::new(),
        };
        let Training { updates, planned_updates, .. } = self.training;
        let deleted = match self.deleted_chats {
            Some(DeletedChats { files, chats }) if files > 0 => {
                format!("; {chats} old chats of {files} days deleted")
            }
            _ => String::new(),
        };
        let new_rows = match &self.new_rows {
            Some(new) => format!("; new rows: {}", format::count(new.rows)),
            None => String::new(),
        };
        format!(
            "night {} {}{partial}{held_out}{new_rows}; {updates} of {planned_updates} updates, {}{deleted}",
            self.night,
            self.outcome,
            format::duration(self.seconds),
        )
    }
}

impl Scores {
    pub(crate) fn of(runs: &ExamRuns) -> Result<Self> {
        Ok(Scores {
            base: runs.base.summary()?,
            candidate: runs.candidate.summary()?,
            champion: runs.champion.as_ref().map(|run| run.summary()).transpose()?,
        })
    }

    /// Scores of base model and candidate on the held-out cases, if there are any.
    pub(crate) fn held_out(&self) -> Option<(f64, f64)> {
        let score = |run: &eval::Summary| run.tiers.get(&Tier::HeldOut).map(|mean| mean.score);
        score(&self.base).zip(score(&self.candidate))
    }
}

#[cfg(test)]
pub(crate) use tests::example;

#[cfg(test)]
mod tests {
    use super::*;

    /// A summary of another version: fields are missing, unknown, or have another form.
    pub(crate) fn example() -> Summary {
        let mean = json!({ "score": 0.5, "interval": { "low": 0.4, "high": 0.6 }, "answers": 2 });
        let run = json!({
            "overall": mean, "tiers": {}, "categories": {}, "agents": {}, "failures": {},
            "tokens": 9, "complete": true,
        });
        let text = json!({
            "night": "0001-2026-04-08", "outcome": "rolled_back", "seconds": 278.25,
            "stages": [{ "stage": "a stage of another version" }], "future": 1,
            "scores": { "base": run, "candidate": run },
            "verdict": { "reason": "better", "decision": "promote" },
        });
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn a_summary_of_another_version_can_be_read() {
        let summary = example();
        assert_eq!((summary.outcome, summary.seconds), (Outcome::RolledBack, 278.25));
        assert_eq!((summary.verdict.reason.as_str(), summary.stages.len()), ("better", 0));
        assert_eq!(summary.scores.candidate.overall.score, 0.5);
        assert_eq!((summary.training, summary.standing), (Training::default(), None));
    }
}
