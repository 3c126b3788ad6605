//! What a finished night tells programs, the terminal, the index and whoever is notified.

use std::fmt;
use std::path::{Path, PathBuf};

use eval::Tier;
use serde::Serialize;

use crate::error::Result;
use crate::home::Home;
use crate::registry::Registry;
use crate::report::{Sample, words};
use crate::runner::StageSummary;
use crate::stages::exam::Runs;
use crate::stages::promote::Standing;
use crate::stages::train::{Losses, Trained};

/// How a night ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The candidate is champion.
    Promoted,
    /// The candidate did not get past the gate, or its champion was pinned or replaced meanwhile.
    Refused,
    /// The candidate was promoted, failed the smoke test, and its predecessor serves again.
    RolledBack,
}

impl From<&Standing> for Outcome {
    fn from(standing: &Standing) -> Self {
        match standing {
            Standing::Promoted => Outcome::Promoted,
            Standing::Refused | Standing::Overtaken | Standing::Pinned => Outcome::Refused,
            Standing::RolledBack(_) => Outcome::RolledBack,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Outcome::Promoted => "promoted",
            Outcome::Refused => "refused",
            Outcome::RolledBack => "rolled back",
        })
    }
}

/// A finished night, for programs and for the terminal.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// The night's id.
    pub night: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether the wall-clock budget ended the training before its last update.
    pub partial: bool,
    /// Every stage.
    pub stages: Vec<StageSummary>,
    /// Seconds of all stages.
    pub seconds: f64,
    /// How the training went.
    pub losses: Losses,
    /// What the training took.
    pub training: Training,
    /// How all who sat the exam scored.
    pub scores: Scores,
    /// The gate's decision with every rule.
    pub verdict: eval::Verdict,
    /// What came of it, where that is not what the verdict says: the champion was pinned or replaced,
    /// or the new one was rolled back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standing: Option<String>,
    /// The case that gained most, before and after.
    pub sample: Option<Sample>,
    /// Where things are.
    pub paths: Paths,
}

/// What a training took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Training {
    /// Optimizer updates made.
    pub updates: u64,
    /// Optimizer updates that the recipe asks for.
    pub planned_updates: u64,
    /// Tokens per second through the model.
    pub processed_per_second: f64,
    /// Scored tokens per second.
    pub trained_per_second: f64,
    /// The most that MLX held at once.
    pub peak_memory_bytes: u64,
    /// The most that the process had resident.
    pub rss_bytes: u64,
}

impl From<&Trained> for Training {
    fn from(trained: &Trained) -> Self {
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

/// The scores of an exam.
#[derive(Debug, Clone, Serialize)]
pub struct Scores {
    /// The model without an adapter.
    pub base: eval::Summary,
    /// The model with the night's adapter.
    pub candidate: eval::Summary,
    /// The model with the adapter that served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub champion: Option<eval::Summary>,
}

/// Where a night's files are.
#[derive(Debug, Clone, Serialize)]
pub struct Paths {
    /// The home.
    pub home: PathBuf,
    /// The night's folder.
    pub night: PathBuf,
    /// The page about the night.
    pub report: PathBuf,
    /// The page about all nights.
    pub index: PathBuf,
    /// The candidate, content-addressed; mlx-lm loads it as it is.
    pub adapter: PathBuf,
    /// The adapter that serves from now on; none for the base model.
    pub champion: Option<PathBuf>,
}

impl Summary {
    /// The night in one line, for a notification.
    pub fn line(&self) -> String {
        let partial = if self.partial { " (partial)" } else { "" };
        let tier = |run: &eval::Summary| run.tiers.get(&Tier::HeldOut).map(|mean| mean.score);
        let held_out = match (tier(&self.scores.base), tier(&self.scores.candidate)) {
            (Some(base), Some(candidate)) => {
                format!(", held-out {candidate:.2} (base {base:.2})")
            }
            _ => String::new(),
        };
        let Training { updates, planned_updates, .. } = self.training;
        format!(
            "night {} {}{partial}{held_out}; {updates} of {planned_updates} updates, {}",
            self.night,
            self.outcome,
            words::duration(self.seconds),
        )
    }
}

impl Scores {
    pub(crate) fn of(runs: &Runs) -> Result<Self> {
        Ok(Scores {
            base: runs.base.summary()?,
            candidate: runs.candidate.summary()?,
            champion: runs.champion.as_ref().map(|run| run.summary()).transpose()?,
        })
    }
}

impl Paths {
    pub(crate) fn of(
        home: &Home,
        night: &Path,
        registry: &Registry,
        trained: &Trained,
        report: &Path,
    ) -> Result<Self> {
        Ok(Paths {
            home: home.path().to_path_buf(),
            night: night.to_path_buf(),
            report: night.join(report),
            index: home.index(),
            adapter: registry.folder(trained.adapter),
            champion: registry.state()?.champion.map(|adapter| registry.folder(adapter)),
        })
    }
}
