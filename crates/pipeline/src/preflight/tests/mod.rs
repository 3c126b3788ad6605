//! One test per check: it passes on a valid night and fails with its cause planted. The cause is
//! planted in the input files if possible, else in the output of a stage.

mod large;
mod seed;
#[path = "../../../tests/support/mod.rs"]
mod support;
mod tonight;

use std::fs;

use support::Tiny;

use super::attempt::Attempt;
use super::checks::CHECKS;
use super::finding::{CheckStatus, Finding};
use super::rehearsal::Rehearsal;
use super::{Preflight, PreflightReport};
use crate::config::{ModelChoice, NightFile};

/// A tiny night with the model names of the seed's pipeline.
fn sanctum() -> Tiny {
    let tiny = Tiny::new();
    let models = "
model: gemma4
models:
  tiny: { model: model, data: { raw: raw.jsonl }, train: lora.yaml }
  gemma4:
    model: models/gemma-4-31B-it-4bit
    data: { raw: data/splits-gemma4 }
    train: configs/lora-gemma4-31b.yaml
  qwen:
    model: models/Qwen3.5-27B-Claude-Opus-Distilled-v2-4bit
    data: { raw: data/splits-carmack }
    train: configs/lora-carmack-overnight.yaml
";
    tiny.edit("night.yaml", "\nmodel: model\ndata: { raw: raw.jsonl }\n", models);
    tiny.edit("night.yaml", "train: lora.yaml\nexam", "exam");
    for folder in ["models", "configs", "data/splits-gemma4", "data/splits-carmack"] {
        fs::create_dir_all(tiny.path(folder)).unwrap();
    }
    for model in ["gemma-4-31B-it-4bit", "Qwen3.5-27B-Claude-Opus-Distilled-v2-4bit"] {
        std::os::unix::fs::symlink("../model", tiny.path(&format!("models/{model}"))).unwrap();
    }
    for recipe in ["lora-gemma4-31b.yaml", "lora-carmack-overnight.yaml"] {
        fs::copy(tiny.path("lora.yaml"), tiny.path(&format!("configs/{recipe}"))).unwrap();
    }
    tiny
}

fn choice() -> ModelChoice {
    ModelChoice::Named { name: "tiny".into(), by: ModelChoice::VARIABLE }
}

fn preflight(tiny: &Tiny) -> PreflightReport {
    let file = NightFile::load(tiny.path("night.yaml")).unwrap();
    Preflight::new(file, choice()).run(&mut |_| ()).unwrap()
}

/// The finding of a check for a rehearsal that `plant` has modified.
fn spoiled(name: &str, plant: impl FnOnce(&mut Rehearsal<'_>)) -> Finding {
    let tiny = sanctum();
    let file = NightFile::load(tiny.path("night.yaml")).unwrap();
    let choice = choice();
    let schedule = Attempt::Done(None);
    let mut rehearsal = Rehearsal::run(&file, &choice, None, schedule, &mut |_| ()).unwrap();
    let (.., run) = CHECKS.iter().find(|check| check.1 == name).unwrap();
    let sound = run(&rehearsal);
    assert!(!matches!(sound.status, CheckStatus::Failed | CheckStatus::NotRun), "{sound:?}");
    plant(&mut rehearsal);
    run(&rehearsal)
}

/// Plants a cause in the night's files. The check must fail with these words.
fn plant(name: &str, cause: impl FnOnce(&Tiny), words: &[&str]) {
    let tiny = sanctum();
    cause(&tiny);
    let report = preflight(&tiny);
    let check = report.checks.iter().find(|check| check.check == name).unwrap();
    assert_eq!(check.status, CheckStatus::Failed, "{name}: {check:#?}");
    for word in words {
        assert!(check.detail.contains(word), "{name}: no {word:?} in {}", check.detail);
    }
    assert!(!report.ok && report.line.contains("failed"), "{}", report.line);
    assert!(
        report.passed + report.warnings + report.failed + report.not_run <= report.checks.len()
    );
}

fn fails(finding: &Finding, words: &[&str]) {
    assert_eq!(finding.status, CheckStatus::Failed, "{finding:?}");
    for word in words {
        assert!(finding.detail.contains(word), "no {word:?} in {}", finding.detail);
    }
}

#[test]
fn a_valid_night_passes_the_seeds_21_checks() {
    let tiny = sanctum();
    let report = preflight(&tiny);
    assert_eq!((report.seed_passed, report.seed_checks), (21, 21), "{report:#?}");
    assert!(report.ok && report.not_run == 0, "{report:#?}");
    let names: Vec<_> = report.checks.iter().map(|check| check.check.as_str()).collect();
    assert_eq!(&names[15..19], ["Default=gemma4", "paths", "qwen/tiny fallback", "score fix"]);
    // The scratch folder is deleted, and the registry is unchanged.
    let mut left: Vec<_> = fs::read_dir(tiny.path("home"))
        .unwrap()
        .map(|item| item.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["adapters", "night.lock", "nights", "preflight.json"]);
}

#[test]
fn the_seeds_groups_have_its_numbers_of_checks() {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for (group, ..) in CHECKS.iter().filter(|check| check.0.is_of_the_seed()) {
        match counts.last_mut() {
            Some((suite, count)) if *suite == group.to_string() => *count += 1,
            _ => counts.push((group.to_string(), 1)),
        }
    }
    let seed = [
        ("Data Conversion", 3),
        ("Enrichment", 3),
        ("Training Config", 3),
        ("Model Availability", 4),
        ("Training Runs", 2),
        ("Pipeline Config", 4),
        ("Benchmark", 2),
    ];
    assert_eq!(counts, seed.map(|(suite, count)| (suite.to_owned(), count)));
}
