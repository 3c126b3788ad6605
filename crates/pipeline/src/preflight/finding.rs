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
    /// Nothing to check: an earlier check failed, or the configuration has no such part.
    Skipped,
}

impl fmt::Display for CheckStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            CheckStatus::Passed => "ok",
            CheckStatus::Warning => "warn",
            CheckStatus::Failed => "FAIL",
            CheckStatus::Skipped => "skip",
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
    pub fn passed(detail: impl ToString) -> Self {
        Self { status: CheckStatus::Passed, detail: detail.to_string() }
    }

    pub fn warning(detail: impl ToString) -> Self {
        Self { status: CheckStatus::Warning, detail: detail.to_string() }
    }

    pub fn failed(detail: impl ToString) -> Self {
        Self { status: CheckStatus::Failed, detail: detail.to_string() }
    }

    pub fn skipped(detail: impl ToString) -> Self {
        Self { status: CheckStatus::Skipped, detail: detail.to_string() }
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
