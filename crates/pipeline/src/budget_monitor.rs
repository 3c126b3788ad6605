//! Checks the night's budgets (time, memory, disk) while it runs, and whether it should stop.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Zoned;
use lora_train::Bytes;

use crate::clock::Clock;
use crate::config::Budgets;
use crate::error::{Error, Result, io_error};
use crate::format;
use crate::interrupt::Interrupt;
use crate::stages::StageName;

/// The budgets of a running night.
#[derive(Debug, Clone)]
pub(crate) struct BudgetMonitor {
    /// The budget in words.
    time: String,
    /// When the night has to be over, by [`Clock::uptime`]; `None` if it overflows that.
    end: Option<Duration>,
    /// The time before that when training stops.
    for_exams: Duration,
    memory_limit: Option<Bytes>,
    min_free_disk: Bytes,
    home: PathBuf,
    clock: Clock,
    interrupt: Interrupt,
}

/// Why training stops before its last update.
#[derive(Debug)]
pub(crate) enum StopReason {
    /// What training may take of the night's time is spent.
    Deadline,
    /// Memory or disk is exhausted, or a signal asked to stop.
    Exhausted(Error),
}

impl BudgetMonitor {
    /// The budgets of a night that was first started at `begun`, for work below `home`.
    pub fn new(budgets: &Budgets, begun: &Zoned, home: &Path, clock: &Clock) -> Self {
        // On the wall clock, as the machine may have been restarted. A clock that was set back gives no more than the budget.
        let left = budgets.end(begun).map(|end| end.duration_since(clock.now().timestamp()));
        let left = left.map(|left| Duration::try_from(left).unwrap_or_default());
        let left = left.unwrap_or(Duration::MAX).min(budgets.wall_clock.0);
        let not_after = budgets.not_after.map(|time| format!(", not after {time}"));
        Self {
            time: format!("{}{}", budgets.wall_clock, not_after.unwrap_or_default()),
            end: clock.uptime().checked_add(left),
            for_exams: budgets.for_exams(),
            memory_limit: budgets.memory,
            min_free_disk: budgets.disk,
            home: home.to_path_buf(),
            clock: clock.clone(),
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

    /// The clock that the budgets go by.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Fails if `stage` would have to stop as soon as it starts.
    pub fn check_before(&self, stage: StageName) -> Result<()> {
        self.interrupt.check()?;
        if stage.is_timed() && self.time_to_train().is_zero() {
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
            Ok(()) => self.time_to_train().is_zero().then_some(StopReason::Deadline),
        }
    }

    /// The error of a stage that ran out of time before it had a result.
    pub fn out_of_time(&self, stage: StageName) -> Error {
        Error::BudgetSpent { stage, budget: self.time.clone() }
    }

    /// The time until the night has to be over.
    pub fn time_left(&self) -> Duration {
        self.end.map_or(Duration::MAX, |end| end.saturating_sub(self.clock.uptime()))
    }

    /// The time until training has to stop.
    pub fn time_to_train(&self) -> Duration {
        self.time_left().saturating_sub(self.for_exams)
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

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::config::Span;

    fn monitor(budgets: Budgets) -> BudgetMonitor {
        BudgetMonitor::new(&budgets, &Zoned::now(), &std::env::temp_dir(), &Clock::default())
    }

    #[test]
    fn the_budget_counts_from_the_first_start_and_leaves_time_for_exams() {
        let hour = Duration::from_secs(3600);
        let budgets =
            Budgets { wall_clock: Span(6 * hour), exams: Some(Span(hour)), ..Budgets::default() };
        for (ago, left, to_train) in [(0, 6, 5), (2, 4, 3), (5, 1, 0), (9, 0, 0), (-3, 6, 5)] {
            let clock = Clock::simulated("2026-04-08T01:00:00+00:00[UTC]".parse().unwrap());
            let begun = &clock.now() - SignedDuration::from_hours(ago);
            let monitor = BudgetMonitor::new(&budgets, &begun, &std::env::temp_dir(), &clock);
            assert_eq!(monitor.time_left(), left * hour, "{ago}");
            assert_eq!(monitor.time_to_train(), to_train * hour, "{ago}");
            assert_eq!(monitor.stop(0).is_some(), to_train == 0, "{ago}");
        }
    }

    #[test]
    fn a_spent_budget_stops_only_the_timed_stages() {
        let spent = monitor(Budgets { wall_clock: Span(Duration::ZERO), ..Budgets::default() });
        assert!(matches!(spent.stop(0), Some(StopReason::Deadline)));
        for stage in StageName::ALL {
            let timed = matches!(stage, StageName::Convert | StageName::Enrich);
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
