//! Events of a running night, for progress bars and logs.

use std::path::Path;

use crate::stages::StageName;

/// An event of a running night.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The night begins, or resumes after an interruption.
    NightBegun {
        /// The night's id.
        night: &'a str,
        /// Whether an earlier process began it.
        resumed: bool,
        /// The night's folder.
        dir: &'a Path,
    },
    /// A stage starts; its journal entry is already on disk.
    StageBegun {
        /// The stage.
        stage: StageName,
    },
    /// A stage had finished before on the same input; its stored result is reused.
    StageSkipped {
        /// The stage.
        stage: StageName,
        /// One line about the result.
        figures: &'a str,
    },
    /// A stage made progress.
    Progress {
        /// The stage.
        stage: StageName,
        /// Units done.
        done: u64,
        /// Units in all; 0 if unknown.
        total: u64,
        /// The current activity, in a few words.
        note: &'a str,
    },
    /// A stage finished; its result is on disk and in the journal.
    StageFinished {
        /// The stage.
        stage: StageName,
        /// How long it took.
        seconds: f64,
        /// One line about the result.
        figures: &'a str,
    },
}

/// Receives a night's events, in order, on the thread that runs the night.
pub trait Observer {
    /// Called for every event. The night waits until it returns.
    fn event(&mut self, event: Event<'_>);
}

impl<F: FnMut(Event<'_>)> Observer for F {
    fn event(&mut self, event: Event<'_>) {
        self(event);
    }
}
