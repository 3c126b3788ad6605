//! Fresh exams: repeatable by their seed, new with another one, sound, and apart from what is trained.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use enrich::grams::{Grams, Index};
use enrich::household::{FreshWordings, Phrasings};
use enrich::{GeneratorData, Household};
use eval::{Suite, Tier};

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn house() -> Household {
    Household::load(fixtures().join("household.yaml")).unwrap()
}

fn standing() -> Suite {
    Suite::load(fixtures().join("suites/household.json")).unwrap()
}

fn fresh(like: &Suite, cases: usize, seed: u64) -> Suite {
    let (wordings, phrasings) =
        (FreshWordings::embedded().unwrap(), Phrasings::embedded().unwrap());
    house().fresh_exam(&wordings, &phrasings, like, cases, seed).unwrap()
}

fn questions(suite: &Suite) -> HashSet<&str> {
    suite.cases.iter().map(|case| case.turns[0].content.as_str()).collect()
}

fn by_category(suite: &Suite) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for case in &suite.cases {
        *counts.entry(case.category.as_str()).or_default() += 1;
    }
    counts
}

#[test]
fn every_exam_is_sound_and_like_the_standing_one() {
    let like = standing();
    for seed in 0..3 {
        let exam = fresh(&like, 160, seed);
        exam.check().unwrap();
        assert_eq!(exam.cases.len(), 160, "seed {seed}");
        assert!(exam.cases.iter().all(|case| case.tier == Tier::HeldOut && case.cluster.is_some()));
        for (category, count) in by_category(&like) {
            let found = by_category(&exam)[category];
            let expected = 160 * if category == "jailbreak" { 2 * count } else { count } / 351;
            assert!(found.abs_diff(expected) <= 1, "{category}: {found}, {expected} expected");
        }
        assert_eq!(exam.council(), like.council());
    }
}

#[test]
fn the_seed_decides() {
    let like = standing();
    let (one, same, other) = (fresh(&like, 80, 1), fresh(&like, 80, 1), fresh(&like, 80, 2));
    assert_eq!(one, same);
    assert_eq!(one.digest(), same.digest());
    let (one, other, standing) = (questions(&one), questions(&other), questions(&like));
    // A wording without an opener and a closer may come again; the exam as a whole does not.
    let again = one.intersection(&other).count();
    assert!(again * 10 < one.len(), "{again} of {} questions come again", one.len());
    assert!(one.is_disjoint(&standing));
}

#[test]
fn a_small_exam_covers_every_category() {
    let like = standing().tagged("core").unwrap();
    let exam = fresh(&like, 40, 3);
    exam.check().unwrap();
    assert_eq!(exam.cases.len(), 40);
    assert_eq!(by_category(&exam).len(), 7);
}

#[test]
fn few_questions_come_near_a_training_row() {
    let (data, phrasings) = (GeneratorData::embedded().unwrap(), Phrasings::embedded().unwrap());
    let rows = house().rows(&data, &phrasings, 400, 7).unwrap();
    let mut asked = Index::default();
    rows.iter().flat_map(|row| &row.exchanges).for_each(|e| asked.add(&Grams::of(&e.user, 3)));
    let exam = fresh(&standing(), 120, 5);
    let near = |question: &&str| !asked.near(&Grams::of(question, 3), 0.3).is_empty();
    let near: Vec<_> = questions(&exam).into_iter().filter(near).collect();
    // A night leaves these out, by its own rows.
    assert!(near.len() <= 2, "{near:#?}");
}

#[test]
fn an_agent_that_the_council_lacks_is_named() {
    let (wordings, phrasings) =
        (FreshWordings::embedded().unwrap(), Phrasings::embedded().unwrap());
    let mut house = house();
    house.facts[0].agent = "gandalf".into();
    let error =
        house.fresh_exam(&wordings, &phrasings, &standing(), 40, 1).unwrap_err().to_string();
    assert!(error.contains("gandalf") && error.contains("facts.guest-vlan.agent"), "{error}");
}
