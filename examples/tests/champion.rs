//! The program `champion`.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use pipeline::{Home, Registry};
use serde_json::Value;

fn champion(home: &Path, args: &[&str]) -> Output {
    let test = std::env::current_exe().unwrap();
    let example = test.parent().and_then(Path::parent).unwrap().join("examples/champion");
    Command::new(example).args(args).arg("--json").arg("--home").arg(home).output().unwrap()
}

fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn promote_status_rollback_history() {
    let dir = tempfile::tempdir().unwrap();
    let (home, trained) = (dir.path().join("home"), dir.path().join("trained"));
    fs::create_dir(&trained).unwrap();
    fs::write(trained.join("adapter_config.json"), "{}").unwrap();
    fs::write(trained.join("adapters.safetensors"), "weights").unwrap();
    let adapter =
        Registry::new(&Home::open(&home).unwrap()).nominate(&trained).unwrap().to_string();

    assert!(json(&champion(&home, &["status"]))["champion"]["adapter"].is_null());
    let status = json(&champion(&home, &["promote", "--reason", "tried it"]));
    assert_eq!(status["champion"]["adapter"], adapter.as_str());
    assert!(Path::new(status["champion"]["path"].as_str().unwrap()).is_dir());
    let status = json(&champion(&home, &["rollback"]));
    assert!(status["champion"]["adapter"].is_null());
    assert_eq!(status["previous"]["adapter"], adapter.as_str());
    let history = json(&champion(&home, &["history"]));
    let reasons: Vec<_> =
        history["history"].as_array().unwrap().iter().map(|c| &c["reason"]).collect();
    assert_eq!(reasons, ["tried it", "by hand"]);
}

#[test]
fn a_failure_has_code_2_and_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    for (args, word) in [
        (&["promote"][..], "candidate"),
        (&["promote", "0123abcd"], "0123abcd"),
        (&["rollback"], "roll back"),
    ] {
        let output = champion(&dir.path().join("home"), args);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
        assert!(text.contains(word), "{args:?}: {text}");
        assert!(output.stdout.is_empty());
    }
}
