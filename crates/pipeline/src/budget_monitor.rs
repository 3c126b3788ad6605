//! Checks the night's budgets (time, memory, disk) while it runs, and whether it should stop.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lora_train::Bytes;
use rustix::time::{ClockId, clock_gettime};

use crate::config::{Budgets, Span};
use crate::error::{Error, Result, io_error};
use crate::format;
use crate::interrupt::Interrupt;
use crate::stages::StageName;

/// The budgets of a running night.
#[derive(Debug, Clone)]
pub(crate) struct BudgetMonitor {
    wall_clock: Span,
    /// When the wall-clock budget is spent, on the clock of [`uptime`]; `None` if it overflows that.
    deadline: Option<Duration>,
    memory_limit: Option<Bytes>,
    min_free_disk: Bytes,
    home: PathBuf,
    interrupt: Interrupt,
}

/// Why training stops before its last update.
#[derive(Debug)]
pub(crate) enum StopReason {
    /// The wall-clock budget is spent.
    Deadline,
    /// Memory or disk is exhausted, or a signal asked to stop.
    Exhausted(Error),
}

impl BudgetMonitor {
    /// Starts the clock of `budgets` for work below `home`.
    pub fn new(budgets: &Budgets, home: &Path) -> Self {
        Self {
            wall_clock: budgets.wall_clock,
            deadline: uptime().checked_add(budgets.wall_clock.0),
            memory_limit: budgets.memory,
            min_free_disk: budgets.disk,
            home: home.to_path_buf(),
            interrupt: Interrupt::default(),
        }
    }

    /// The same budgets, and a request to stop.
    pub fn interrupted_by(self, interrupt: Interrupt) -> Self {
        Self { interrupt, ..self }
    }

    /// The request to stop.
    pub fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// Fails if `stage` would have to stop as soon as it starts.
    pub fn check_before(&self, stage: StageName) -> Result<()> {
        self.interrupt.check()?;
        if stage.is_timed() && self.is_late() {
            return Err(self.out_of_time(stage));
        }
        self.check_disk()
    }

    /// Why training has to stop, given the memory in bytes that the process uses; `None` to go on.
    pub fn stop(&self, used: u64) -> Option<StopReason> {
        if let Some(limit) = self.memory_limit.filter(|limit| used > limit.0) {
            let (used, limit) = (format::bytes(used), format::bytes(limit.0));
            let reason = format!("{used} used, {limit} allowed by `budgets.memory`");
            return Some(StopReason::Exhausted(Error::OutOfMemory { reason }));
        }
        match self.interrupt.check().and_then(|()| self.check_disk()) {
            Err(error) => Some(StopReason::Exhausted(error)),
            Ok(()) => self.is_late().then_some(StopReason::Deadline),
        }
    }

    /// The error of a stage that ran out of time before it had a result.
    pub fn out_of_time(&self, stage: StageName) -> Error {
        Error::BudgetSpent { stage, budget: self.wall_clock.to_string() }
    }

    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| uptime() >= deadline)
    }

    fn check_disk(&self) -> Result<()> {
        let free = free_space(&self.home)?;
        match free >= self.min_free_disk.0 {
            true => Ok(()),
            false => Err(Error::DiskFull {
                path: self.home.clone(),
                free: Bytes(free),
                required: self.min_free_disk,
            }),
        }
    }
}

/// Free bytes available to this user on the file system of `path`.
///
/// # Errors
/// A path that is not there.
pub fn free_space(path: &Path) -> Result<u64> {
    let disk =
        rustix::fs::statvfs(path).map_err(|e| io_error(path, "measure the disk of")(e.into()))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Time since the machine started. Unlike the wall clock it is not affected by daylight saving time
/// or corrections; unlike [`Instant`](std::time::Instant) it includes sleep.
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

    fn monitor(budgets: Budgets) -> BudgetMonitor {
        BudgetMonitor::new(&budgets, &std::env::temp_dir())
    }

    #[test]
    fn a_passed_deadline_stops_only_the_timed_stages() {
        let spent = monitor(Budgets { wall_clock: Span(Duration::ZERO), ..Budgets::default() });
        assert!(matches!(spent.stop(0), Some(StopReason::Deadline)));
        for stage in StageName::ALL {
            let timed = matches!(stage, StageName::Convert | StageName::Enrich | StageName::Train);
            assert_eq!(spent.check_before(stage).is_err(), timed, "{stage}");
        }
        let ample = monitor(Budgets { wall_clock: Span(Duration::MAX), ..Budgets::default() });
        assert!(ample.stop(0).is_none());
    }

    #[test]
    fn memory_above_the_limit_stops_training() {
        let monitor = monitor(Budgets { memory: Some(Bytes(1_000)), ..Budgets::default() });
        assert!(monitor.stop(1_000).is_none());
        let Some(StopReason::Exhausted(error)) = monitor.stop(1_001) else { panic!("no stop") };
        assert!(error.is_out_of_memory(), "{error}");
    }

    #[test]
    fn too_little_free_disk_starts_no_stage() {
        let monitor = monitor(Budgets { disk: Bytes(u64::MAX), ..Budgets::default() });
        let error = monitor.check_before(StageName::Report).unwrap_err();
        assert_eq!(error.exit_code(), 3, "{error}");
        assert!(matches!(monitor.stop(0), Some(StopReason::Exhausted(_))));
    }
}
