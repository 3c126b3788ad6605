use std::fmt;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;

/// What a group of checks is about. The first seven are the seed's own, with its 21 checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Suite {
    /// Raw rows to clean ones.
    #[serde(rename = "Data Conversion")]
    DataConversion,
    /// Clean rows to a training set.
    Enrichment,
    /// The recipe.
    #[serde(rename = "Training Config")]
    TrainingConfig,
    /// The base model's files.
    #[serde(rename = "Model Availability")]
    ModelAvailability,
    /// Two iterations.
    #[serde(rename = "Training Runs")]
    TrainingRuns,
    /// The night's own file.
    #[serde(rename = "Pipeline Config")]
    PipelineConfig,
    /// The exam's file.
    Benchmark,
    /// The machine, now.
    Machine,
    /// The night as it would be.
    Tonight,
}

impl Suite {
    /// Whether it is one of the seed's seven.
    pub fn is_of_the_seed(self) -> bool {
        !matches!(self, Suite::Machine | Suite::Tonight)
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Suite::DataConversion => "Data Conversion",
            Suite::Enrichment => "Enrichment",
            Suite::TrainingConfig => "Training Config",
            Suite::ModelAvailability => "Model Availability",
            Suite::TrainingRuns => "Training Runs",
            Suite::PipelineConfig => "Pipeline Config",
            Suite::Benchmark => "Benchmark",
            Suite::Machine => "Machine",
            Suite::Tonight => "Tonight",
        })
    }
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// All is well.
    Passed,
    /// The night would run, but somebody should look.
    Warning,
    /// The night would fail, or its result mean nothing.
    Failed,
    /// There was nothing to look at: another check failed, or the file has no such thing.
    Skipped,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Status::Passed => "ok",
            Status::Warning => "warn",
            Status::Failed => "FAIL",
            Status::Skipped => "skip",
        })
    }
}

/// What a check came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub status: Status,
    pub detail: String,
}

impl Finding {
    pub fn passed(detail: impl ToString) -> Self {
        Self { status: Status::Passed, detail: detail.to_string() }
    }

    pub fn warning(detail: impl ToString) -> Self {
        Self { status: Status::Warning, detail: detail.to_string() }
    }

    pub fn failed(detail: impl ToString) -> Self {
        Self { status: Status::Failed, detail: detail.to_string() }
    }

    pub fn skipped(detail: impl ToString) -> Self {
        Self { status: Status::Skipped, detail: detail.to_string() }
    }

    /// Failed with the first problem and how many there are, or passed.
    pub fn of(problems: &[String], passed: impl ToString) -> Self {
        match problems {
            [] => Self::passed(passed),
            [one] => Self::failed(one),
            [first, rest @ ..] => Self::failed(format!("{first} (and {} more)", rest.len())),
        }
    }
}

/// One line of a preflight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// The group.
    pub suite: Suite,
    /// The check, under the name that the seed gave it if it is the seed's.
    pub check: &'static str,
    /// How it ended.
    pub status: Status,
    /// What was found, or expected and found.
    pub detail: String,
}

/// All of a preflight.
#[derive(Debug, Clone, Serialize)]
pub struct PreflightReport {
    /// The preflight in one line, for a notification.
    pub line: String,
    /// Whether no check failed.
    pub ok: bool,
    /// How many of the seed's checks passed.
    pub seed_passed: usize,
    /// How many there are: 21.
    pub seed_checks: usize,
    /// When it was made.
    pub at: Timestamp,
    /// The night's file.
    pub config: PathBuf,
    /// The model that the night would train.
    pub model: String,
    /// How long it took.
    pub seconds: f64,
    /// Every check.
    pub checks: Vec<Checked>,
}

impl PreflightReport {
    pub(super) fn new(config: PathBuf, model: String, seconds: f64, checks: Vec<Checked>) -> Self {
        let seed: Vec<_> = checks.iter().filter(|c| c.suite.is_of_the_seed()).collect();
        let sound = |c: &&&Checked| matches!(c.status, Status::Passed | Status::Warning);
        let (seed_passed, seed_checks) = (seed.iter().filter(sound).count(), seed.len());
        let count = |status| checks.iter().filter(|check| check.status == status).count();
        let first = checks.iter().find(|check| check.status == Status::Failed);
        let mut line =
            format!("preflight {model}: {seed_passed}/{seed_checks} of the seed's checks");
        for (count, word) in
            [(count(Status::Failed), "failed"), (count(Status::Warning), "to look at")]
        {
            if count > 0 {
                line += &format!(", {count} {word}");
            }
        }
        if let Some(first) = first {
            line += &format!("; {}: {}", first.check, first.detail);
        }
        let ok = first.is_none();
        Self {
            line,
            ok,
            seed_passed,
            seed_checks,
            at: Timestamp::now(),
            config,
            model,
            seconds,
            checks,
        }
    }
}
