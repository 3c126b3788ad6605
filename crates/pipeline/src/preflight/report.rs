//! The report of a preflight.

use std::fmt;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;

use super::finding::CheckStatus;

/// A group of checks. The first seven, with 21 checks, come from the original pipeline ("the seed").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum CheckGroup {
    /// Cleaning of the raw rows.
    #[serde(rename = "Data Conversion")]
    DataConversion,
    /// Building of the training set.
    Enrichment,
    /// The training recipe.
    #[serde(rename = "Training Config")]
    TrainingConfig,
    /// The base model's files.
    #[serde(rename = "Model Availability")]
    ModelAvailability,
    /// Two training iterations.
    #[serde(rename = "Training Runs")]
    TrainingRuns,
    /// The night's configuration.
    #[serde(rename = "Pipeline Config")]
    PipelineConfig,
    /// The suite of the exam.
    Benchmark,
    /// The machine.
    Machine,
    /// Whether tonight's night can give a useful result.
    Tonight,
}

impl CheckGroup {
    /// Whether the group is one of the seed's seven.
    pub fn is_of_the_seed(self) -> bool {
        !matches!(self, CheckGroup::Machine | CheckGroup::Tonight)
    }
}

impl fmt::Display for CheckGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            CheckGroup::DataConversion => "Data Conversion",
            CheckGroup::Enrichment => "Enrichment",
            CheckGroup::TrainingConfig => "Training Config",
            CheckGroup::ModelAvailability => "Model Availability",
            CheckGroup::TrainingRuns => "Training Runs",
            CheckGroup::PipelineConfig => "Pipeline Config",
            CheckGroup::Benchmark => "Benchmark",
            CheckGroup::Machine => "Machine",
            CheckGroup::Tonight => "Tonight",
        })
    }
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PreflightCheck {
    /// The group of the check.
    #[serde(rename = "suite")]
    pub group: CheckGroup,
    /// The name of the check.
    pub check: &'static str,
    /// How it ended.
    pub status: CheckStatus,
    /// What was found, or what was expected and found.
    pub detail: String,
}

/// The results of all checks.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct PreflightReport {
    /// The report in one line, for a notification.
    pub line: String,
    /// Whether no check failed.
    pub ok: bool,
    /// Number of the seed's checks that passed, including warnings.
    pub seed_passed: usize,
    /// Number of the seed's checks: 21.
    pub seed_checks: usize,
    /// Time of the report.
    pub at: Timestamp,
    /// The configuration file.
    pub config: PathBuf,
    /// The model that the night would train.
    pub model: String,
    /// Duration of the preflight.
    pub seconds: f64,
    /// All checks, in order.
    pub checks: Vec<PreflightCheck>,
}

impl PreflightReport {
    pub(super) fn new(
        config: PathBuf,
        model: String,
        seconds: f64,
        checks: Vec<PreflightCheck>,
    ) -> Self {
        let seed: Vec<_> = checks.iter().filter(|c| c.group.is_of_the_seed()).collect();
        let passed =
            |c: &&&PreflightCheck| matches!(c.status, CheckStatus::Passed | CheckStatus::Warning);
        let (seed_passed, seed_checks) = (seed.iter().filter(passed).count(), seed.len());
        let count = |status| checks.iter().filter(|check| check.status == status).count();
        let first = checks.iter().find(|check| check.status == CheckStatus::Failed);
        let mut line =
            format!("preflight {model}: {seed_passed}/{seed_checks} of the seed's checks");
        for (count, word) in
            [(count(CheckStatus::Failed), "failed"), (count(CheckStatus::Warning), "to look at")]
        {
            if count > 0 {
                line += &format!(", {count} {word}");
            }
        }
        if let Some(first) = first {
            line += &format!("; {}: {}", first.check, first.detail);
        }
        let (ok, at) = (first.is_none(), Timestamp::now());
        Self { line, ok, seed_passed, seed_checks, at, config, model, seconds, checks }
    }
}
