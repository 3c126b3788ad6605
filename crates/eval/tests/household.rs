//! The exam that ships with the project.

use std::collections::BTreeSet;

use eval::{AgentId, Suite, Tier};

#[test]
fn the_household_suite_is_sound_and_covers_everything() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/suites/household.json");
    let suite = Suite::load(path).expect("a sound suite");
    let asked: BTreeSet<&AgentId> = suite.cases.iter().map(|case| &case.agent).collect();
    assert_eq!(asked.len(), suite.council().agents.len());
    // The everyday questions are a suite of their own.
    let own = suite.council().categories.iter().filter(|category| !category.retained);
    for category in own.map(|category| &category.id) {
        for tier in Tier::ALL {
            let of = |case: &&eval::Case| case.category == *category && case.tier == tier;
            assert!(suite.cases.iter().filter(of).count() >= 3, "{category} in {tier}");
        }
    }
    assert_eq!(suite.smoke(3).cases.len(), 21);

    let core = suite.tagged("core").expect("the short form");
    core.check().expect("a sound suite");
    assert_eq!(core.cases.len(), 109);
    let unknown = suite.tagged("kore").unwrap_err().to_string();
    assert!(unknown.contains("household.json") && unknown.contains("kore"), "{unknown}");
}
