//! Clocks that are moved, by a simulated clock.

use std::collections::HashSet;
use std::time::Duration;

use jiff::{SignedDuration, Zoned};
use pipeline::{Clock, Error, Event, Night, NightConfig, Outcome};

use crate::run::{HOUR, clock};
use crate::support::Tiny;
use crate::{Round, champion_and_promotions, nights, rounds, undisturbed};

const ZONES: [&str; 4] = ["Europe/London", "America/St_Johns", "Pacific/Apia", "Asia/Kathmandu"];

/// Moves the wall clock as people, time servers and dead batteries do. Returns what was done.
fn set(round: &mut Round, clock: &Clock) -> String {
    let now = clock.now();
    let hours = |hours: i64| now.saturating_add(SignedDuration::from_hours(hours));
    let to: Zoned = match round.draw(6) {
        0 => hours(-1 - round.draw(30) as i64),
        1 => hours(1 + round.draw(30) as i64),
        2 => hours(-24 * 365 * 3),
        3 => hours(24 * 365),
        4 => "1970-01-01T00:00:07+00:00[UTC]".parse().unwrap(),
        _ => now.in_tz(ZONES[round.draw(ZONES.len())]).unwrap(),
    };
    clock.set(to.clone());
    format!("{now} -> {to}")
}

fn start(tiny: &Tiny, clock: &Clock) -> Option<Night> {
    let mut config = NightConfig::load(tiny.path("night.yaml")).unwrap();
    config.clock = clock.clone();
    Night::start_once_a_day(config).unwrap()
}

/// The clock is set while a night runs, while it is stopped, and before the next. A night that runs has its budget whatever
/// the wall clock says; a stopped one resumes or, if its time seems spent, is followed by one that takes its work over.
#[test]
fn a_moved_clock_loses_no_night_and_promotes_once() {
    for mut round in rounds("clocks", 4) {
        let (tiny, clock) = (Tiny::new(), clock());
        let mut told = vec![];
        let mut outcomes = vec![];
        // Starts until a night has an outcome.
        while outcomes.is_empty() {
            assert!(told.len() < 60, "no start came to an outcome: {told:#?}");
            let stops_at = round.draw(undisturbed().events * 3);
            let moves_at = round.draw(undisturbed().events);
            let mut events = 0;
            // On the date of a night that was given up there is no other.
            let Some(night) = start(&tiny, &clock) else {
                told.push("the next day".to_owned());
                clock.advance(24 * HOUR);
                continue;
            };
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                night.run(&mut |_: Event<'_>| {
                    clock.advance(Duration::from_secs(60));
                    if events == moves_at {
                        told.push(set(&mut round, &clock));
                    }
                    if events == stops_at {
                        std::panic::resume_unwind(Box::new("end of the drill"));
                    }
                    events += 1;
                })
            }));
            match result {
                Err(_) => told.push(format!("killed at event {events}")),
                Ok(Ok(summary)) => outcomes.push(summary.outcome),
                // Counted from its first start, the time of the night is spent.
                Ok(Err(Error::BudgetSpent { .. })) => told.push("spent".to_owned()),
                Ok(Err(error)) => panic!("round {}: {error}: {told:#?}", round.number),
            }
            told.push(set(&mut round, &clock));
        }
        let what = format!("round {}: {told:#?}", round.number);
        assert_eq!(outcomes, [Outcome::Promoted], "{what}");
        assert_eq!(champion_and_promotions(&tiny), (Some(undisturbed().champion), 1), "{what}");

        // The timers of three days, with the clock set in between: one night a date, and none promotes again.
        let mut dates = HashSet::new();
        for _ in 0..9 {
            let date = clock.now().date();
            let before = nights(&tiny).len();
            if let Some(night) = start(&tiny, &clock) {
                let summary = night.run(&mut |_: Event<'_>| ()).unwrap();
                assert_eq!(summary.outcome, Outcome::NothingNew, "{what}");
            }
            assert!(nights(&tiny).len() <= before + 1, "{what}");
            let again = start(&tiny, &clock);
            assert!(again.is_none(), "a second night on {date}: {what}");
            dates.insert(date);
            match round.draw(3) {
                0 => drop(set(&mut round, &clock)),
                _ => clock.advance(9 * HOUR),
            }
        }
        assert_eq!(champion_and_promotions(&tiny).1, 1, "{what}");
        assert!(nights(&tiny).len() >= dates.len(), "{what}: {dates:?}");
    }
}
