use std::path::Path;

use crate::stage::StageName;

/// Something worth showing while a night runs.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The night begins, or goes on after an interruption.
    NightBegun {
        /// The night's id.
        night: &'a str,
        /// Whether an earlier process began it.
        resumed: bool,
        /// The night's folder.
        dir: &'a Path,
    },
    /// A stage starts to work; its journal entry is already on disk.
    StageBegun {
        /// The stage.
        stage: StageName,
    },
    /// A stage had finished earlier on the same input; its result is used as it is.
    StageSkipped {
        /// The stage.
        stage: StageName,
        /// One line about the result.
        figures: &'a str,
    },
    /// A stage got further.
    Progress {
        /// The stage.
        stage: StageName,
        /// Units done.
        done: u64,
        /// Units in all; 0 when not known.
        total: u64,
        /// What is going on, in a few words.
        note: &'a str,
    },
    /// A stage's result is on disk and in the journal.
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
    /// Called for every event; it should return soon.
    fn event(&mut self, event: Event<'_>);
}

impl<F: FnMut(Event<'_>)> Observer for F {
    fn event(&mut self, event: Event<'_>) {
        self(event);
    }
}
