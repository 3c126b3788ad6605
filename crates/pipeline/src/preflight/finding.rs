//! The result of a check.

use std::fmt;

use serde::Serialize;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// No problem.
    Passed,
    /// The night can run, but somebody should look at this.
    Warning,
    /// The night would fail, or its result would be meaningless.
    Failed,
    /// The check could not run, for instance because an earlier one failed: nobody knows whether it would pass.
    NotRun,
    /// There is nothing to check: the configuration has no such part.
    NotNeeded,
}

impl fmt::Display for CheckStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            CheckStatus::Passed => "ok",
            CheckStatus::Warning => "warn",
            CheckStatus::Failed => "FAIL",
            CheckStatus::NotRun => "NOT RUN",
            CheckStatus::NotNeeded => "-",
        })
    }
}

/// Status and explanation of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub status: CheckStatus,
    pub detail: String,
}

impl Finding {
    fn new(status: CheckStatus, detail: impl ToString) -> Self {
        Self { status, detail: detail.to_string() }
    }

    pub fn passed(detail: impl ToString) -> Self {
        Self::new(CheckStatus::Passed, detail)
    }

    pub fn warning(detail: impl ToString) -> Self {
        Self::new(CheckStatus::Warning, detail)
    }

    pub fn failed(detail: impl ToString) -> Self {
        Self::new(CheckStatus::Failed, detail)
    }

    pub fn not_run(detail: impl ToString) -> Self {
        Self::new(CheckStatus::NotRun, detail)
    }

    pub fn not_needed(detail: impl ToString) -> Self {
        Self::new(CheckStatus::NotNeeded, detail)
    }

    /// Passed if there are no problems, else failed with the first and the number of the others.
    pub fn of(problems: &[String], passed: impl ToString) -> Self {
        match problems {
            [] => Self::passed(passed),
            [one] => Self::failed(one),
            [first, rest @ ..] => Self::failed(format!("{first} (and {} more)", rest.len())),
        }
    }
}
