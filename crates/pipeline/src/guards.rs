//! What a night may use up, looked at while it works.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lora_train::Bytes;
use rustix::time::{ClockId, clock_gettime};

use crate::config::{Budgets, Span};
use crate::error::{Error, Result, io_error};
use crate::report::words;
use crate::stage::StageName;

/// The budgets of a night that is under way.
#[derive(Debug, Clone)]
pub(crate) struct Guards {
    deadline: Deadline,
    ceiling: Option<Bytes>,
    spare: Bytes,
    home: PathBuf,
}

/// Why training stops before its end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Time is up.
    Deadline,
    /// Memory or disk is.
    Full(Error),
}

impl Guards {
    /// The budgets, counted from now on, for work below `home`.
    pub fn new(budgets: &Budgets, home: &Path) -> Self {
        Self {
            deadline: Deadline::after(budgets.wall_clock),
            ceiling: budgets.memory,
            spare: budgets.disk,
            home: home.to_path_buf(),
        }
    }

    /// Refuses to begin a stage that would have to be cut short at once.
    pub fn allow(&self, stage: StageName) -> Result<()> {
        if stage.is_timed() && self.deadline.has_passed() {
            return Err(self.out_of_time(stage));
        }
        self.disk()
    }

    /// Whether training has to stop, its process using so many bytes.
    pub fn stop(&self, used: u64) -> Option<Stop> {
        if let Some(ceiling) = self.ceiling.filter(|ceiling| used > ceiling.0) {
            let (used, ceiling) = (words::bytes(used), words::bytes(ceiling.0));
            let why = format!("{used} used, {ceiling} allowed by `budgets.memory`");
            return Some(Stop::Full(Error::OutOfMemory { why }));
        }
        match self.disk() {
            Err(full) => Some(Stop::Full(full)),
            Ok(()) => self.deadline.has_passed().then_some(Stop::Deadline),
        }
    }

    /// The error of a stage that has nothing to show when its time is up.
    pub fn out_of_time(&self, stage: StageName) -> Error {
        Error::BudgetSpent { stage, budget: self.deadline.budget.to_string() }
    }

    /// The space that the disk has to keep is there.
    fn disk(&self) -> Result<()> {
        let free = free_space(&self.home)?;
        match free >= self.spare.0 {
            true => Ok(()),
            false => Err(Error::DiskFull {
                path: self.home.clone(),
                free: Bytes(free),
                spare: self.spare,
            }),
        }
    }
}

/// Bytes that this user may still write to the disk of `path`.
pub(crate) fn free_space(path: &Path) -> Result<u64> {
    let disk =
        rustix::fs::statvfs(path).map_err(|e| io_error(path, "measure the disk of")(e.into()))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// When a process has to stop training, and the budget that says so.
#[derive(Debug, Clone, Copy)]
struct Deadline {
    /// On the clock of [`uptime`]; a budget too long to count has none.
    at: Option<Duration>,
    budget: Span,
}

impl Deadline {
    fn after(budget: Span) -> Self {
        Self { at: uptime().checked_add(budget.0), budget }
    }

    fn has_passed(&self) -> bool {
        self.at.is_some_and(|at| uptime() >= at)
    }
}

/// Time since the machine started. Neither midnight nor summer time nor a corrected clock moves it,
/// and unlike [`Instant`](std::time::Instant) it goes on while the machine sleeps.
fn uptime() -> Duration {
    let now = clock_gettime(CLOCK);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::Monotonic;

#[cfg(test)]
mod tests {
    use super::*;

    fn guards(budgets: Budgets) -> Guards {
        Guards::new(&budgets, &std::env::temp_dir())
    }

    #[test]
    fn a_passed_deadline_stops_what_is_timed_and_nothing_else() {
        let spent = guards(Budgets { wall_clock: Span(Duration::ZERO), ..Budgets::default() });
        assert!(matches!(spent.stop(0), Some(Stop::Deadline)));
        for stage in StageName::ALL {
            let timed = matches!(stage, StageName::Convert | StageName::Enrich | StageName::Train);
            assert_eq!(spent.allow(stage).is_err(), timed, "{stage}");
        }
        let ample = guards(Budgets { wall_clock: Span(Duration::MAX), ..Budgets::default() });
        assert!(ample.stop(0).is_none());
    }

    #[test]
    fn memory_above_the_ceiling_stops() {
        let guards = guards(Budgets { memory: Some(Bytes(1_000)), ..Budgets::default() });
        assert!(guards.stop(1_000).is_none());
        let Some(Stop::Full(error)) = guards.stop(1_001) else { panic!("no stop") };
        assert!(error.is_out_of_memory(), "{error}");
    }

    #[test]
    fn a_disk_without_room_to_spare_begins_nothing() {
        let guards = guards(Budgets { disk: Bytes(u64::MAX), ..Budgets::default() });
        let error = guards.allow(StageName::Report).unwrap_err();
        assert_eq!(error.exit_code(), 3, "{error}");
        assert!(matches!(guards.stop(0), Some(Stop::Full(_))));
    }
}
