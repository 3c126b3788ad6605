//! The neutral prompts: many, varied, unlike each other and unlike the exams, and about no household.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use chat_format::{Conversation, Message};
use enrich::Household;
use enrich::duplicates::Duplicates;
use enrich::grams::words;
use enrich::leaks::{ExamQuestions, Leaks};
use enrich::neutral::NeutralPrompts;
use eval::{Council, general};

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn prompts() -> Vec<(String, String)> {
    let prompts = NeutralPrompts::embedded().unwrap();
    prompts.iter().map(|prompt| (prompt.kind.clone(), prompt.text.clone())).collect()
}

fn rows() -> Vec<Conversation> {
    let row = |(_, text): (String, String)| Conversation::new(vec![Message::user(&text)]);
    prompts().into_iter().map(row).collect()
}

#[test]
fn there_are_a_thousand_of_many_kinds() {
    let prompts = prompts();
    assert!(prompts.len() >= 1000, "{}", prompts.len());
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for (kind, _) in &prompts {
        *kinds.entry(kind).or_default() += 1;
    }
    assert!(kinds.len() >= 25, "{kinds:?}");
    for (kind, count) in kinds {
        let share = count as f64 / prompts.len() as f64;
        assert!((0.02..0.06).contains(&share), "{kind}: {share:.3}");
    }
}

#[test]
fn they_begin_differently() {
    let mut openings: HashMap<Vec<String>, usize> = HashMap::new();
    let prompts = prompts();
    for (_, text) in &prompts {
        let opening = words(text).into_iter().take(3).collect();
        *openings.entry(opening).or_default() += 1;
    }
    let distinct = openings.len() as f64 / prompts.len() as f64;
    assert!(distinct >= 0.8, "{distinct:.3} of the prompts begin with words of their own");
    let (opening, most) = openings.into_iter().max_by_key(|(_, count)| *count).unwrap();
    assert!(most * 25 <= prompts.len(), "{most} begin with {opening:?}");
}

#[test]
fn none_is_near_another() {
    let found = Duplicates { likeness: 0.4 }.find(&rows());
    let rows = rows();
    let shown = found.iter().map(|it| {
        let text = |row: usize| rows[row].messages[0].content.clone();
        format!("{:.2}: {:?} and {:?}", it.likeness, text(it.row), text(it.of))
    });
    assert!(found.is_empty(), "{:#?}", shown.collect::<Vec<_>>());
}

#[test]
fn none_is_near_an_exam_question() {
    let mut questions = ExamQuestions::default();
    questions.read(fixtures().join("suites/household.json")).unwrap();
    for case in general::suite(Council::built_in(), usize::MAX).unwrap().cases {
        for turn in case.turns {
            questions.add("general", &case.id, &turn.content);
        }
    }
    let rows = rows();
    let found = questions.leaks(&rows, &Leaks::default()).unwrap();
    let shown = found.iter().map(|it| {
        let text = &rows[it.row].messages[0].content;
        format!("{} {:.2}: {text:?} and {}", it.by, it.likeness, it.case)
    });
    assert!(found.is_empty(), "{:#?}", shown.collect::<Vec<_>>());
}

#[test]
fn none_is_about_the_household() {
    const DAYS: [&str; 7] =
        ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
    let house = Household::load(fixtures().join("household.yaml")).unwrap();
    let mut names: Vec<Vec<String>> = ["Larkhouse", "Fernhollow"].map(words).to_vec();
    names.extend(Council::built_in().agents.iter().map(|agent| words(&agent.name)));
    for fact in &house.facts {
        let of = words(fact.of.trim_start_matches("the "));
        names.extend(Some(of).filter(|of| of.len() > 1));
        let is_name = fact.value.starts_with(char::is_uppercase);
        names.extend(
            Some(words(&fact.value)).filter(|it| is_name && !DAYS.contains(&&*it.concat())),
        );
    }
    for (_, text) in prompts() {
        let said = words(&text);
        for name in &names {
            let held = said.windows(name.len()).any(|part| part == name);
            assert!(!held, "{text:?} names {name:?}");
        }
    }
}

#[test]
fn a_household_adds_its_own_and_repetitions_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("own.yaml");
    let built_in = NeutralPrompts::embedded().unwrap();
    let known = built_in.iter().next().unwrap().text.clone();
    std::fs::write(&path, format!("own:\n  - {known}!\n  - Which clouds announce hail?\n"))
        .unwrap();
    let own = NeutralPrompts::load(&path).unwrap();
    let (all, repeated) = built_in.clone().and(own);
    assert_eq!((all.iter().count(), repeated), (built_in.iter().count() + 1, 1));
    assert!(all.iter().any(|prompt| prompt.kind == "own"));
    for (text, message) in [
        ("own: []", "own: expected at least one entry, found none"),
        ("own: ['', a]", "own[0]: expected a prompt, found a blank text"),
        ("own: [a, b, a]", "own[2]: expected every prompt once, found \"a\" twice"),
        ("- a", "own.yaml"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = NeutralPrompts::load(&path).unwrap_err().to_string();
        assert!(error.contains("own.yaml") && error.contains(message), "{error}");
    }
}

#[test]
fn the_order_is_stable_and_takes_kinds_in_turn() {
    let prompts = NeutralPrompts::embedded().unwrap();
    let order = prompts.in_order(7);
    assert_eq!(order.len(), prompts.iter().count());
    assert_eq!(order, prompts.in_order(7));
    assert_ne!(order, prompts.in_order(8));
    let kinds = prompts.iter().map(|it| &it.kind).collect::<std::collections::HashSet<_>>().len();
    let first: std::collections::HashSet<_> = order[..kinds].iter().map(|it| &it.kind).collect();
    assert_eq!(first.len(), kinds);
    // What is measured is not trained.
    let rest = prompts.without(&order[..100]).in_order(7);
    assert!(rest.iter().all(|prompt| !order[..100].contains(prompt)));
}
