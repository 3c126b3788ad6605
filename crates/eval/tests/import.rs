//! Exams of other tools: what they ask and assert, and that nothing is dropped without a word.

use std::path::PathBuf;

use eval::{Imported, Scorer, Suite};

fn import(name: &str, text: &str) -> eval::Result<Imported> {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::write(dir.path().join("prompt.txt"), "Say {{word}} in French.").unwrap();
    Suite::open(path)
}

fn score(imported: &Imported, at: usize, answer: &str) -> f64 {
    let suite = &imported.suite;
    Scorer::of_suite(&suite.cases, suite.council()).unwrap()[at].score(answer).value
}

fn left_out(imported: &Imported) -> Vec<String> {
    imported.left_out.iter().map(ToString::to_string).collect()
}

#[test]
fn assertions_of_promptfoo_mean_what_they_mean_there() {
    // Each assertion, an answer that meets it and one that does not.
    let table = [
        ("{type: contains, value: Paris}", "It is Paris.", "It is paris."),
        ("{type: icontains, value: Paris}", "It is paris.", "It is Rome."),
        ("{type: not-contains, value: Rome}", "It is Paris.", "It is Rome."),
        ("{type: not-icontains, value: Rome}", "It is Paris.", "It is ROME."),
        ("{type: contains-any, value: [Paris, Lyon]}", "In Lyon.", "In lyon."),
        ("{type: icontains-any, value: 'Paris, Lyon'}", "In lyon.", "In Nice."),
        ("{type: not-contains-any, value: [Rome, Milan]}", "In Lyon.", "In Milan."),
        ("{type: contains-all, value: [Paris, Lyon]}", "Lyon and Paris", "paris"),
        ("{type: icontains-all, value: [Paris, Lyon]}", "lyon and paris", "Nice"),
        ("{type: starts-with, value: Yes}", "Yes, it is.", "It is, yes."),
        ("{type: equals, value: Paris}", " Paris\n", "Paris."),
        ("{type: equals, value: 42}", "42", "420"),
        ("{type: not-equals, value: Paris}", "Paris!", "Paris"),
        (r#"{type: regex, value: '\d{4}'}"#, "In 1999.", "In 99."),
        (r#"{type: not-regex, value: '\d{4}'}"#, "In 99.", "In 1999."),
        ("{type: is-json}", r#"{"city": "Paris"}"#, r#"Here: {"city": "Paris"}"#),
        ("{type: is-json}", "```json\n[1, 2]\n```", "[1, 2"),
        ("{type: contains-json}", r#"Here: {"city": "Paris"}"#, "Here: city"),
        ("{type: is-refusal}", "I can't help with that.", "Sure, it is Paris."),
        ("{type: not-is-refusal}", "Sure, it is Paris.", "I can't help with that."),
        ("{type: contains, value: '{{answer}}'}", "It is Paris.", "It is Rome."),
    ];
    for (assertion, right, wrong) in table {
        let text = format!(
            "prompts: ['Name the capital of {{{{country}}}}.']\ntests:\n  - vars: {{country: France, answer: Paris}}\n    assert: [{assertion}]\n"
        );
        let imported = import("promptfooconfig.yaml", &text).unwrap();
        assert!(imported.left_out.is_empty(), "{assertion}: {:?}", imported.left_out);
        assert_eq!(imported.suite.cases[0].turns[0].content, "Name the capital of France.");
        assert_eq!(score(&imported, 0, right), 1.0, "{assertion} {right}");
        assert_eq!(score(&imported, 0, wrong), 0.0, "{assertion} {wrong}");
    }
}

#[test]
fn what_cannot_be_expressed_is_named_and_the_rest_is_kept() {
    let text = r#"
description: A mix.
prompts:
  - file://prompt.txt
  - '[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Translate {{word}}."}]'
  - file://../secret.txt
  - "{% if x %}Hello{% endif %}"
providers: [openai:gpt-4o]
defaultTest:
  assert:
    - {type: not-icontains, value: sorry}
tests:
  - vars: {word: [cat, dog]}
    assert:
      - {type: icontains, value: ch}
      - {type: llm-rubric, value: is polite}
  - description: only a rubric
    vars: {word: bird}
    threshold: 0.5
    assert:
      - {type: similar, value: oiseau, threshold: 0.8}
      - {type: contains, value: oiseau, weight: 2}
      - {type: regex, value: '(?=x)x'}
      - {type: is-json, value: {type: object}}
      - {type: javascript, value: output.length > 3}
  - vars: {other: x}
    assert: [{type: contains, value: x}]
"#;
    let imported = import("promptfooconfig.yaml", text).unwrap();
    let cases: Vec<(&str, &str, usize)> = imported
        .suite
        .cases
        .iter()
        .map(|case| (case.id.as_str(), case.turns[0].content.as_str(), case.rules.len()))
        .collect();
    let expected = [
        ("tests[0]", "Say cat in French.", 2),
        ("tests[0]-2", "Say dog in French.", 2),
        ("tests[0]-3", "Translate cat.", 2),
        ("tests[0]-4", "Translate dog.", 2),
        ("only a rubric", "Say bird in French.", 1),
        ("only a rubric-2", "Translate bird.", 1),
    ];
    assert_eq!(cases, expected);
    assert_eq!(imported.suite.cases[2].system, "Be brief.");
    let named = left_out(&imported);
    for part in [
        "prompts[2]: expected a file in the configuration's folder",
        "tests[0].assert[1] (llm-rubric): this kind",
        "tests[0].prompts[3]: template statements",
        "tests[1].threshold: the key is not used",
        "tests[1].assert[0] (similar): the key \"threshold\"",
        "tests[1].assert[1] (contains): a weight",
        "tests[1].assert[2] (regex): ",
        "tests[1].assert[3] (is-json): a JSON schema",
        "tests[1].assert[4] (javascript): this kind",
        "tests[2].prompts[0]: expected a variable of the test, found \"word\"",
    ] {
        let found = named.iter().filter(|left| left.starts_with(part)).count();
        assert_eq!(found, 1, "{part} in {named:#?}");
    }
}

#[test]
fn jsonl_of_prompts_and_expected_answers_is_read() {
    let text = r#"{"prompt": "Capital of France?", "expected": "Paris"}
{"id": "legs", "prompt": "How many legs has a spider?", "expected": 8, "source": "school"}
{"prompt": "A primary colour?", "expected": ["red", "blue", "yellow"], "system": "Be brief."}

{"prompt": "Half of five?", "expected": "2.5"}
{"prompt": "Nothing expected"}
{"prompt": 5, "expected": "x"}
"#;
    let imported = import("exam.jsonl", text).unwrap();
    let ids: Vec<&str> = imported.suite.cases.iter().map(|case| case.id.as_str()).collect();
    assert_eq!(ids, ["line-1", "legs", "line-3", "line-5"]);
    assert_eq!(score(&imported, 0, "It is Paris."), 1.0);
    assert_eq!(score(&imported, 0, "Parisian"), 0.0);
    assert_eq!(score(&imported, 1, "Eight."), 1.0);
    assert_eq!(score(&imported, 2, "Blue"), 1.0);
    assert_eq!(score(&imported, 3, "2.5"), 1.0);
    let expected = [
        "line 2.source: the key is not used",
        "line 6.expected: expected a text, a number or a list of texts, found null",
        "line 7.prompt: expected a text, found 5",
    ];
    assert_eq!(left_out(&imported), expected);
}

#[test]
fn files_that_are_no_exam_say_what_is_wrong_where() {
    for (name, text, part) in [
        ("a.yaml", "prompts: [x\n", "a.yaml"),
        ("a.yaml", "prompts: [x]\n", "tests: expected a list of tests, found none"),
        ("a.yaml", "prompts: [x]\ntests: file://tests.csv\n", "found \"file://tests.csv\""),
        ("a.yaml", "prompts: [x]\ntests: [{assert: []}]\n", "tests[0]: the test has no assertion"),
        ("a.jsonl", "{\"prompt\": \"a\", \"expected\": \"b\"}\n[1]\n", "a.jsonl: line 2"),
        ("a.jsonl", "", "expected at least one test"),
        ("a.csv", "a,b\n", "found \"csv\""),
    ] {
        let error = import(name, text).unwrap_err().to_string();
        assert!(error.contains(part), "{name}: {error}");
    }
}

#[test]
fn any_text_is_imported_or_refused() {
    use proptest::prelude::*;
    proptest!(ProptestConfig::with_cases(200), |(text in "(prompts: |tests:|\\n  - |vars: |assert: |\\{\\{|\\}\\}|type: contains|value: |[a-z\\[\\]{},: \\n'\"]|\\PC)*")| {
        let _ = import("a.yaml", &text);
        let _ = import("a.jsonl", &text);
    });
}
