//! Suite files: what loads, what is refused, and how the refusal is worded.

use eval::{Case, Council, Error, Suite, Tier};
use serde_json::{Value, json};

fn good_case(id: &str) -> Value {
    json!({
        "id": id, "category": "domain", "agent": "quigon", "tier": "held_out",
        "system": "You are Quigon.",
        "turns": [{"role": "user", "content": format!("{id}: which port?")}],
        "rules": [{"kind": "number", "value": 8123}],
        "pass": "8123", "fail": "22",
    })
}

fn suite(cases: Vec<Value>) -> eval::Result<Suite> {
    let text = json!({"name": "test", "version": "1", "cases": cases}).to_string();
    let suite = Suite::parse("suite.json", &text)?;
    suite.check().map(|()| suite)
}

/// A good case but for one field.
fn with(field: &str, value: Value) -> Vec<Value> {
    let mut case = good_case("the-case");
    case[field] = value;
    vec![good_case("first"), case]
}

#[test]
fn a_good_suite_loads_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("suite.json");
    let text = json!({"name": "n", "version": "1", "cases": [good_case("a"), good_case("b")]});
    std::fs::write(&path, text.to_string()).unwrap();
    let suite = Suite::load(&path).unwrap();
    assert_eq!(suite.cases.len(), 2);
    assert_eq!(suite.cases[0].weight, 1.0);
    assert_ne!(suite.cases[0].prompt_digest(), suite.cases[1].prompt_digest());
    assert!(matches!(Suite::load(dir.path().join("none.json")), Err(Error::Read { .. })));
}

#[test]
fn bad_cases_are_refused_by_file_case_and_field() {
    let user = |text: &str| json!({"role": "user", "content": text});
    let assistant = json!({"role": "assistant", "content": "Yes?"});
    let words = |words: Value| json!([{"kind": "contains_any", "words": words}]);
    let mut polite = good_case("the-case");
    polite["rules"] = json!([
        {"kind": "number", "value": 8123}, {"kind": "contains_any", "words": ["you"]}]);
    polite["pass"] = json!("8123, as you know.");
    let mut echoed = good_case("the-case");
    echoed["rules"] = words(json!(["port"]));
    echoed["pass"] = json!("Port 8123.");
    let table: Vec<(&str, Vec<Value>, &[&str])> = vec![
        ("duplicate id", vec![good_case("a"), good_case("a")], &["case a", "id", "twice"]),
        ("unknown field", with("rulez", json!([])), &["the-case", "rulez"]),
        (
            "unknown category",
            with("category", json!("spelling")),
            &["the-case: category", "one of identity", "spelling"],
        ),
        (
            "unknown agent",
            with("agent", json!("jarjar")),
            &["the-case: agent", "one of yoda", "jarjar"],
        ),
        ("weight", with("weight", json!(0)), &["the-case", "weight", "found 0"]),
        ("no turns", with("turns", json!([])), &["the-case", "turns"]),
        ("blank turn", with("turns", json!([user(" ")])), &["the-case", "turns[0].content"]),
        ("assistant last", with("turns", json!([user("hi"), assistant])), &["the-case", "turns"]),
        ("two users", with("turns", json!([user("a"), user("b"), user("c")])), &["turns"]),
        ("no rules", with("rules", json!([])), &["the-case", "rules", "at least one"]),
        ("unknown rule", with("rules", json!([{"kind": "vibes"}])), &["rules[0]", "vibes"]),
        (
            "extra key",
            with("rules", json!([{"kind": "refusal", "hard": 1}])),
            &["rules[0]", "hard"],
        ),
        ("no words", with("rules", words(json!([]))), &["rules[0]", "words"]),
        ("blank word", with("rules", words(json!(["ok", " - "]))), &["rules[0]", "words"]),
        ("bad pattern", with("rules", json!([{"kind": "regex", "pattern": "("}])), &["pattern"]),
        ("any pattern", with("rules", json!([{"kind": "regex", "pattern": "x*"}])), &["pattern"]),
        (
            "upside down",
            with("rules", json!([{"kind": "length", "min_words": 9, "max_words": 2}])),
            &["min_words", "found 9"],
        ),
        (
            "path",
            with("rules", json!([{"kind": "json_path", "path": "a.b", "equals": 1}])),
            &["path"],
        ),
        (
            "routes to itself",
            with("rules", json!([{"kind": "routes_to", "agent": "quigon"}])),
            &["rules[0]", "quigon"],
        ),
        (
            "met by anything",
            with(
                "rules",
                json!([
            {"kind": "no_refusal"}, {"kind": "language", "is": "en"}]),
            ),
            &["the-case"],
        ),
        ("a rule met by anything", vec![polite], &["the-case", "rules[1]", "without knowledge"]),
        ("met by the question itself", vec![echoed], &["the-case", "which port?"]),
        (
            "met by any number",
            with("rules", json!([{"kind": "number", "value": 8123, "tolerance": 9000}])),
            &["tolerance", "found 9000"],
        ),
        (
            "any length",
            with("rules", json!([{"kind": "length", "min_words": 0}])),
            &["rules[0]", "min_words"],
        ),
        (
            "no length",
            with("rules", json!([{"kind": "length", "max_words": 0}])),
            &["rules[0]", "max_words"],
        ),
        (
            "met by nothing",
            with(
                "rules",
                json!([
            {"kind": "number", "value": 8123}, {"kind": "contains_none", "words": ["8123"]}]),
            ),
            &["the-case", "pass", "expected this sample to score 1"],
        ),
        ("fail sample passes", with("fail", json!("It is 8123.")), &["fail", "score 0, found 1"]),
    ];
    for (what, cases, fragments) in table {
        let error = suite(cases).expect_err(what).to_string();
        assert!(error.starts_with("suite.json: "), "{what}: {error}");
        for fragment in fragments {
            assert!(error.contains(fragment), "{what}: {fragment:?} not in: {error}");
        }
    }
}

#[test]
fn bad_files_are_refused() {
    for (text, fragment) in [
        ("{", "line 1"),
        (r#"{"name": "n", "version": "1", "cases": []}"#, "at least one case"),
        (r#"{"name": "", "version": "1", "cases": [{}]}"#, "number 1 of the file"),
        (r#"{"name": "n", "version": "1", "cases": [], "extra": 1}"#, "extra"),
    ] {
        let error =
            Suite::parse("s.json", text).and_then(|s| s.check()).expect_err(text).to_string();
        assert!(error.contains("s.json") && error.contains(fragment), "{error}");
    }
}

#[test]
fn a_case_asked_twice_under_two_names_is_refused() {
    let mut twin = good_case("a");
    twin["id"] = json!("b");
    let error = suite(vec![good_case("a"), twin]).unwrap_err().to_string();
    assert!(error.contains("case b") && error.contains("same question as case a"), "{error}");
}

#[test]
fn the_digest_changes_with_the_content_and_with_nothing_else() {
    let one = suite(vec![good_case("a")]).unwrap();
    let same =
        Suite::parse("elsewhere.json", &serde_json::to_string_pretty(&one).unwrap()).unwrap();
    assert_eq!(one.digest(), same.digest());
    let mut changed = good_case("a");
    changed["weight"] = json!(2.0);
    assert_ne!(one.digest(), suite(vec![changed]).unwrap().digest());
}

#[test]
fn the_smoke_subset_covers_categories_and_spreads_over_agents() {
    let Council { agents, categories, .. } = Council::built_in();
    let mut cases = Vec::new();
    for category in categories.iter().map(|category| &category.id) {
        for agent in agents.iter().map(|agent| &agent.id) {
            let mut case = good_case(&format!("{category}-{agent}"));
            case["category"] = json!(category);
            case["agent"] = json!(agent);
            cases.push(case);
        }
    }
    let smoke = suite(cases).unwrap().smoke(3);
    smoke.check().unwrap();
    assert_eq!(smoke.cases.len(), 3 * categories.len());
    for category in categories {
        assert_eq!(smoke.cases.iter().filter(|c| c.category == category.id).count(), 3);
    }
    for agent in agents {
        let asked = smoke.cases.iter().filter(|c| c.agent == agent.id).count();
        assert!((2..=3).contains(&asked), "{} asked {asked} times", agent.id);
    }
}

#[test]
fn tools_are_part_of_the_question() {
    let mut case = Case::new("tool", "tool_calling", "windu", Tier::Gold, "Block it.");
    case.tools = vec![json!({"type": "function", "function": {"name": "block"}})];
    let digest = case.prompt_digest();
    assert_eq!(eval::Question::from(&case).tools, case.tools);
    case.tools.pop();
    assert_ne!(case.prompt_digest(), digest);
}

#[test]
fn the_schema_file_is_the_schema_of_the_types() {
    let written = include_str!("../suite.schema.json");
    let written: Value = serde_json::from_str(written).unwrap();
    // To renew the file: NIGHTSHIFT_RENEW=1 cargo test -p nightshift-eval --test suite
    if std::env::var_os("NIGHTSHIFT_RENEW").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/suite.schema.json");
        let text = serde_json::to_string_pretty(&Suite::json_schema()).unwrap();
        std::fs::write(path, text + "\n").unwrap();
        return;
    }
    assert_eq!(written, Suite::json_schema());
}
