//! What a night measures of what a candidate has forgotten, on a tiny model.

#[path = "support/run.rs"]
mod run;
mod support;

use std::fs;

use pipeline::{Outcome, Summary};
use run::run;
use serde_json::Value;
use support::Tiny;

fn rule<'a>(night: &'a Summary, name: &str) -> Option<&'a eval::RuleVerdict> {
    night.verdict.rules.iter().find(|rule| rule.rule == name)
}

#[test]
fn a_candidate_that_has_moved_far_from_the_base_is_refused_for_forgetting() {
    let forgetting = "forgetting: { questions: 16, prompts: 8, max_tokens: 12 }\n";
    let tiny = Tiny::with(forgetting);
    let night = run(&tiny);
    // The random model is taught to say one word whatever it is asked.
    let found = rule(&night, "forgetting.kl").unwrap();
    assert!(!found.passed && found.value > 0.25, "{found:?}");
    assert!(found.sentence.contains("8 neutral prompts (96 tokens)"), "{}", found.sentence);
    assert_eq!(night.outcome, Outcome::Refused);
    assert!(night.verdict.reason.contains("forgetting.kl"), "{}", night.verdict.reason);
    let page = fs::read_to_string(&night.paths.report).unwrap();
    assert!(page.contains("KL to the base"));
    // It answers none of the questions right, so that there is nothing to lose.
    assert!(rule(&night, "forgetting.general").is_none());
    let answers = fs::read_to_string(night.paths.night.join("exam/base/answers.jsonl")).unwrap();
    let general = answers.lines().filter(|line| line.contains("\"category\":\"general\"")).count();
    assert_eq!((general, answers.lines().count()), (16, 30));

    // With room for it, the same candidate is promoted, and the next night measures the champion too.
    tiny.write(
        "gate.yaml",
        "held_out: 0.85\nover_refusal: { margin: 0.3 }\nforgetting: { kl: 1000, kl_step: 1 }\n",
    );
    let promoted = run(&tiny);
    assert_eq!(promoted.outcome, Outcome::Promoted, "{}", promoted.verdict);
    tiny.edit("gate.yaml", "kl_step: 1", "kl_step: 2");
    let next = run(&tiny);
    let (before, after) = (rule(&promoted, "forgetting.kl"), rule(&next, "forgetting.kl"));
    let (before, after) = (before.unwrap(), after.unwrap());
    assert_eq!(after.threshold, before.value + 2.0, "the ceiling comes from the champion");
    assert_eq!(after.value, before.value, "the same training gives the same adapter");
    assert!(after.sentence.contains("the champion's is"), "{}", after.sentence);
}

#[test]
fn without_the_key_nothing_is_asked_and_nothing_judged() {
    let tiny = Tiny::with("");
    let night = run(&tiny);
    assert!(night.verdict.rules.iter().all(|rule| !rule.rule.starts_with("forgetting")));
    assert!(!tiny.path("home/replay").exists());
}

#[test]
fn everyday_questions_and_measured_prompts_are_not_trained() {
    let night = "
forgetting: { questions: 2, prompts: 60, max_tokens: 1 }
replay: { share: 0.7, persona: none, sampling: { temperature: 1.0, max_tokens: 200 } }
";
    let tiny = Tiny::with(night);
    // A row with a question of the exam that tonight's part does not have.
    let row = r#"{"messages": [{"role": "user", "content": "How many chromosomes does a human body cell normally have?"}, {"role": "assistant", "content": "46."}], "agent": "yoda"}"#;
    let raw = fs::read_to_string(tiny.path("raw.jsonl")).unwrap();
    tiny.write("raw.jsonl", &format!("{raw}{row}\n"));
    let night = run(&tiny);
    let folder = night.paths.night.join("enrich");
    let report: Value =
        serde_json::from_str(&fs::read_to_string(folder.join("report.json")).unwrap()).unwrap();
    let leaks = report["leaks"].as_array().unwrap();
    assert!(leaks.iter().any(|leak| leak["case"] == "general-human-chromosomes"), "{leaks:?}");

    let measured = enrich::neutral::NeutralPrompts::embedded().unwrap().in_order(0);
    let measured: Vec<&str> = measured[..60].iter().map(|prompt| prompt.text.as_str()).collect();
    let rows =
        ["train.jsonl", "valid.jsonl"].map(|name| fs::read_to_string(folder.join(name)).unwrap());
    let rows: Vec<Value> = rows
        .iter()
        .flat_map(|text| text.lines())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let replayed: Vec<_> = rows.iter().filter(|row| row["kind"] == "replay").collect();
    assert!(replayed.len() > 30, "{}", replayed.len());
    for row in replayed {
        let prompt = row["messages"][0]["content"].as_str().unwrap();
        assert!(!measured.contains(&prompt), "{prompt}");
    }
}
