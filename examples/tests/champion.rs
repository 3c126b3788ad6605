//! The program `champion`.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use durable::digest;
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
    let base = Registry::new(&Home::open(&home).unwrap()).of(digest("base"), "models/base");
    let adapter = base.nominate(&trained).unwrap().to_string();

    assert!(json(&champion(&home, &["status"]))["champion"]["adapter"].is_null());
    let status = json(&champion(&home, &["promote", "--reason", "tried it"]));
    assert_eq!(status["champion"]["adapter"], adapter.as_str());
    assert!(Path::new(status["champion"]["path"].as_str().unwrap()).is_dir());
    let status = json(&champion(&home, &["rollback"]));
    assert!(status["champion"]["adapter"].is_null() && status["previous"]["adapter"].is_null());
    assert_eq!(status["failed"], serde_json::json!([adapter]));
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
        (&["promote", "0123abcd"], "one base model (--base), found none"),
        (&["pin", "--base", "gemma"], "gemma"),
        (&["rollback"], "roll back"),
    ] {
        let output = champion(&dir.path().join("home"), args);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
        assert!(text.contains(word), "{args:?}: {text}");
        assert!(output.stdout.is_empty());
    }
}

/// Two base models: what is shown has both, and a change must say which one it means.
#[test]
fn champions_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let registry = Registry::new(&Home::open(&home).unwrap());
    for name in ["gemma", "qwen"] {
        let trained = dir.path().join(name);
        fs::create_dir(&trained).unwrap();
        fs::write(trained.join("adapter_config.json"), "{}").unwrap();
        fs::write(trained.join("adapters.safetensors"), name).unwrap();
        registry.of(digest(name), dir.path().join("models").join(name)).nominate(&trained).unwrap();
    }
    let output = champion(&home, &["promote"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("gemma (") && text.contains("qwen ("), "{text}");

    json(&champion(&home, &["promote", "--base", "gemma"]));
    let path = dir.path().join("models/qwen");
    let changed = json(&champion(&home, &["promote", "--base", path.to_str().unwrap()]));
    assert_eq!((&changed["name"], changed["bases"].as_array().unwrap().len()), (&"qwen".into(), 1));
    let status = json(&champion(&home, &["status"]));
    let bases = status["bases"].as_array().unwrap();
    assert!(bases.len() == 2 && bases.iter().all(|base| base["champion"]["path"].is_string()));
    assert!(status.get("champion").is_none(), "whose would it be?");

    let digest = digest("qwen").to_string();
    json(&champion(&home, &["rollback", "--base", &digest[..8]]));
    let history = json(&champion(&home, &["history"]));
    let of: Vec<_> = history["history"].as_array().unwrap().iter().map(|it| &it["base"]).collect();
    assert_eq!(of, ["gemma", "qwen", "qwen"]);
    let champions: Vec<_> = ["gemma", "qwen"]
        .map(|name| json(&champion(&home, &["status", "--base", name]))["champion"].clone())
        .into();
    assert!(champions[0]["path"].is_string() && champions[1]["path"].is_null());
}

/// The home and the model of a night's file, and the model that the variable chooses.
#[test]
fn a_nights_file_names_home_and_model() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        fs::create_dir(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(name).join("config.json"), name).unwrap();
    }
    let night = dir.path().join("night.yaml");
    let models = ["a", "b"].map(|name| {
        format!("  {name}: {{ model: {name}, data: {{ raw: rows }}, train: lora.yaml }}\n")
    });
    let text = format!(
        "home: own home\nmodel: a\nmodels:\n{}exam: {{ suite: suite.json }}\n",
        models.concat()
    );
    fs::write(&night, text).unwrap();
    let pin = |variable: Option<&str>| {
        let test = std::env::current_exe().unwrap();
        let example = test.parent().and_then(Path::parent).unwrap().join("examples/champion");
        let mut command = Command::new(example);
        command.args(["pin", "--reason", "guests", "--config"]).arg(&night);
        command.env_remove("SANCTUM_TRAIN_MODEL");
        command.envs(variable.map(|name| ("SANCTUM_TRAIN_MODEL", name)));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let pinned = || {
        let registry = Registry::new(&Home::open(dir.path().join("own home")).unwrap());
        let bases = registry.state().unwrap().bases;
        bases.values().filter(|it| it.pinned.is_some()).map(|it| it.name()).collect::<Vec<_>>()
    };
    pin(None);
    assert_eq!(pinned(), ["a"]);
    pin(Some("b"));
    assert_eq!(pinned().len(), 2);
}
