//! The rows that are left out of a data set, each with its reason.

use std::fmt;

use chat_format::clean::SOURCE_ROW;
use chat_format::{Conversation, Role};
use serde::Serialize;

use crate::duplicates::Duplicate;
use crate::leaks::{Leak, Measure};

/// A row that is left out: a line of `left-out.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LeftOut {
    /// Where it is from: file and line, or for a generated row what it teaches.
    pub row: String,
    /// Whether the row was generated, by a recipe or by the base model (replay).
    pub made: bool,
    /// Why it is left out.
    #[serde(flatten)]
    pub reason: Reason,
    /// The beginning of its first question.
    pub question: String,
}

/// Why a row is left out.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// Its turns are equal to those of an earlier row, which is kept.
    DuplicateOf {
        /// The earlier row.
        of: String,
    },
    /// It is too similar to an earlier row, which is kept.
    NearDuplicateOf {
        /// The earlier row.
        of: String,
        /// Their similarity, between 0 and 1.
        likeness: f64,
    },
    /// It is too similar to an exam question, or contains one.
    LeakOf {
        /// The exam.
        suite: String,
        /// Its case.
        case: String,
        /// How the row was found.
        by: Measure,
        /// The value of the measure, between 0 and 1.
        likeness: f64,
    },
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.row)?;
        match &self.reason {
            Reason::DuplicateOf { of } => write!(f, "equal to {of}"),
            Reason::NearDuplicateOf { of, likeness } => {
                write!(f, "similar to {of} ({likeness:.2})")
            }
            Reason::LeakOf { suite, case, by, likeness } => {
                write!(f, "similar to case {case} of {suite} in {by} ({likeness:.2})")
            }
        }
    }
}

/// Where a row was read, for those that do not say it themselves.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The file's name.
    pub file: std::sync::Arc<str>,
    /// The line, from 1.
    pub line: u64,
}

/// Lists the rows that are duplicates or leaks, ascending, each once; a leak that is also a duplicate is listed as a leak.
/// `places` are those of the rows read, which come before the generated ones.
pub(crate) fn list(
    rows: &[Conversation],
    places: &[Place],
    duplicates: &[Duplicate],
    leaks: &[Leak],
) -> Vec<(usize, LeftOut)> {
    let name = |row: usize| name(&rows[row], places.get(row));
    let mut reasons = std::collections::BTreeMap::new();
    for Duplicate { row, of, likeness } in duplicates {
        let (of, likeness) = (name(*of), *likeness);
        let reason = match likeness {
            1.0 => Reason::DuplicateOf { of },
            _ => Reason::NearDuplicateOf { of, likeness },
        };
        reasons.insert(*row, reason);
    }
    for Leak { row, suite, case, by, likeness } in leaks {
        let (suite, case, by, likeness) = (suite.clone(), case.clone(), *by, *likeness);
        reasons.insert(*row, Reason::LeakOf { suite, case, by, likeness });
    }
    let left_out = |(row, reason): (usize, Reason)| {
        let question = question(&rows[row]);
        (row, LeftOut { row: name(row), made: row >= places.len(), reason, question })
    };
    reasons.into_iter().map(left_out).collect()
}

/// The name of a row of a data set: where it is from, or for a generated row what it teaches.
pub fn row_name(row: &Conversation) -> String {
    name(row, None)
}

/// The name of a row, with its place if it does not name it.
pub(crate) fn name(row: &Conversation, place: Option<&Place>) -> String {
    let meta = |key: &str| row.meta.get(key).and_then(|value| value.as_str());
    match (meta(SOURCE_ROW), place) {
        (Some(source), _) => source.to_owned(),
        (None, Some(Place { file, line })) => format!("{file}:{line}"),
        (None, None) => {
            let parts = [meta("kind"), meta("agent"), meta("technique"), meta("item")];
            format!("made: {}", parts.into_iter().flatten().collect::<Vec<_>>().join(" "))
        }
    }
}

/// The first hundred characters of a row's first question.
fn question(row: &Conversation) -> String {
    let asked = row.messages.iter().find(|message| message.role == Role::User);
    asked.map_or(String::new(), |message| message.content.chars().take(100).collect())
}
