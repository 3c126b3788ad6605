//! Replay: the base model's own answers among the training rows of a tiny model's night.

#[path = "support/run.rs"]
mod run;
mod support;

use std::fs;
use std::path::Path;

use pipeline::{Event, Night, NightConfig, Summary};
use run::run;
use serde_json::Value;
use support::Tiny;

/// A random model ends an answer by chance only, so it is sampled.
const REPLAY: &str =
    "replay: { share: 0.25, persona: mixed, sampling: { temperature: 1.0, max_tokens: 120 } }\n";

fn rows(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Training and validation rows.
fn all_rows(night: &Summary) -> Vec<Value> {
    let file = |name: &str| rows(&night.paths.night.join("enrich").join(name));
    [file("train.jsonl"), file("valid.jsonl")].concat()
}

fn replayed(rows: &[Value]) -> Vec<&Value> {
    rows.iter().filter(|row| row["kind"] == "replay").collect()
}

/// The only file of answers in the home.
fn answers(tiny: &Tiny) -> std::path::PathBuf {
    let files: Vec<_> = fs::read_dir(tiny.path("home/replay")).unwrap().collect();
    assert_eq!(files.len(), 1);
    files.into_iter().next().unwrap().unwrap().path()
}

#[test]
fn a_share_of_the_rows_is_answered_by_the_base_model() {
    let tiny = Tiny::with(REPLAY);
    let night = run(&tiny);
    let all = all_rows(&night);
    let own = replayed(&all);
    let share = own.len() as f64 / all.len() as f64;
    assert!((share - 0.25).abs() < 0.03, "{share:.3} of {} rows", all.len());
    let with_persona = own.iter().filter(|row| row["messages"][0]["role"] == "system").count();
    assert!(0 < with_persona && with_persona < own.len(), "{with_persona} of {}", own.len());
    let report: Value = serde_json::from_str(
        &fs::read_to_string(night.paths.night.join("enrich/report.json")).unwrap(),
    )
    .unwrap();
    assert_eq!(report["mix"]["by_kind"]["replay"], own.len());
    let figures = &night.stages[1].figures;
    assert!(figures.contains(&format!(", {} replayed", own.len())), "{figures}");

    // The next night finds the answers in the home.
    tiny.edit("night.yaml", "data:", "when_unchanged: next_seed\ndata:");
    let before = fs::read(answers(&tiny)).unwrap();
    let next = run(&tiny);
    assert_ne!(next.night, night.night);
    assert_eq!(all_rows(&next), all);
    assert_eq!(fs::read(answers(&tiny)).unwrap(), before);
}

#[test]
fn training_holds_the_model_to_the_base_on_replayed_answers() {
    let tiny = Tiny::with(REPLAY);
    let recipe = fs::read_to_string(tiny.path("lora.yaml")).unwrap();
    let kl = "nightshift: { lanes: 1, kl: { weight: 0.5, on: replay } }";
    tiny.write("lora.yaml", &recipe.replace("nightshift: { lanes: 1 }", kl));
    let night = run(&tiny);
    let metrics = rows(&night.paths.night.join("train/metrics.jsonl"));
    let held: u64 = metrics.iter().filter_map(|record| record["kl"]["tokens"].as_u64()).sum();
    assert!(held > 0, "{metrics:#?}");
    // Without replayed answers there is nothing to hold.
    let plain = Tiny::new();
    plain.write("lora.yaml", &fs::read_to_string(tiny.path("lora.yaml")).unwrap());
    let config = NightConfig::load(plain.path("night.yaml")).unwrap();
    let error = Night::start_or_resume(config).unwrap().run(&mut |_: Event<'_>| ()).unwrap_err();
    assert!(error.to_string().contains("nightshift.kl.on"), "{error}");
}

#[test]
fn rows_that_are_used_as_they_are_are_joined_too() {
    let tiny = Tiny::with(REPLAY);
    tiny.edit("night.yaml", "enrich: enrich.yaml", "enrich: none");
    let night = run(&tiny);
    let all = all_rows(&night);
    let own = replayed(&all).len();
    assert!((own as f64 / all.len() as f64 - 0.25).abs() < 0.03, "{own} of {}", all.len());
    let valid = rows(&night.paths.night.join("enrich/valid.jsonl"));
    assert!(replayed(&valid).is_empty(), "given validation rows stay as they are");
}

#[test]
fn a_torn_log_gives_the_same_rows() {
    let whole = Tiny::with(REPLAY);
    let night = run(&whole);
    let log = fs::read(answers(&whole)).unwrap();
    let name = answers(&whole).file_name().unwrap().to_owned();
    for kept in [0, log.len() / 3, log.len() - 2] {
        let torn = Tiny::with(REPLAY);
        fs::create_dir_all(torn.path("home/replay")).unwrap();
        fs::write(torn.path("home/replay").join(&name), &log[..kept]).unwrap();
        assert_eq!(all_rows(&run(&torn)), all_rows(&night), "after {kept} bytes");
    }
}

#[test]
fn a_share_of_0_is_a_night_without_replay() {
    let (off, none) = (Tiny::with("replay: { share: 0 }\n"), Tiny::with(""));
    assert_eq!(all_rows(&run(&off)), all_rows(&run(&none)));
    assert!(!off.path("home/replay").exists());
}

#[test]
fn own_prompts_are_asked_and_exam_questions_among_them_left_out() {
    let own = REPLAY.replace("persona: mixed", "persona: none, prompts: own.yaml, limit: 64");
    // Long enough that few answers are cut off.
    let own = own.replace("max_tokens: 120", "max_tokens: 600").replace("0.25", "0.7");
    let tiny = Tiny::with(&own);
    tiny.write(
        "own.yaml",
        "own: [Guest 3 is thirsty., Why does the kettle sing in the morning?]\n",
    );
    let night = run(&tiny);
    let report = fs::read_to_string(night.paths.night.join("enrich/report.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["leaks"].as_array().unwrap().len(), 1, "{}", report["leaks"]);
    let all = all_rows(&night);
    let asked: Vec<&str> =
        replayed(&all).iter().map(|row| row["messages"][0]["content"].as_str().unwrap()).collect();
    assert!(!asked.contains(&"Guest 3 is thirsty."), "{asked:#?}");
    assert!(!asked.is_empty());
    let log = fs::read_to_string(answers(&tiny)).unwrap();
    assert!(log.lines().count() <= 2, "64 prompts are two batches");
}

#[test]
fn answers_that_are_cut_off_are_not_trained() {
    let tiny = Tiny::with("replay: { sampling: { max_tokens: 1 }, limit: 40 }\n");
    let night = run(&tiny);
    assert!(replayed(&all_rows(&night)).is_empty());
    let page = fs::read_to_string(&night.paths.report).unwrap();
    assert!(page.contains("of 40 prompts asked, 40 answers were cut off"), "the report names them");
}

#[test]
fn values_out_of_their_range_are_refused() {
    for (replay, message) in [
        ("{ share: 1.0 }", "replay.share: expected a share from 0 to less than 1, found 1"),
        ("{ share: -0.1 }", "replay.share: expected a share from 0 to less than 1, found -0.1"),
        ("{ limit: 0 }", "replay.limit: expected at least 1, found 0"),
        ("{ sampling: { max_tokens: 0 } }", "replay.sampling.max_tokens: expected at least 1"),
        ("{ persona: some }", "night.yaml"),
        ("{ parts: 3 }", "parts"),
    ] {
        let tiny = Tiny::with(&format!("replay: {replay}\n"));
        let error = NightConfig::load(tiny.path("night.yaml")).unwrap_err().to_string();
        assert!(error.contains("night.yaml") && error.contains(message), "{error}");
    }
    let tiny = Tiny::with("replay: { prompts: none.yaml }\n");
    let error = NightConfig::load(tiny.path("night.yaml")).unwrap().check().unwrap_err();
    assert!(error.to_string().contains("none.yaml"), "{error}");
}
