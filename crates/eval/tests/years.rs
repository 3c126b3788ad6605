//! A short version of `examples/years`, which prints the long one: the gate over simulated years.

#[allow(dead_code, reason = "the example prints more")]
#[path = "../examples/years/world.rs"]
mod world;

use eval::{Policy, Suite};
use world::{ACTORS, Actor, SEED_SPREAD, SUITE, World};

/// The household suite, with fresh exams of twice its size.
fn in_world(test: impl FnOnce(&World<'_>)) {
    let suite = Suite::parse(SUITE, &std::fs::read_to_string(SUITE).unwrap()).unwrap();
    let policy = Policy::of_council(suite.council());
    test(&World::new(&suite, policy, 1, 2, 0.1).unwrap());
}

#[test]
fn a_year_of_candidates_that_are_no_better_promotes_next_to_none() {
    in_world(|world| {
        let mut wrong = 0;
        for (name, actor) in ACTORS {
            let year = world.year(actor, 11, false).unwrap();
            assert!(!year.worse_served, "{name}");
            // A quarter of a promotion a year is expected at most.
            assert!(year.not_better <= 2, "{name}: {}", year.not_better);
            let failed = year.fresh_exams - year.promotions;
            assert!(failed <= 50, "{name}: {failed} fresh exams failed");
            if matches!(actor, Actor::Refuses(_) | Actor::Games(_)) {
                assert_eq!(year.fresh_exams, 0, "{name} passes the screen");
            }
            wrong += year.not_better;
        }
        assert!(wrong <= 4, "{wrong} in eleven years");
    });
}

#[test]
fn a_candidate_that_is_better_by_far_is_promoted_soon() {
    in_world(|world| {
        let better = Actor::Shift { by: 0.12, spread: SEED_SPREAD };
        for seed in 0..4 {
            let first = world.year(better, seed, true).unwrap().first;
            assert!(first.is_some_and(|night| night <= 4), "seed {seed}: {first:?}");
        }
    });
}
