//! Callbacks of a running training.

use std::ops::ControlFlow;
use std::path::Path;

use crate::metrics::Record;

/// What happened since the last call.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// A record was appended to `metrics.jsonl`: the plan of the run, an update or a validation.
    Recorded(&'a Record),
    /// A checkpoint was written.
    Saved {
        /// Updates made so far.
        step: u64,
        /// The checkpoint.
        path: &'a Path,
    },
    /// An update was skipped because its loss or gradient was not finite.
    Skipped {
        /// The update, counted from 1.
        step: u64,
        /// The file with the numbers of its rows.
        report: &'a Path,
    },
}

/// Follows a run and can stop it. Closures of this signature are observers; `()` does nothing.
pub trait Observer {
    /// Called between updates. On [`ControlFlow::Break`] the run writes a checkpoint and returns.
    fn observe(&mut self, progress: Progress<'_>) -> ControlFlow<()>;
}

impl<F: FnMut(Progress<'_>) -> ControlFlow<()>> Observer for F {
    fn observe(&mut self, progress: Progress<'_>) -> ControlFlow<()> {
        self(progress)
    }
}

impl Observer for () {
    fn observe(&mut self, _: Progress<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}
