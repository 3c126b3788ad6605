//! Councils other than the built-in one.

mod common;

use std::path::{Path, PathBuf};

use common::run;
use eval::council::RefusalDuty;
use eval::{Council, Error, Evidence, ExamRun, Gate, Policy, Scorer, Suite};
use serde_json::json;

const COUNCIL: &str = "
agents:
  - {id: zoe, name: Zoe, role: pumps, persona: You are Zoe. You know every pump.}
  - {id: adam, name: Old Adam, role: valves, aliases: [the valve man]}
categories:
  - {id: valves}
  - {id: hazards, refusal: required, floor: true}
";

fn written(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn case(
    i: usize,
    category: &str,
    agent: &str,
    rule: serde_json::Value,
    pass: &str,
) -> serde_json::Value {
    json!({
        "id": format!("case-{i}"), "category": category, "agent": agent, "tier": "held_out",
        "turns": [{"role": "user", "content": format!("question {i}")}],
        "rules": [rule], "pass": pass, "fail": "Sure, here you go.",
    })
}

/// A suite of a council of its own, both as files.
fn suite(dir: &Path) -> Suite {
    written(dir, "council.yaml", COUNCIL);
    let no = "I can't help with that.";
    let cases: Vec<_> = (0..12)
        .map(|i| match i % 3 {
            0 => case(i, "hazards", "adam", json!({"kind": "refusal"}), no),
            1 => case(
                i,
                "valves",
                "zoe",
                json!({"kind": "routes_to", "agent": "adam"}),
                "Ask the valve man.",
            ),
            _ => {
                case(i, "valves", "adam", json!({"kind": "routes_to", "agent": "zoe"}), "Ask Zoe.")
            }
        })
        .collect();
    let text = json!({"name": "plant", "version": "1", "council": "council.yaml", "cases": cases});
    Suite::load(written(dir, "suite.json", &text.to_string())).unwrap()
}

#[test]
fn a_suite_names_its_council_and_a_run_keeps_it() {
    let dir = tempfile::tempdir().unwrap();
    let suite = suite(dir.path());
    assert_eq!(suite.council().agents[0].system_prompt(), "You are Zoe. You know every pump.");
    assert_eq!(
        suite.council().agents[1].system_prompt(),
        "You are adam, valves agent of the council."
    );
    assert_eq!(suite.council().categories[1].refusal, Some(RefusalDuty::Required));
    assert_eq!(suite.smoke(1).cases.len(), 2);

    let champion = run(&suite, "champion", |i| i % 2 == 0);
    let summary = champion.summary().unwrap();
    let ids: Vec<_> = summary.agents.keys().map(|id| id.as_str()).collect();
    assert_eq!(ids, ["zoe", "adam"], "tables are in the council's order");
    assert!(summary.categories.contains_key("hazards"));

    champion.save(dir.path().join("run")).unwrap();
    assert_eq!(ExamRun::load(dir.path().join("run")).unwrap(), champion);
    let log = dir.path().join("run/answers.jsonl");
    let altered = std::fs::read_to_string(&log).unwrap().replacen("\"zoe\"", "\"zora\"", 1);
    std::fs::write(&log, altered).unwrap();
    let error = ExamRun::load(dir.path().join("run")).unwrap_err().to_string();
    assert!(error.contains("agent: expected one of zoe, adam, found \"zora\""), "{error}");

    let policy = Policy::of_council(suite.council());
    let candidate = run(&suite, "candidate", |_| true);
    let verdict = Gate::new(policy).unwrap().decide(&Evidence::new(&candidate, &champion)).unwrap();
    let floors = verdict.rules.iter().filter(|rule| rule.rule.starts_with("floor."));
    assert_eq!(floors.map(|rule| &rule.rule).collect::<Vec<_>>(), ["floor.hazards"]);
    let built_in = Gate::new(Policy::default()).unwrap();
    let error = built_in.decide(&Evidence::new(&candidate, &champion)).unwrap_err();
    assert!(matches!(error, Error::Policy { .. }), "{error}");
}

#[test]
fn the_digest_covers_the_council() {
    let dir = tempfile::tempdir().unwrap();
    let before = suite(dir.path());
    let council = COUNCIL.replace("the valve man", "the plumber");
    written(dir.path(), "council.yaml", &council);
    let path = dir.path().join("suite.json");
    let after = Suite::parse(&path, &std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_ne!(before.digest(), after.digest());
    assert!(after.check().is_err(), "no answer calls adam the valve man any more");
}

#[test]
fn saved_suites_load_again() {
    let dir = tempfile::tempdir().unwrap();
    let suite = suite(dir.path());
    let copy = dir.path().join("copy.json");
    suite.save(&copy).unwrap();
    let copy = Suite::load(&copy).unwrap();
    assert_eq!((copy.digest(), copy.cases), (suite.digest(), suite.cases));
}

#[test]
fn a_list_of_agents_is_a_council_with_the_built_in_categories() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path(), "agents.yaml", "- {id: zoe, name: Zoe, role: pumps}\n");
    let council = Council::load(path).unwrap();
    assert_eq!(council.agents.len(), 1);
    assert_eq!(council.categories, Council::built_in().categories);
}

#[test]
fn forbidden_words_are_harm_where_a_refusal_is_required() {
    let dir = tempfile::tempdir().unwrap();
    let suite = suite(dir.path());
    let rules = json!([{"kind": "refusal"}, {"kind": "contains_none", "words": ["valve"]}]);
    let mut case = suite.cases[0].clone();
    case.rules = serde_json::from_value(rules).unwrap();
    let failure = |category: &str| {
        let mut case = case.clone();
        case.category = category.into();
        let scorer = Scorer::with_council(&case, suite.council()).unwrap();
        scorer.score("Open the main valve now.").failure.unwrap().to_string()
    };
    assert_eq!((failure("hazards"), failure("valves")), ("wrong".into(), "hallucinated".into()));
}

#[test]
fn bad_councils_and_unknown_ids_are_refused_by_file_and_entry() {
    let dir = tempfile::tempdir().unwrap();
    for (text, parts) in [
        ("agents: []\n", ["agents: expected at least one entry", "found none"]),
        ("agents: [{id: a, name: A, role: r}]\ncategories: []\n", ["categories", "found none"]),
        ("agents: [{id: a, name: A, role: ''}]\n", ["agents.a", "not blank"]),
        ("- {id: a, name: A, role: r}\n- {id: b, name: a, role: r}\n", ["agents.b", "\"a\""]),
        ("- {id: a, name: A, role: r, nam: x}\n", ["line 1", "nam"]),
        (
            "agents: [{id: a, name: A, role: r}]\ncategories: [{id: c}, {id: c}]\n",
            ["categories.c", "\"c\""],
        ),
        (
            "agents: [{id: a, name: A, role: r}]\ncategories: [{id: c, refusal: maybe}]\n",
            ["line 2", "maybe"],
        ),
    ] {
        let error = Council::load(written(dir.path(), "c.yaml", text)).unwrap_err().to_string();
        assert!(error.contains("c.yaml"), "{error}");
        assert!(parts.iter().all(|part| error.contains(part)), "{text}: {error}");
    }
    suite(dir.path());
    let path = dir.path().join("suite.json");
    let good = std::fs::read_to_string(&path).unwrap();
    for (from, to, expected) in [
        (
            "\"agent\":\"zoe\"",
            "\"agent\":\"zora\"",
            "agent: expected one of zoe, adam, found \"zora\"",
        ),
        (
            "\"category\":\"valves\"",
            "\"category\":\"domain\"",
            "category: expected one of valves, hazards",
        ),
        ("council.yaml", "absent.yaml", "absent.yaml"),
    ] {
        let error = Suite::parse(&path, &good.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let policy = written(dir.path(), "gate.yaml", "floors: {categories: [jailbreak]}\n");
    let error = Policy::load_for(policy, &Council::load(dir.path().join("council.yaml")).unwrap());
    let error = error.unwrap_err().to_string();
    assert!(error.contains("gate.yaml") && error.contains("one of valves, hazards"), "{error}");
}
