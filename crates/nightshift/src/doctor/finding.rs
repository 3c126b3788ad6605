//! One finding.

use serde::Serialize;

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// As it should be.
    Good,
    /// It works, but could be better.
    Advice,
    /// A night would fail, or would not start.
    Problem,
    /// It could not be found out.
    Unknown,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            State::Good => "ok",
            State::Advice => "advice",
            State::Problem => "PROBLEM",
            State::Unknown => "unknown",
        }
    }
}

/// What was found about one thing.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    pub about: &'static str,
    pub state: State,
    pub found: String,
    /// What to do, if there is something to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    pub fn good(about: &'static str, found: impl ToString) -> Self {
        Self { about, state: State::Good, found: found.to_string(), remedy: None }
    }

    pub fn unknown(about: &'static str, found: impl ToString) -> Self {
        Self { about, state: State::Unknown, found: found.to_string(), remedy: None }
    }

    pub fn advice(about: &'static str, found: impl ToString, remedy: impl ToString) -> Self {
        let remedy = Some(remedy.to_string());
        Self { about, state: State::Advice, found: found.to_string(), remedy }
    }

    pub fn problem(about: &'static str, found: impl ToString, remedy: impl ToString) -> Self {
        let remedy = Some(remedy.to_string());
        Self { about, state: State::Problem, found: found.to_string(), remedy }
    }
}
