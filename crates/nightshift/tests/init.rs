//! `init` writes files that every reader accepts as they are.

#[path = "../../pipeline/tests/support/mod.rs"]
mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use support::Tiny;

fn nightshift(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nightshift"));
    command.current_dir(dir).env_remove("SANCTUM_TRAIN_MODEL").args(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_it_writes_is_accepted_as_written() {
    let dir = tempfile::tempdir().unwrap();
    let output = nightshift(dir.path(), &["init", "my house", "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("next: cd 'my house'\n"), "{}", stderr(&output));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["files"].as_array().unwrap().len(), 5);

    let house = dir.path().join("my house");
    let exam: Value = serde_json::from_slice(&fs::read(house.join("exam.json")).unwrap()).unwrap();
    assert_eq!(exam["cases"].as_array().unwrap().len(), 20);
    let rows = ["--facts", "facts.yaml", "--council", "council.yaml", "--out", "rows.jsonl"];
    let calls: [&[&str]; 3] = [
        &["config", "check"],
        &["config", "print"],
        &[&["household", "--rows", "120"], &rows[..]].concat(),
    ];
    for call in calls {
        let output = nightshift(&house, call);
        assert!(output.status.success(), "{call:?}: {}", stderr(&output));
    }
    assert_eq!(fs::read_to_string(house.join("rows.jsonl")).unwrap().lines().count(), 120);
}

/// In the folder of a night's file, every command works on that night without being told.
#[test]
fn commands_find_the_file_of_their_folder() {
    let tiny = Tiny::new();
    let night = nightshift(&tiny.path("."), &["night"]);
    assert_eq!(night.status.code(), Some(0), "{}", stderr(&night));
    let again = nightshift(&tiny.path("."), &["night"]);
    assert_eq!(again.status.code(), Some(5), "{}", stderr(&again));
    assert!(stderr(&again).contains("nothing new since night 0001-"), "{}", stderr(&again));
    let status = nightshift(&tiny.path("."), &["champion", "status", "--json"]);
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    let home = tiny.path("home").canonicalize().unwrap();
    let champion = status["champion"]["path"].as_str().unwrap();
    assert!(Path::new(champion).starts_with(&home), "{champion}");
    let doctor = nightshift(&tiny.path("."), &["doctor"]);
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned() + &stderr(&doctor);
    assert!(said.contains("home"), "{said}");
}

/// The whole preflight, with a model of 30,000 weights in place of the demo's.
#[test]
fn preflight_fails_nothing() {
    let tiny = Tiny::new();
    let house = tiny.path("house");
    assert!(nightshift(&tiny.path("."), &["init", "house"]).status.success());
    let night = fs::read_to_string(house.join("night.yaml")).unwrap();
    fs::write(house.join("night.yaml"), night.replace("\nmodel: demo\n", "\nmodel: ../model\n"))
        .unwrap();
    let output = nightshift(&house, &["preflight", "--config", "night.yaml", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let failed: Vec<_> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["status"] == "failed")
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn nothing_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("facts.yaml"), "mine").unwrap();
    let output = nightshift(dir.path(), &["init"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("facts.yaml: expected no file"), "{}", stderr(&output));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "and nothing is written");
    assert_eq!(fs::read_to_string(dir.path().join("facts.yaml")).unwrap(), "mine");
}
