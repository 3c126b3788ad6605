//! The time by which a night decides.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Zoned;
use rustix::time::{ClockId, clock_gettime};

/// The wall clock, which people and time servers set, and the machine's uptime, which nobody sets. A test has its own, which
/// stands still unless it is moved.
///
/// All that a night decides by time goes by it: its date, its budget, what is too old. The times of records about changes (the
/// registry's history, the audit log) are the machine's.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<Arc<Mutex<Simulated>>>);

#[derive(Debug)]
struct Simulated {
    now: Zoned,
    uptime: Duration,
}

impl Clock {
    /// A clock that shows `now` and stands still. Its clones are the same clock.
    pub fn simulated(now: Zoned) -> Self {
        Self(Some(Arc::new(Mutex::new(Simulated { now, uptime: Duration::ZERO }))))
    }

    /// The time and time zone of the wall clock.
    pub fn now(&self) -> Zoned {
        self.read().map_or_else(Zoned::now, |clock| clock.now.clone())
    }

    /// Time since the machine started. Unlike the wall clock it is not affected by daylight saving time or corrections; unlike
    /// [`Instant`](std::time::Instant) it includes sleep.
    pub(crate) fn uptime(&self) -> Duration {
        self.read().map_or_else(uptime, |clock| clock.uptime)
    }

    /// Lets time pass on a simulated clock. That of the machine takes no orders.
    pub fn advance(&self, by: Duration) {
        if let Some(mut clock) = self.read() {
            clock.now = clock.now.saturating_add(by);
            clock.uptime = clock.uptime.saturating_add(by);
        }
    }

    /// Sets the wall clock of a simulated clock, as a person or a time server does: no time passes.
    pub fn set(&self, now: Zoned) {
        if let Some(mut clock) = self.read() {
            clock.now = now;
        }
    }

    fn read(&self) -> Option<MutexGuard<'_, Simulated>> {
        Some(self.0.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl PartialEq for Clock {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_ref().map(Arc::as_ptr) == other.0.as_ref().map(Arc::as_ptr)
    }
}

fn uptime() -> Duration {
    let now = clock_gettime(CLOCK);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::Monotonic;
