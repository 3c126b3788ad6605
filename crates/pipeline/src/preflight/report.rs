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
    pub check: String,
    /// How it ended.
    pub status: CheckStatus,
    /// What was found, or what was expected and found.
    pub detail: String,
}

/// The results of all checks. Those that are not needed are in none of the numbers but `seed_checks`.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct PreflightReport {
    /// The report in one line, with what was found by the first check that failed or did not run.
    pub line: String,
    /// Whether every check that the night needs has run, and none failed.
    pub ok: bool,
    /// Number of checks that passed.
    pub passed: usize,
    /// Number of checks that passed, but that somebody should look at.
    pub warnings: usize,
    /// Number of checks that failed.
    pub failed: usize,
    /// Number of checks that the night needs and that did not run.
    pub not_run: usize,
    /// Number of the seed's checks that passed, without warnings.
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
        let count = |status| checks.iter().filter(|check| check.status == status).count();
        let (failed, not_run) = (count(CheckStatus::Failed), count(CheckStatus::NotRun));
        let seed: Vec<_> = checks.iter().filter(|c| c.group.is_of_the_seed()).collect();
        let passed = seed.iter().filter(|check| check.status == CheckStatus::Passed).count();
        let mut report = Self {
            line: String::new(),
            ok: failed + not_run == 0,
            passed: count(CheckStatus::Passed),
            warnings: count(CheckStatus::Warning),
            failed,
            not_run,
            seed_passed: passed,
            seed_checks: seed.len(),
            at: Timestamp::now(),
            config,
            model,
            seconds,
            checks,
        };
        let open = |status| report.checks.iter().find(|check| check.status == status);
        let first = open(CheckStatus::Failed).or_else(|| open(CheckStatus::NotRun));
        let detail =
            first.map_or(String::new(), |first| format!("; {}: {}", first.check, first.detail));
        report.line = report.names() + &detail;
        report
    }

    /// The numbers, and the names of the checks that did not pass, in one line: without what they found, which may
    /// quote a row.
    pub(crate) fn names(&self) -> String {
        let Self { model, seed_passed, seed_checks, .. } = self;
        let mut line =
            format!("preflight {model}: {seed_passed}/{seed_checks} of the seed's checks passed");
        for (status, what) in [
            (CheckStatus::Failed, "failed"),
            (CheckStatus::NotRun, "not run"),
            (CheckStatus::Warning, "to look at"),
        ] {
            let named = self.checks.iter().filter(|check| check.status == status);
            let names: Vec<_> = named.map(|check| check.check.as_str()).collect();
            if !names.is_empty() {
                line += &format!("; {} {what}: {}", names.len(), names.join(", "));
            }
        }
        line
    }
}
