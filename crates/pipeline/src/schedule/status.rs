//! Whether a schedule is installed and loaded.

use std::path::Path;

use super::{JobStatus, Manager, Schedule};
use crate::error::Result;

/// The state of a schedule's jobs and files.
#[derive(Debug)]
#[non_exhaustive]
pub struct ScheduleStatus {
    /// The state of each job in the system.
    pub jobs: Vec<JobStatus>,
    /// Names of the files that are missing or differ from those that `install` writes.
    pub stale: Vec<String>,
}

impl ScheduleStatus {
    /// Asks the system for its jobs, and compares the files in `folder` with those of `schedule`.
    ///
    /// # Errors
    /// The system's program fails.
    pub fn read(schedule: &Schedule, manager: &mut Manager<'_>, folder: &Path) -> Result<Self> {
        let jobs = manager.status()?;
        let files = schedule.files(manager.system())?.into_iter();
        let same = |name: &str, text: &str| {
            std::fs::read_to_string(folder.join(name)).is_ok_and(|found| found == text)
        };
        let stale = files.filter(|file| !same(&file.name, &file.text)).map(|file| file.name);
        Ok(Self { jobs, stale: stale.collect() })
    }
}
