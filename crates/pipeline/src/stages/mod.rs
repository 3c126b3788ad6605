//! The stages of a night, one file each. [`StageName`] lists them in order;
//! [`Night`](crate::Night) and [`evaluation`] run them.

pub(crate) mod convert;
pub(crate) mod enrich;
pub(crate) mod evaluation;
pub(crate) mod exam;
pub(crate) mod fresh_exam;
pub(crate) mod gate;
pub(crate) mod pair_rows;
pub(crate) mod prefer;
pub(crate) mod promote;
pub(crate) mod report;
mod smoke_test;
pub(crate) mod train;
pub(crate) mod training;
pub(crate) mod training_rows;
pub(crate) mod training_run;

use std::fmt;

use serde::{Deserialize, Serialize};

/// The stages of a night, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StageName {
    /// Cleans the raw rows into conversations.
    Convert,
    /// Builds the training set: adds refusals, identity and routing rows, splits.
    Enrich,
    /// Trains a LoRA adapter on the training set.
    Train,
    /// Trains the adapter further on preference pairs, if the night's file asks for it.
    Prefer,
    /// Base model, candidate and champion answer the suite.
    Exam,
    /// They answer an exam made for this night, if the candidate passes the first one.
    FreshExam,
    /// Decides whether the candidate may replace the champion.
    Gate,
    /// Carries the decision out in the registry.
    Promote,
    /// Writes the HTML report of the night.
    Report,
}

impl StageName {
    /// All stages, in order.
    pub const ALL: [Self; 9] = [
        Self::Convert,
        Self::Enrich,
        Self::Train,
        Self::Prefer,
        Self::Exam,
        Self::FreshExam,
        Self::Gate,
        Self::Promote,
        Self::Report,
    ];

    /// The stage's name in journals, folders and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Convert => "convert",
            Self::Enrich => "enrich",
            Self::Train => "train",
            Self::Prefer => "prefer",
            Self::Exam => "exam",
            Self::FreshExam => "fresh_exam",
            Self::Gate => "gate",
            Self::Promote => "promote",
            Self::Report => "report",
        }
    }

    /// Whether a spent time budget keeps the stage from starting. Training then ends at its last checkpoint, if there is
    /// one, and the stages after it always run, so that a night with an adapter ends with a verdict.
    pub(crate) fn is_timed(self) -> bool {
        matches!(self, Self::Convert | Self::Enrich)
    }
}

impl fmt::Display for StageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
