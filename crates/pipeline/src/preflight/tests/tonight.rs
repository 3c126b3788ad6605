//! The checks of the groups Machine and Tonight.

use std::fs;

use super::super::attempt::Attempt;
use super::super::checks::machine::judge_clock;
use super::super::finding::CheckStatus;
use super::support::Tiny;
use super::{fails, plant, preflight, sanctum, spoiled};
use crate::config::NightFile;
use crate::home::Home;
use crate::journal::Entry;
use crate::lock::Lock;
use crate::registry::{Registry, Requester};
use crate::schedule::{JobStatus, LABEL, ScheduleStatus};
use crate::stages::StageName;

#[test]
fn disk() {
    plant(
        "disk",
        |tiny| tiny.edit("night.yaml", "gate:", "budgets: { disk: 1000000TB }\ngate:"),
        &["free", "needed"],
    );
}

#[test]
fn memory() {
    plant(
        "memory",
        |tiny| tiny.edit("night.yaml", "gate:", "budgets: { memory: 1000000TB }\ngate:"),
        &["budgets.memory"],
    );
}

#[test]
fn lock() {
    let tiny = sanctum();
    let home = Home::open(tiny.path("home")).unwrap();
    let _lock = Lock::acquire(&home.lock_file()).unwrap();
    let report = preflight(&tiny);
    let check = report.checks.iter().find(|check| check.check == "lock").unwrap();
    assert_eq!(check.status, CheckStatus::Failed);
    assert!(check.detail.contains(&std::process::id().to_string()), "{}", check.detail);
}

#[test]
fn clock() {
    let now = |text: &str| text.parse::<jiff::Zoned>().unwrap();
    let evening = now("2026-04-08T22:00:00-04:00[America/Montreal]");
    fails(&judge_clock(&evening, Some("2026-04-10".parse().unwrap())), &["2026-04-10"]);
    assert_eq!(
        judge_clock(&evening, Some("2026-04-08".parse().unwrap())).status,
        CheckStatus::Passed
    );
    for (evening, word) in [
        ("2026-10-31T22:00:00-04:00[America/Montreal]", "twice"),
        ("2026-03-28T22:00:00+00:00[Europe/London]", "skipped"),
    ] {
        let finding = judge_clock(&now(evening), None);
        assert!(finding.detail.contains(word), "{evening}: {finding:?}");
    }
}

#[test]
fn time() {
    let tiny = sanctum();
    tiny.edit("night.yaml", "gate:", "budgets: { wall_clock: 10ms, not_after: \"07:30\" }\ngate:");
    let report = preflight(&tiny);
    let check = report.checks.iter().find(|check| check.check == "time").unwrap();
    assert_eq!(check.status, CheckStatus::Warning, "{check:?}");
    for words in ["train ", ", exams at most ", "started at 01:00", "latest start", "cut off after"]
    {
        assert!(check.detail.contains(words), "{words}: {}", check.detail);
    }
}

#[test]
fn schedule() {
    let job = |suffix: &str, loaded| JobStatus {
        label: format!("{LABEL}{suffix}"),
        loaded,
        detail: if loaded { "next Mon 01:00".into() } else { "inactive".into() },
    };
    let status = |jobs, stale| Attempt::Done(Some(ScheduleStatus { jobs, stale }));
    let finding = spoiled("schedule", |rehearsal| {
        rehearsal.schedule = status(vec![job("", true), job(".failsafe", false)], vec![]);
    });
    fails(&finding, &["failsafe", "inactive"]);
    let finding = spoiled("schedule", |rehearsal| {
        rehearsal.schedule = status(vec![job("", true)], vec![format!("{LABEL}.plist")]);
    });
    fails(&finding, &["plist is not what was installed"]);
    let finding =
        spoiled("schedule", |rehearsal| rehearsal.schedule = status(vec![job("", false)], vec![]));
    assert_eq!(finding.status, CheckStatus::Warning, "starting by hand is a choice");
}

#[test]
fn config_lints() {
    plant(
        "config lints",
        |tiny| tiny.edit("lora.yaml", "iters: 12", "iters: 2"),
        &["rows_unseen: ", "rows are seen"],
    );
    // What is intended is allowed by name, with the reason.
    let with = |keys: &str| {
        let tiny = sanctum();
        tiny.edit("lora.yaml", "iters: 12", "iters: 2");
        tiny.edit("night.yaml", "gate:", &format!("preflight: {{ allow: {{ {keys} }} }}\ngate:"));
        tiny
    };
    let report = preflight(&with("rows_unseen: a short night, run_outlasts_decay: as ever"));
    let check = report.checks.iter().find(|check| check.check == "config lints").unwrap();
    assert_eq!(check.status, CheckStatus::Passed, "{check:?}");
    assert!(check.detail.contains("rows_unseen (a short night)"), "{check:?}");
    assert!(check.detail.contains("run_outlasts_decay (not needed)"), "{check:?}");
    for (keys, words) in [
        ("rows_unsee: typo", "rows_unseen"),
        ("rows_unseen: ' '", "preflight.allow.rows_unseen: expected the reason"),
    ] {
        let error = NightFile::load(with(keys).path("night.yaml")).unwrap_err().to_string();
        assert!(error.contains("night.yaml") && error.contains(words), "{error}");
    }
}

/// A device that cannot take the exam is told of in the evening.
#[test]
fn memory_for_exams() {
    plant(
        "memory",
        |tiny| tiny.edit("lora.yaml", "{ lanes: 1 }", "{ lanes: 1, memory_limit: 100KB }"),
        &["for the exam"],
    );
}

#[test]
fn notifications() {
    plant(
        "notifications",
        |tiny| {
            let keys = r#"notify: { webhook: "https://ntfy.sh/${NO_SUCH_TOPIC}", format: ntfy }"#;
            tiny.edit("night.yaml", "gate:", &format!("{keys}\ngate:"));
        },
        &["notify.webhook: expected the environment variable NO_SUCH_TOPIC"],
    );
    assert_eq!(spoiled("notifications", |_| ()).status, CheckStatus::NotNeeded);
}

#[test]
fn preference_training() {
    const CHECK: &str = "preference training";
    let with = |tiny: &Tiny, recipe: &str| {
        tiny.write("prefer.yaml", recipe);
        tiny.edit(
            "night.yaml",
            "train: lora.yaml }",
            "train: lora.yaml, preference: prefer.yaml }",
        );
    };
    plant(CHECK, |tiny| with(tiny, "seed: 1"), &["prefer.yaml", "train_mode", "preference loss"]);
    plant(
        CHECK,
        |tiny| with(tiny, "train_mode: kto\nlora_parameters: { rank: 2 }"),
        &["prefer.yaml:2", "lora_parameters.rank", "expected 8"],
    );
    plant(
        CHECK,
        |tiny| {
            with(tiny, "train_mode: dpo\niters: 4");
            tiny.edit("night.yaml", "gate:", "budgets: { memory: 1KB }\ngate:");
        },
        &["pairs trained", "1.0 kB allowed"],
    );
    let found = |recipe: &str| {
        let tiny = sanctum();
        with(&tiny, recipe);
        let checks = preflight(&tiny).checks;
        let check = checks.into_iter().find(|check| check.check == CHECK).unwrap();
        (check.status, check.detail)
    };
    let (status, detail) = found("train_mode: dpo\niters: 4\nnum_layers: -1");
    assert_eq!(status, CheckStatus::Passed, "{detail}");
    assert!(detail.contains("pairs trained, 4 updates"), "{detail}");
    let (status, detail) = found("train_mode: dpo\niters: 4\nmax_seq_length: 5");
    assert_eq!(status, CheckStatus::Warning, "{detail}");
    assert!(detail.contains("longer than max_seq_length: the supervised adapter"), "{detail}");
    // Without the key there is nothing to check.
    assert!(matches!(spoiled(CHECK, |_| ()).status, CheckStatus::NotNeeded));
}

/// What only a night with `replay` can do is not what its rehearsal is about.
#[test]
fn settings_that_need_replay_rows_pass() {
    let tiny = sanctum();
    tiny.edit(
        "lora.yaml",
        "{ lanes: 1 }",
        "{ lanes: 1, kl: { weight: 0.5, on: replay }, retention: {} }",
    );
    let report = preflight(&tiny);
    assert!(report.ok, "{report:#?}");
}

#[test]
fn adapter_keys() {
    plant(
        "adapter keys",
        |tiny| {
            let trained = tiny.path("other");
            fs::create_dir(&trained).unwrap();
            let config = serde_json::json!({
                "fine_tune_type": "lora", "num_layers": 1,
                "lora_parameters": { "rank": 1, "scale": 1.0 },
            });
            fs::write(trained.join("adapter_config.json"), config.to_string()).unwrap();
            let shape = vec![1];
            let view =
                safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape, &[0; 4]);
            let tensors = [("model.layers.7.mlp.experts.lora_a", view.unwrap())];
            let bytes = safetensors::serialize(tensors, None).unwrap();
            fs::write(trained.join("adapters.safetensors"), bytes).unwrap();
            let home = Home::open(tiny.path("home")).unwrap();
            let registry = Registry::new(&home).find(tiny.path("model").to_str()).unwrap();
            let adapter = registry.nominate(&trained).unwrap();
            registry.promote(adapter, Requester::Operator, "of another model").unwrap();
        },
        &["champion", "model.layers.7.mlp.experts.lora_a"],
    );
}

#[test]
fn suite_check() {
    plant("suite check", |tiny| tiny.edit("suite.json", "\"held_out\"", "\"gold\""), &["held-out"]);
}

#[test]
fn contamination() {
    let finding = spoiled("contamination", |rehearsal| {
        let Attempt::Done(enriched) = &mut rehearsal.enriched else { panic!() };
        enriched.splits.contaminated = vec!["domain-0".into()];
    });
    fails(&finding, &["too similar to: 1"]);
    assert!(!finding.detail.contains("domain-0"), "{}", finding.detail);
}

#[test]
fn dress_rehearsal() {
    plant(
        "dress rehearsal",
        |tiny| tiny.edit("suite.json", "\"held_out\"", "\"gold\""),
        &["held-out"],
    );
}

#[test]
fn previous_night() {
    let tiny = sanctum();
    let home = Home::open(tiny.path("home")).unwrap();
    let night = crate::nights::NightId::new(1, &jiff::Zoned::now());
    fs::create_dir(night.dir(&home)).unwrap();
    let mut journal = night.journal(&home).unwrap();
    let failed =
        Entry::StageFailed { stage: StageName::Train, message: "the loss is NaN".to_owned() };
    journal.append(failed).unwrap();
    let report = preflight(&tiny);
    let check = report.checks.iter().find(|check| check.check == "previous night").unwrap();
    assert_eq!(check.status, CheckStatus::Warning);
    assert!(check.detail.contains("the loss is NaN"), "{}", check.detail);
    fs::write(night.dir(&home).join("journal.jsonl"), "not json\n").unwrap();
    let report = preflight(&tiny);
    assert!(!report.ok && report.line.contains("previous night"), "{}", report.line);
}
