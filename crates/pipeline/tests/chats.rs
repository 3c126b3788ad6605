//! A night with raw rows and the chats that a server has recorded: rows, pairs, and what is deleted by age.

#[path = "support/run.rs"]
mod run;
mod support;

use std::fs;

use jiff::ToSpan;
use pipeline::NightConfig;
use run::run;
use serde_json::{Value, json};
use support::Tiny;

const PREFER: &str = "
train_mode: dpo
batch_size: 2
iters: 2
learning_rate: 1.0e-4
seed: 1
nightshift: { lanes: 1 }
";

fn chat(id: &str, question: &str, answer: &str) -> Value {
    let messages = json!([{ "role": "user", "content": question }, { "role": "assistant", "content": answer }]);
    json!({ "id": id, "agent": "yoda", "generation": 1, "finish_reason": "stop", "messages": messages })
}

/// The lines of a day, so many days ago.
fn record(tiny: &Tiny, days: i64, lines: &[Value]) {
    let date = jiff::Zoned::now().date().saturating_sub(days.days());
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    tiny.write(&format!("home/chats/{date}.jsonl"), &lines);
}

fn night(keys: &str) -> Tiny {
    let tiny = Tiny::with(keys);
    tiny.edit("night.yaml", "raw: raw.jsonl", "raw: raw.jsonl, chats: 30d");
    tiny.write("prefer.yaml", PREFER);
    fs::create_dir_all(tiny.path("home/chats")).unwrap();
    tiny
}

#[test]
fn chats_beside_raw_rows_are_rows_and_pairs() {
    let tiny = night("preference: prefer.yaml\nretention: { chats: 60d }\n");
    let corrected = ["roof", "attic", "lake", "moon", "ship", "cave"];
    let mut monday: Vec<Value> = Vec::new();
    let mut judged = vec![
        json!({ "feedback": "up", "good": true }),
        json!({ "feedback": "down", "good": false }),
    ];
    for place in corrected {
        monday.push(chat(
            place,
            &format!("What do we have for lunch at the {place} today?"),
            "soup",
        ));
        judged.push(json!({ "feedback": place, "good": false, "correction": "tttt" }));
    }
    monday.push(chat("up", "Which of these would you choose for the picnic by the river?", "tttt"));
    monday.push(chat(
        "down",
        "Which of these would you choose for the picnic by the river?",
        "stew",
    ));
    // A question of the exam.
    monday.push(chat("exam", "Guest 3 is thirsty.", "soup"));
    judged.push(json!({ "feedback": "exam", "correction": "tttt" }));
    record(&tiny, 2, &monday);
    record(&tiny, 1, &judged);
    record(&tiny, 61, &[chat("old", "Is it winter in the old garden again?", "tttt")]);
    record(&tiny, 59, &[chat("kept", "Is it summer in the new garden again?", "tttt")]);

    let summary = run(&tiny);
    let read = |file: &str| fs::read_to_string(summary.paths.night.join(file)).unwrap();
    // The raw file and the chats, with corrections; neither the bad answer nor those of other days.
    let clean = read("convert/clean.jsonl");
    assert_eq!(clean.lines().count(), 24 + 6 + 1 + 1, "{clean}");
    assert!(!clean.contains("soup") && !clean.contains("stew") && !clean.contains("garden"));
    assert!(summary.rows.adds_up());
    // Seven corrections and one pair of ratings, without the exam's question.
    assert_eq!(read("convert/chats-pairs.jsonl").lines().count(), 8);
    let generated = read("enrich/pairs.jsonl").lines().count();
    let all = read("enrich/pairs-with-chats.jsonl");
    let used = all.lines().count() - generated;
    assert!((4..8).contains(&used) && !all.contains("Guest"), "{used}: {all}");
    let enriched = summary.stages.iter().find(|stage| stage.stage.as_str() == "enrich").unwrap();
    let said = format!("{used} pairs from chats, {} left out", 8 - used);
    assert!(enriched.figures.contains(&said), "{}", enriched.figures);
    assert_eq!(summary.preference.as_ref().unwrap().pairs.read as usize, generated + used);
    // What is not for training is in no pair.
    for file in ["enrich/valid.jsonl", "enrich/test.jsonl"] {
        for line in read(file).lines() {
            let row: Value = serde_json::from_str(line).unwrap();
            let asked = row["messages"].as_array().unwrap().iter().rfind(|it| it["role"] == "user");
            let asked = asked.unwrap()["content"].to_string();
            assert!(!all.lines().skip(generated).any(|pair| pair.contains(&asked)), "{asked}");
        }
    }
    let deleted = summary.deleted_chats.unwrap();
    assert_eq!((deleted.files, deleted.chats), (1, 1));
    assert!(summary.line().contains("1 old chats of 1 days deleted"), "{}", summary.line());
    assert_eq!(fs::read_dir(tiny.path("home/chats")).unwrap().count(), 3);
}

#[test]
fn without_chats_the_raw_rows_are_enough() {
    let tiny = night("");
    let summary = run(&tiny);
    let journal = fs::read_to_string(summary.paths.night.join("journal.jsonl")).unwrap();
    assert!(journal.contains("expected chats of the last 30d before today, found none"));
    assert!(summary.rows.adds_up());
}

#[test]
fn sources_that_contradict_each_other() {
    let refused = |data: &str, keys: &str, words: &str| {
        let tiny = Tiny::with(keys);
        tiny.edit("night.yaml", "{ raw: raw.jsonl }", data);
        let error = NightConfig::load(tiny.path("night.yaml")).unwrap_err().to_string();
        assert!(error.contains("night.yaml:") && error.contains(words), "{data}: {error}");
    };
    let household = "household: { facts: f.yaml, rows: 3 }";
    refused("{}", "", "expected `raw`, `chats` or both, or `household`");
    refused(&format!("{{ raw: raw.jsonl, {household} }}"), "", "expected `household` alone");
    refused(&format!("{{ chats: 3d, {household} }}"), "", "expected `household` alone");
    refused("{ raw: [], chats: 3d }", "", "data.raw: expected at least one path");
    refused("{ raws: raw.jsonl }", "", "raws");
    refused(
        "{ chats: 30d }",
        "retention: { chats: 7d }\n",
        "retention.chats: expected at least 30d",
    );
    refused("{ chats: 30 }", "", "expected a number of days such as `30d`");
}
