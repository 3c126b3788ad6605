//! What a run tells those who watch it.

use std::ops::ControlFlow;
use std::path::Path;

use crate::metrics::Record;

/// Something happened.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// A line of `metrics.jsonl`: the plan of the run, an update, a validation.
    Recorded(&'a Record),
    /// A checkpoint is on disk.
    Saved {
        /// Updates made so far.
        step: u64,
        /// The file.
        path: &'a Path,
    },
    /// An update was left out because its loss or gradient was not finite.
    Skipped {
        /// The update.
        step: u64,
        /// The file that names its rows.
        report: &'a Path,
    },
}

/// Watches a run, and may end it.
pub trait Observer {
    /// Called between updates. After [`ControlFlow::Break`] the run writes a checkpoint and returns.
    fn observe(&mut self, progress: Progress<'_>) -> ControlFlow<()>;
}

impl<F: FnMut(Progress<'_>) -> ControlFlow<()>> Observer for F {
    fn observe(&mut self, progress: Progress<'_>) -> ControlFlow<()> {
        self(progress)
    }
}

/// Nobody watches.
impl Observer for () {
    fn observe(&mut self, _: Progress<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}
