//! The program `preflight`.

#[path = "../../crates/pipeline/tests/support/mod.rs"]
mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use support::Tiny;

fn preflight(tiny: &Tiny, arguments: &[&str]) -> Output {
    let test = std::env::current_exe().unwrap();
    let example = test.parent().and_then(Path::parent).unwrap().join("examples/preflight");
    let mut command = Command::new(example);
    command.arg("--config").arg(tiny.path("night.yaml")).args(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn json_is_one_object_and_the_exit_code_says_whether_a_check_failed() {
    let tiny = Tiny::new();
    for (recipe, code) in [("iters: 12", 0), ("iters: 2", 1)] {
        tiny.edit("lora.yaml", "iters: 12", recipe);
        let output = preflight(&tiny, &["--json"]);
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        assert_eq!(stderr(&output), "");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&report["ok"], &report["seed_checks"]), (&(code == 0).into(), &21.into()));
        assert_eq!((&report["failed"], &report["not_run"]), (&code.into(), &0.into()));
        for check in report["checks"].as_array().unwrap() {
            for key in ["suite", "check", "status", "detail"] {
                assert!(check[key].is_string(), "{check}");
            }
        }
        // The home has the same report.
        let left = fs::read(tiny.path("home/preflight.json")).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&left).unwrap()["line"], report["line"]);
    }
}

#[test]
fn without_a_terminal_the_table_has_80_columns_and_no_color() {
    let tiny = Tiny::new();
    let output = preflight(&tiny, &[]);
    let text = stderr(&output);
    assert!(output.status.success() && output.stdout.is_empty(), "{text}");
    for words in ["Data Conversion", "Qwen token stripping", "peak memory < ", "dress rehearsal"] {
        assert!(text.contains(words), "no {words:?} in:\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "no colour where stderr is no terminal");
    let table = text.lines().take_while(|line| !line.starts_with("preflight "));
    let widest = table.map(|line| line.chars().count()).max().unwrap();
    assert!(widest <= 80, "{widest} columns:\n{text}");
}

#[test]
fn a_failing_preflight_sends_notifications() {
    let tiny = Tiny::new();
    let told = tiny.path("told");
    let notify = format!("notify: {{ command: [sh, -c, 'cat > {}'] }}\ngate:", told.display());
    tiny.edit("night.yaml", "gate:", &notify);
    assert!(preflight(&tiny, &["--notify"]).status.success());
    assert!(!told.exists(), "nothing is sent if no check failed");
    tiny.edit("lora.yaml", "iters: 12", "iters: 2");
    assert_eq!(preflight(&tiny, &["--notify"]).status.code(), Some(1));
    let message: Value = serde_json::from_slice(&fs::read(told).unwrap()).unwrap();
    assert!(message["line"].as_str().unwrap().contains("config lints"), "{message}");
}

/// With an exam that cannot be read, some checks have nothing to go by: they are not counted as passed.
#[test]
fn checks_that_did_not_run_are_told_apart() {
    let tiny = Tiny::new();
    fs::remove_file(tiny.path("suite.json")).unwrap();
    let output = preflight(&tiny, &["--json"]);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let with = |status: &str| checks.iter().filter(|check| check["status"] == status).count();
    for status in ["passed", "failed", "not_run"] {
        assert_eq!(report[status], with(status), "{status}: {report}");
        assert!(with(status) > 0, "{status}: {report}");
    }
    let line = report["line"].as_str().unwrap();
    assert!(line.contains("not run: ") && line.contains("dress rehearsal"), "{line}");
}

#[test]
fn an_invalid_file_is_code_2() {
    let tiny = Tiny::new();
    tiny.edit("night.yaml", "gate:", "gait:");
    let output = preflight(&tiny, &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("gait"), "{}", stderr(&output));
}
