//! `doctor` finds what was planted, and says what to do; `abandon` does what it says.

#[path = "../../pipeline/tests/support/mod.rs"]
mod support;

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;
use support::Tiny;

fn nightshift(tiny: &Tiny, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nightshift"));
    command.env("HF_HOME", tiny.path("hub")).env("HOME", tiny.path("."));
    command
        .env_remove("HF_HUB_CACHE")
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("NIGHTSHIFT_KERNELS");
    let config = tiny.path("night.yaml");
    command.args(arguments).arg("--config").arg(config).output().unwrap()
}

/// The findings of `doctor` about one thing, and its exit code.
fn about(tiny: &Tiny, thing: &str) -> (Vec<Value>, Option<i32>) {
    let output = nightshift(tiny, &["doctor", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = report["findings"].as_array().unwrap().iter();
    (found.filter(|finding| finding["about"] == thing).cloned().collect(), output.status.code())
}

#[test]
fn a_fresh_machine_has_no_problem() {
    let tiny = Tiny::new();
    let output = nightshift(&tiny, &["doctor"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    for thing in ["program", "device", "kernels", "BLAS", "memory", "disk", "models", "home"] {
        assert!(said.contains(thing), "no {thing}: {said}");
    }
    assert!(!tiny.path("home").exists(), "looking makes no home");
}

#[test]
fn an_unfinished_night_is_found_and_can_be_abandoned() {
    let tiny = Tiny::new();
    tiny.edit("night.yaml", "gate:", "budgets: { disk: 900TB }\ngate:");
    assert_eq!(nightshift(&tiny, &["night"]).status.code(), Some(3));
    let (found, code) = about(&tiny, "last night");
    assert_eq!((&found[0]["state"], code), (&"advice".into(), Some(0)));
    assert!(found[0]["remedy"].as_str().unwrap().contains("nightshift abandon"), "{found:?}");

    let output = nightshift(&tiny, &["abandon", "--reason", "yesterday's rows", "--json"]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(told["abandoned"].as_str().unwrap().starts_with("0001-"), "{told}");
    assert_eq!(about(&tiny, "last night").0[0]["state"], "good");
    let output = nightshift(&tiny, &["abandon", "--json"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["abandoned"].is_null());
}

#[test]
fn damage_is_a_problem_with_a_remedy() {
    let tiny = Tiny::new();
    fs::create_dir_all(tiny.path("home/nights/0001-2026-04-08")).unwrap();
    tiny.write("home/registry.json", "{ half");
    tiny.write("home/nights/0001-2026-04-08/journal.jsonl", "not json\n");
    fs::create_dir_all(tiny.path("hub/hub/models--owner--name/blobs")).unwrap();
    tiny.write("hub/hub/models--owner--name/blobs/1.incomplete", "");
    for (thing, state, words) in [
        ("registry", "problem", "registry.last.json"),
        ("last night", "problem", "move that night's folder"),
        ("models", "advice", "nightshift fetch"),
    ] {
        let (found, code) = about(&tiny, thing);
        assert_eq!((&found[0]["state"], code), (&state.into(), Some(1)), "{found:?}");
        assert!(found[0]["remedy"].as_str().unwrap().contains(words), "{found:?}");
    }
}

#[test]
fn a_file_in_place_of_the_home_is_a_problem() {
    let tiny = Tiny::new();
    tiny.write("home", "a file");
    let (found, code) = about(&tiny, "home");
    assert_eq!((&found[0]["state"], code), (&"problem".into(), Some(1)), "{found:?}");
}

#[test]
fn a_running_night_is_no_problem_but_cannot_be_abandoned() {
    let tiny = Tiny::new();
    let home = pipeline::Home::open(tiny.path("home")).unwrap();
    let _lock = pipeline::Lock::acquire(&home.path().join("night.lock")).unwrap();
    let (found, code) = about(&tiny, "lock");
    assert_eq!((&found[0]["state"], code), (&"good".into(), Some(0)));
    let holder = format!("process {}", std::process::id());
    assert!(found[0]["found"].as_str().unwrap().contains(&holder), "{found:?}");
    let output = nightshift(&tiny, &["abandon"]);
    assert_eq!(output.status.code(), Some(2));
}
