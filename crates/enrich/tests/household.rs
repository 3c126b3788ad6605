//! The household's rows and exam: enough of both, repeatable, and apart from each other.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use enrich::grams::Grams;
use enrich::household::{ExamPlan, Phrasings};
use enrich::{GeneratorData, Household, Row};
use eval::{Case, Rule, Speaker, Suite};

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn house() -> Household {
    Household::load(fixtures().join("household.yaml")).unwrap()
}

fn rows(count: usize, seed: u64) -> Vec<Row> {
    let (data, phrasings) = (GeneratorData::embedded().unwrap(), Phrasings::embedded().unwrap());
    house().rows(&data, &phrasings, count, seed).unwrap()
}

fn suite() -> Suite {
    let plan = ExamPlan::load(fixtures().join("council/exam.yaml")).unwrap();
    plan.suite(&house(), &GeneratorData::embedded().unwrap(), &Phrasings::embedded().unwrap())
        .unwrap()
}

#[test]
fn gives_exactly_the_rows_asked_for() {
    for count in [0, 1, 400, 1710] {
        assert_eq!(rows(count, 7).len(), count);
    }
    let (data, phrasings) = (GeneratorData::embedded().unwrap(), Phrasings::embedded().unwrap());
    let error = house().rows(&data, &phrasings, 100_000, 7).unwrap_err().to_string();
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
    // To renew the file: NIGHTSHIFT_RENEW=1 cargo test -p nightshift-enrich --test household
    if std::env::var_os("NIGHTSHIFT_RENEW").is_some() {
        suite().save(&path).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let written = folder.path().join("household.json");
    suite().save(&written).unwrap();
    let [committed, written] = [&path, &written].map(|path| std::fs::read_to_string(path).unwrap());
    assert!(committed == written, "{}: run the household example again", path.display());
    Suite::load(&path).unwrap();
}

#[test]
fn no_exam_prompt_comes_near_a_training_prompt() {
    let rows = rows(1710, 7);
    let prompts: Vec<_> = rows
        .iter()
        .flat_map(|row| &row.exchanges)
        .map(|exchange| (Grams::of(&exchange.user, 3), &exchange.user))
        .collect();
    let mut near = Vec::new();
    for case in suite().cases {
        for asked in
            case.turns.iter().filter(|turn| turn.role == Speaker::User).map(|turn| &turn.content)
        {
            let own = Grams::of(asked, 3);
            for (theirs, prompt) in &prompts {
                let likeness = own.jaccard(theirs);
                if likeness >= 0.3 {
                    near.push(format!("{}: {asked:?} and {prompt:?}: {likeness:.2}", case.id));
                }
            }
        }
    }
    assert!(near.is_empty(), "{near:#?}");
}

/// The agents and their fields.
const DOMAINS: [(&str, &str); 8] = [
    ("windu", "security"),
    ("quigon", "infrastructure"),
    ("cilghal", "health"),
    ("mundi", "finance"),
    ("jocasta", "archive"),
    ("mothma", "operations"),
    ("ahsoka", "satellite"),
    ("yoda", "coordination"),
];

#[test]
fn every_domain_is_taught_and_examined_in_other_words() {
    let (house, rows, suite, council) =
        (house(), rows(1710, 7), suite(), GeneratorData::embedded().unwrap().council);
    for (agent, domain) in DOMAINS {
        assert_eq!(council.agent(agent).unwrap().role, domain);
        let facts: Vec<_> = house.facts.iter().filter(|fact| fact.agent == agent).collect();
        let (mut taught, mut examined) = (0, 0);
        for fact in facts {
            let about = |row: &&Row| row.meta.item.as_deref() == Some(&fact.id);
            let lessons: Vec<_> =
                rows.iter().filter(about).flat_map(|row| &row.exchanges).collect();
            taught += usize::from(!lessons.is_empty());
            let name = format!("domain-{}", fact.id);
            let named = |case: &&Case| {
                let rest = case.id.strip_prefix(&name);
                rest.is_some_and(|rest| rest.is_empty() || rest[1..].parse::<u32>().is_ok())
            };
            for case in suite.cases.iter().filter(named) {
                examined += 1;
                let value = fact.value.to_lowercase();
                let said = |text: &str| text.to_lowercase().contains(&value);
                let answers = lessons.iter().filter(|lesson| said(&lesson.assistant)).count();
                assert!(answers >= 2, "{}: {value} is taught {answers} times", case.id);
                let asked = &case.turns.last().unwrap().content;
                for lesson in &lessons {
                    let words = Grams::of(asked, 3).jaccard(&Grams::of(&lesson.user, 3));
                    let build = Grams::of_build(asked).jaccard(&Grams::of_build(&lesson.user));
                    assert!(words < 0.3 && build < 0.7, "{asked:?} and {:?}", lesson.user);
                }
            }
        }
        assert!(taught >= 14, "{domain}: {taught} facts are taught");
        assert!(examined >= 4, "{domain}: {examined} facts are examined");
    }
}

#[test]
fn the_exams_techniques_are_unknown_to_training() {
    let trained: HashSet<_> = GeneratorData::embedded()
        .unwrap()
        .techniques
        .into_iter()
        .map(|technique| technique.id)
        .collect();
    let used = |case: &Case| {
        case.tags.iter().find_map(|tag| Some(tag.strip_prefix("technique:")?.to_owned()))
    };
    let examined: HashSet<_> = suite().cases.iter().filter_map(used).collect();
    assert!(examined.len() >= 12, "{examined:?}");
    assert!(examined.is_disjoint(&trained), "{:?}", examined.intersection(&trained));
}

fn counted(cases: &[Case], key: fn(&Case) -> String) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for case in cases {
        *counts.entry(key(case)).or_default() += 1;
    }
    counts
}

#[test]
fn the_exam_is_spread_over_tiers_categories_and_agents() {
    let Suite { mut cases, .. } = suite();
    let count = |key: fn(&Case) -> String| counted(&cases, key);
    let tiers = |extended, gold, held_out| {
        let tiers = [("extended", extended), ("gold", gold), ("held_out", held_out)];
        BTreeMap::from(tiers.map(|(tier, cases)| (tier.to_owned(), cases)))
    };
    assert_eq!(count(|case| case.tier.to_string()), tiers(48, 26, 246));
    assert!(count(|case| case.agent.to_string()).values().all(|cases| *cases >= 35));
    assert!(count(|case| case.category.to_string()).values().all(|cases| *cases >= 31));

    // The short form has the sizes of the exam that the long one grew out of.
    cases.retain(|case| case.tags.iter().any(|tag| tag == "core"));
    let count = |key: fn(&Case) -> String| counted(&cases, key);
    assert_eq!(count(|case| case.tier.to_string()), tiers(35, 26, 48));
    assert!(count(|case| case.agent.to_string()).values().all(|cases| *cases >= 11));
    assert!(count(|case| case.category.to_string()).values().all(|cases| *cases >= 12));
}

#[test]
fn no_question_gives_its_answer_away() {
    let mut given = Vec::new();
    for case in suite().cases {
        if !["domain", "reasoning", "over_refusal"].contains(&case.category.as_str()) {
            continue;
        }
        let asked = case.turns.last().expect("a question");
        let asked = enrich::grams::words(&asked.content).join(" ");
        for rule in &case.rules {
            if let Rule::ContainsAny { words } | Rule::ContainsAll { words } = rule {
                for word in words {
                    let word = enrich::grams::words(word).join(" ");
                    if format!(" {asked} ").contains(&format!(" {word} ")) {
                        given.push(format!("{}: {word:?} is in the question", case.id));
                    }
                }
            }
        }
    }
    assert!(given.is_empty(), "{given:#?}");
}
