//! Fault injection. After each drill the next start completes, or refuses with the reason: never two promotions, never a lost
//! champion, never a silent skip. `docs/drills.md` lists the drills.
//!
//! Every drill draws its fault anew in each round, from a seed of its own. `NIGHTSHIFT_DRILLS=100` runs a hundred rounds of
//! each instead of a few.
#![cfg(unix)]

#[path = "../support/run.rs"]
mod run;
#[path = "../support/mod.rs"]
mod support;

mod champion;
mod child;
mod clocks;
mod damage;
mod disk;
mod kills;
mod rows;
mod starters;

use std::env;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use durable::Digest;
use pipeline::registry::{Action, BaseRegistry};
use pipeline::{Clock, Event, Home, Outcome, Registry, Summary};
use run::run_by;
use support::Tiny;

/// One round of a drill, and what it draws.
struct Round {
    number: u64,
    state: u64,
}

impl Round {
    /// A number below `end`.
    fn draw(&mut self, end: usize) -> usize {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        ((self.state >> 33) % end.max(1) as u64) as usize
    }

    /// One of `items`.
    fn one_of<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.draw(items.len())]
    }
}

/// The rounds of the drill `name`: `few`, or as many as `NIGHTSHIFT_DRILLS` says.
fn rounds(name: &'static str, few: u64) -> impl Iterator<Item = Round> {
    let asked = env::var("NIGHTSHIFT_DRILLS").ok().map(|n| n.parse().unwrap());
    let count = asked.unwrap_or(few);
    let seed = name.bytes().fold(0, |sum: u64, byte| sum.wrapping_mul(31) + u64::from(byte));
    (0..count).map(move |number| {
        if asked.is_some() {
            // Not captured by the test harness.
            let _ = writeln!(std::io::stderr(), "{name}: round {} of {count}", number + 1);
        }
        let mut round = Round { number, state: seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15) };
        // The first numbers of near seeds are alike.
        (0..4).for_each(|_| {
            round.draw(2);
        });
        round
    })
}

fn run(tiny: &Tiny) -> pipeline::Result<Summary> {
    watched(tiny, &mut |_| ())
}

fn watched(tiny: &Tiny, watch: &mut dyn FnMut(Event<'_>)) -> pipeline::Result<Summary> {
    run_by(&Clock::default(), tiny, watch)
}

fn registry(tiny: &Tiny) -> BaseRegistry {
    Registry::new(&Home::open(tiny.path("home")).unwrap())
        .find(tiny.path("model").to_str())
        .unwrap()
}

/// The champion, after a check of its content, and the number of promotions.
fn champion_and_promotions(tiny: &Tiny) -> (Option<Digest>, usize) {
    let registry = registry(tiny);
    let state = registry.state().unwrap();
    state.champion.map(|champion| registry.verified(champion).unwrap());
    let promotions = state.history.iter().filter(|c| c.action == Action::Promote).count();
    (state.champion, promotions)
}

/// What an undisturbed night comes to.
struct Undisturbed {
    /// The adapter that it promotes.
    champion: Digest,
    length: Duration,
    /// The number of its events.
    events: usize,
}

fn undisturbed() -> &'static Undisturbed {
    static NIGHT: OnceLock<Undisturbed> = OnceLock::new();
    NIGHT.get_or_init(|| {
        let (tiny, begun, mut events) = (Tiny::new(), Instant::now(), 0);
        let summary = watched(&tiny, &mut |_| events += 1).unwrap();
        assert_eq!(summary.outcome, Outcome::Promoted);
        let champion = champion_and_promotions(&tiny).0.unwrap();
        Undisturbed { champion, length: begun.elapsed(), events }
    })
}

/// The next start completes the night, with the adapter of an undisturbed one and one promotion. If it was complete, that
/// start begins another one, for which nothing is new.
fn completes(tiny: &Tiny, what: &str) {
    let summary = run(tiny).unwrap_or_else(|error| panic!("{what}: {error}"));
    let expected =
        if summary.night.starts_with("0002-") { Outcome::NothingNew } else { Outcome::Promoted };
    assert_eq!(summary.outcome, expected, "{what}: {}", summary.line());
    assert_eq!(champion_and_promotions(tiny), (Some(undisturbed().champion), 1), "{what}");
}

/// Runs a night up to its event with this number and abandons it there by a panic; whether it came so far.
fn until_event(tiny: &Tiny, number: usize) -> bool {
    let mut left = number;
    until(tiny, |_| {
        left = left.wrapping_sub(1);
        left == usize::MAX
    })
}

/// Runs a night up to the first event for which `stop` is true and abandons it there by a panic; whether there was one.
fn until(tiny: &Tiny, mut stop: impl FnMut(&Event<'_>) -> bool) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        watched(tiny, &mut |event| {
            if stop(&event) {
                std::panic::resume_unwind(Box::new("end of the drill"));
            }
        })
    }))
    .is_err()
}

/// The folders of the nights.
fn nights(tiny: &Tiny) -> Vec<PathBuf> {
    let nights = fs::read_dir(tiny.path("home/nights")).into_iter().flatten();
    nights.map(|night| night.unwrap().path()).collect()
}
