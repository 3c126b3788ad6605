//! The household's rows and exam: enough of both, repeatable, and apart from each other.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use enrich::grams::Grams;
use enrich::household::{ExamPlan, Phrasings, Suite};
use enrich::{Council, Household, Row};

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn house() -> Household {
    Household::load(fixtures().join("household.yaml")).unwrap()
}

fn rows(count: usize, seed: u64) -> Vec<Row> {
    let (council, phrasings) = (Council::embedded().unwrap(), Phrasings::embedded().unwrap());
    house().rows(&council, &phrasings, count, seed).unwrap()
}

fn suite() -> Suite {
    let plan = ExamPlan::load(fixtures().join("council/exam.yaml")).unwrap();
    plan.suite(&house(), &Council::embedded().unwrap(), &Phrasings::embedded().unwrap()).unwrap()
}

#[test]
fn gives_exactly_the_rows_asked_for() {
    for count in [0, 1, 400, 1710] {
        assert_eq!(rows(count, 7).len(), count);
    }
    let (council, phrasings) = (Council::embedded().unwrap(), Phrasings::embedded().unwrap());
    let error = house().rows(&council, &phrasings, 100_000, 7).unwrap_err().to_string();
    assert!(error.starts_with("rows: expected at most"), "{error}");
}

#[test]
fn the_same_seed_gives_the_same_rows_and_another_one_others() {
    assert_eq!(rows(500, 7), rows(500, 7));
    assert_ne!(rows(500, 7), rows(500, 8));
}

#[test]
fn few_rows_cover_every_core_entry() {
    let house = house();
    let asked: HashSet<String> = rows(300, 7).into_iter().filter_map(|row| row.meta.item).collect();
    for fact in house.facts.iter().filter(|fact| fact.core) {
        assert!(asked.contains(&fact.id), "{} is not asked for", fact.id);
    }
}

#[test]
fn at_most_two_percent_of_the_rows_are_near_duplicates() {
    let grams: Vec<_> = rows(1710, 7).iter().map(|row| Grams::of(&row.said(), 3)).collect();
    let alike =
        (0..grams.len()).filter(|i| (0..*i).any(|j| grams[*i].jaccard(&grams[j]) >= 0.8)).count();
    assert!(alike * 50 <= grams.len(), "{alike} of {} rows", grams.len());
}

#[test]
fn the_committed_suite_is_the_one_the_facts_give() {
    let path = fixtures().join("suites/household.json");
    let committed: Suite = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert!(committed == suite(), "{}: run the household example again", path.display());
}

#[test]
fn no_exam_prompt_comes_near_a_training_prompt() {
    let rows = rows(1710, 7);
    let prompts: Vec<_> = rows
        .iter()
        .flat_map(|row| &row.exchanges)
        .map(|exchange| (Grams::of(&exchange.user, 3), &exchange.user))
        .collect();
    for case in suite().cases {
        let asked = &case.turns[0].content;
        let own = Grams::of(asked, 3);
        for (theirs, prompt) in &prompts {
            let likeness = own.jaccard(theirs);
            assert!(likeness < 0.3, "{}: {asked:?} and {prompt:?}: {likeness:.2}", case.id);
        }
    }
}

#[test]
fn the_exam_is_spread_over_tiers_categories_and_agents() {
    let count = |key: fn(&enrich::household::Case) -> &str| {
        let mut counts = BTreeMap::new();
        for case in &suite().cases {
            *counts.entry(key(case).to_owned()).or_insert(0) += 1;
        }
        counts
    };
    let tiers = count(|case| &case.tier);
    assert_eq!(
        tiers,
        BTreeMap::from([("extended".into(), 35), ("gold".into(), 26), ("held_out".into(), 48)])
    );
    assert!(count(|case| &case.agent).values().all(|cases| *cases >= 11));
    assert!(count(|case| &case.category).values().all(|cases| *cases >= 12));
}

#[test]
fn no_question_gives_its_answer_away() {
    use enrich::household::Rule;
    for case in suite().cases {
        if !["domain", "reasoning", "over_refusal"].contains(&case.category.as_str()) {
            continue;
        }
        let asked = enrich::grams::words(&case.turns[0].content).join(" ");
        for rule in &case.rules {
            if let Rule::ContainsAny { words } | Rule::ContainsAll { words } = rule {
                for word in words {
                    let word = enrich::grams::words(word).join(" ");
                    let given = format!(" {asked} ").contains(&format!(" {word} "));
                    assert!(!given, "{}: {word:?} is in the question", case.id);
                }
            }
        }
    }
}
