//! Runs the tiny night.

#![allow(dead_code)] // each test binary uses its own part

use std::time::Duration;

use pipeline::{Clock, Event, Night, NightConfig, Result, Summary};

use crate::support::Tiny;

pub const HOUR: Duration = Duration::from_secs(3600);

pub fn run(tiny: &Tiny) -> Summary {
    run_by(&Clock::default(), tiny, &mut |_| ()).unwrap()
}

/// A clock that only the test moves, at one o'clock of a night.
pub fn clock() -> Clock {
    Clock::simulated("2026-04-08T01:00:00+00:00[UTC]".parse().unwrap())
}

/// Starts or resumes the night by `clock`.
pub fn start_by(clock: &Clock, tiny: &Tiny) -> Result<Night> {
    let mut config = NightConfig::load(tiny.path("night.yaml"))?;
    config.clock = clock.clone();
    Night::start_or_resume(config)
}

/// Runs the night by `clock`.
pub fn run_by(clock: &Clock, tiny: &Tiny, watch: &mut dyn FnMut(Event<'_>)) -> Result<Summary> {
    start_by(clock, tiny)?.run(&mut |event: Event<'_>| watch(event))
}
