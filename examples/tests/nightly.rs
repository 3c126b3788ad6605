//! The program `nightly`: exit codes, messages, one JSON object, no incomplete files.

#[path = "../../crates/pipeline/tests/support/mod.rs"]
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::Tiny;

/// The example, which cargo builds together with this test.
fn nightly() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(Path::parent).unwrap().join("examples/nightly")
}

fn command(tiny: &Tiny) -> Command {
    let mut command = Command::new(nightly());
    command.arg("--config").arg(tiny.path("night.yaml")).arg("--json");
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn json_is_one_object_and_the_exit_code_is_the_verdict() {
    let tiny = Tiny::new();
    for (outcome, code, stages) in [("promoted", 0, 8), ("nothing_new", 5, 2), ("refused", 1, 8)] {
        if outcome == "refused" {
            // The learning rate of nothing.
            tiny.edit("lora.yaml", "learning_rate: 1.0e-2", "learning_rate: 1.0e-9");
        }
        let output = command(&tiny).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(summary["outcome"], outcome);
        for key in ["night", "stages", "seconds", "losses", "scores", "verdict", "paths"] {
            assert!(!summary[key].is_null(), "{key}");
        }
        assert_eq!(summary["stages"].as_array().unwrap().len(), stages);
        assert!(Path::new(summary["paths"]["report"].as_str().unwrap()).is_file());
        assert_eq!(stderr(&output), "");
    }
}

#[test]
fn text_goes_to_stderr() {
    let tiny = Tiny::new();
    let config = tiny.path("night.yaml");
    let output = Command::new(nightly()).arg("--config").arg(config).output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, b"");
    let text = stderr(&output);
    for expected in ["night 0001-", "train", "PROMOTE", "before", "report.html"] {
        assert!(text.contains(expected), "no {expected:?} in:\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "no colour and no bars where stderr is no terminal");
}

/// A fault: its name, how it is planted, and words that the message must contain.
type Case = (&'static str, fn(&Tiny), &'static [&'static str]);

const BAD_INPUT: &[Case] = &[
    ("malformed line", |t| replace_line(t, 3, "{\"messages\": [}"), &["raw.jsonl:3"]),
    (
        "unknown role",
        |t| replace_line(t, 2, r#"{"messages":[{"role":"wizard","content":"hm"}]}"#),
        &["raw.jsonl:2", "role", "wizard"],
    ),
    ("empty data set", |t| t.write("raw.jsonl", "\n"), &["raw.jsonl"]),
    ("no data file", |t| fs::remove_file(t.path("raw.jsonl")).unwrap(), &["raw.jsonl"]),
    (
        "missing template",
        |t| t.write("model/tokenizer_config.json", r#"{"eos_token":"<|im_end|>"}"#),
        &["model", "template"],
    ),
    (
        "GGUF of another architecture",
        |t| model_file(t, &gguf("mamba")),
        &["model.gguf", "mamba", "llama"],
    ),
    ("truncated GGUF", |t| model_file(t, &gguf("llama")[..40]), &["model.gguf"]),
    ("unknown key", |t| t.edit("night.yaml", "gate:", "gait:"), &["night.yaml", "gait"]),
    (
        "recipe's value",
        |t| t.edit("lora.yaml", "batch_size: 4", "batch_size: no"),
        &["lora.yaml", "batch_size"],
    ),
    (
        "suite's rule",
        |t| t.edit("suite.json", "contains_any", "contains_some"),
        &["suite.json", "contains_some"],
    ),
    ("gate's figure", |t| t.write("gate.yaml", "held_out: 1.5\n"), &["held_out", "1.5"]),
];

#[test]
fn bad_input_is_one_error_and_code_2() {
    for (what, spoil, words) in BAD_INPUT {
        let tiny = Tiny::new();
        spoil(&tiny);
        let output = command(&tiny).output().unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{what}: {text}");
        assert_eq!(text.matches("error:").count(), 1, "{what}: {text}");
        for word in *words {
            assert!(text.contains(word), "{what}: no {word:?} in {text}");
        }
        assert_eq!(output.stdout, b"", "{what}");
        nothing_is_incomplete(&tiny.path("home"), what);
    }
}

#[test]
fn a_night_resumes_after_its_input_is_fixed() {
    let tiny = Tiny::new();
    let raw = fs::read_to_string(tiny.path("raw.jsonl")).unwrap();
    replace_line(&tiny, 3, "{");
    assert_eq!(command(&tiny).status().unwrap().code(), Some(2));
    tiny.write("raw.jsonl", &raw);
    assert_eq!(command(&tiny).output().unwrap().status.code(), Some(0));
    assert_eq!(fs::read_dir(tiny.path("home/nights")).unwrap().count(), 1);
}

#[test]
fn a_spent_budget_is_code_3() {
    let tiny = Tiny::new();
    tiny.edit("night.yaml", "gate:", "budgets: { wall_clock: 0s }\ngate:");
    let output = command(&tiny).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("budget of 0s"), "{}", stderr(&output));
    nothing_is_incomplete(&tiny.path("home"), "spent budget");
}

/// `~` is the user's home, or refused: never a folder of that name.
#[test]
fn a_tilde_is_the_users_home() {
    let tiny = Tiny::new();
    fs::create_dir(tiny.path("user")).unwrap();
    tiny.edit("night.yaml", "home: home", "home: ~/nights of mine");
    let mut command = command(&tiny);
    let output = command.env("HOME", tiny.path("user")).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(tiny.path("user/nights of mine/index.html").is_file());
    assert!(!tiny.path("~").exists());

    let tiny = Tiny::new();
    let mut command = Command::new(nightly());
    command.arg("--config").arg(tiny.path("night.yaml")).args(["--home", "~/nights"]);
    let output = command.current_dir(tiny.path(".")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("~/nights: home: expected a folder"), "{}", stderr(&output));
    assert!(!tiny.path("~").exists());
}

#[test]
fn a_second_instance_names_the_holder_of_the_lock() {
    let tiny = Tiny::new();
    let home = pipeline::Home::open(tiny.path("home")).unwrap();
    let _lock = pipeline::Lock::acquire(&home.path().join("night.lock")).unwrap();
    let output = command(&tiny).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let holder = format!("process {}", std::process::id());
    assert!(stderr(&output).contains(&holder), "{}", stderr(&output));
    assert_eq!(fs::read_dir(tiny.path("home/nights")).unwrap().count(), 0);
}

#[test]
fn a_read_only_home_is_an_error_with_its_path() {
    let tiny = Tiny::new();
    let home = tiny.path("home");
    fs::create_dir(&home).unwrap();
    for (path, mode) in [(tiny.path("."), 0o755), (home.clone(), 0o555)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut command = command(&tiny);
    if fs::write(home.join("probe"), "").is_ok() {
        // Root can write to read-only folders, so the night runs as nobody.
        fs::remove_file(home.join("probe")).unwrap();
        command.uid(65534);
    }
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let text = stderr(&output);
    assert!(text.contains("home") && text.contains("denied"), "{text}");
    assert_eq!(fs::read_dir(&home).unwrap().count(), 0);
}

fn replace_line(tiny: &Tiny, number: usize, line: &str) {
    let text = fs::read_to_string(tiny.path("raw.jsonl")).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines[number - 1] = line;
    tiny.write("raw.jsonl", &(lines.join("\n") + "\n"));
}

fn model_file(tiny: &Tiny, bytes: &[u8]) {
    fs::write(tiny.path("model.gguf"), bytes).unwrap();
    tiny.edit("night.yaml", "model: model", "model: model.gguf");
}

/// A GGUF header with an architecture and no tensors.
fn gguf(architecture: &str) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let mut bytes = [&b"GGUF"[..], &3u32.to_le_bytes(), &0u64.to_le_bytes()].concat();
    bytes.extend(1u64.to_le_bytes());
    bytes.extend(text("general.architecture"));
    bytes.extend(8u32.to_le_bytes());
    bytes.extend(text(architecture));
    bytes
}

/// Checks that no temporary file is left and that every file can be parsed.
fn nothing_is_incomplete(dir: &Path, what: &str) {
    let Ok(items) = fs::read_dir(dir) else { return };
    for path in items.map(|item| item.unwrap().path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        assert!(!name.starts_with(".tmp-"), "{what}: {} is left", path.display());
        match path.extension().and_then(|e| e.to_str()) {
            _ if path.is_dir() => nothing_is_incomplete(&path, what),
            Some("json") => drop(json(&fs::read_to_string(&path).unwrap(), &path)),
            Some("jsonl") => {
                fs::read_to_string(&path).unwrap().lines().for_each(|line| drop(json(line, &path)));
            }
            _ => {}
        }
    }
}

fn json(text: &str, path: &Path) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
