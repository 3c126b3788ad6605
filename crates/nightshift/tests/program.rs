//! The program as a whole: version, help, completions, and a reader that leaves.

#[path = "../../pipeline/tests/support/mod.rs"]
mod support;

use std::fs::OpenOptions;
use std::io::{Write, pipe};
use std::process::{Command, Output, Stdio};

use support::Tiny;

fn nightshift(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nightshift"));
    command.args(arguments);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The names of all commands, as the help lists them.
fn commands() -> Vec<String> {
    let help = text(&nightshift(&["--help"]).output().unwrap().stdout);
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    lines
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn it_has_a_version() {
    let output = nightshift(&["--version"]).output().unwrap();
    assert_eq!(text(&output.stdout), format!("nightshift {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn every_help_tells_exit_codes_and_variables() {
    let commands = commands();
    assert!(commands.len() > 20, "{commands:?}");
    for command in &commands {
        let help = text(&nightshift(&[command, "--help"]).output().unwrap().stdout);
        for words in ["Exit codes:", "bad input", "Environment:", "SANCTUM_TRAIN_MODEL"] {
            assert!(help.contains(words), "{command}: no {words:?} in\n{help}");
        }
    }
    let output = nightshift(&["nightly", "--help"]).output().unwrap();
    assert!(output.status.success(), "the name of the example is an alias");
}

/// The variable is about a household's own file. The night gets as far as a home in use.
#[test]
fn the_demo_trains_its_only_model_whatever_the_environment_says() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    std::fs::create_dir(&home).unwrap();
    let _lock = pipeline::Lock::acquire(&home.join("night.lock")).unwrap();
    let mut command = nightshift(&["night", "--home"]);
    command.arg(&home).current_dir(folder.path()).env("SANCTUM_TRAIN_MODEL", "qwen");
    let output = command.output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("in use"), "{said}");
}

#[test]
fn completions_name_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = text(&nightshift(&["completions", shell]).output().unwrap().stdout);
        for command in commands() {
            assert!(script.contains(&command), "{shell}: no {command}");
        }
    }
}

/// Whether stderr is read.
#[derive(Clone, Copy)]
enum Stderr {
    Read,
    Unread,
}

/// Runs a command whose stdout, and perhaps stderr, nobody reads.
fn unread(command: &mut Command, stderr: Stderr) -> Output {
    let closed = || {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        writer
    };
    command.stdout(closed());
    match stderr {
        Stderr::Unread => command.stderr(closed()),
        Stderr::Read => command.stderr(Stdio::piped()),
    };
    command.spawn().unwrap().wait_with_output().unwrap()
}

/// Invariant: a reader that leaves ends a program without a word, and never with a panic (101).
#[test]
fn a_closed_pipe_ends_quietly() {
    let tiny = Tiny::new();
    let path = |name: &str| tiny.path(name).display().to_string();
    let config = path("night.yaml");
    // All that the night says is on stderr, so its end is that of the night.
    let night = unread(&mut nightshift(&["night", "--config", &config]), Stderr::Unread);
    assert_eq!(night.status.code(), Some(0));

    let exam = std::fs::read_dir(tiny.path("home/nights")).unwrap().next().unwrap().unwrap();
    let run = |name: &str| exam.path().join("exam").join(name).display().to_string();
    let (candidate, base) = (run("candidate"), run("base"));
    let rows = path("rows.jsonl");
    let calls: &[&[&str]] = &[
        &["gate", "--candidate", &candidate, "--base", &base, "--json"],
        &["gate", "--candidate", &candidate, "--base", &base],
        &["config", "print", "--config", &config],
        &["config", "check", "--config", &config, "--json"],
        &["champion", "status", "--home", &path("home"), "--json"],
        &["convert", &path("raw.jsonl"), &rows, "--json"],
        &["generate", "--model", &path("model"), "--prompt", "so?", "--max-tokens", "3"],
        &["night", "--config", &config, "--json"],
        &["completions", "bash"],
    ];
    for call in calls {
        for stderr in [Stderr::Read, Stderr::Unread] {
            let output = unread(&mut nightshift(call), stderr);
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(141), "{call:?}: {said}");
            assert!(!said.contains("panicked") && !said.contains("error:"), "{call:?}: {said}");
        }
    }
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let Ok(full) = OpenOptions::new().write(true).open("/dev/full") else {
        let _ = writeln!(std::io::stderr(), "skipped: no /dev/full");
        return;
    };
    let output = nightshift(&["completions", "bash"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.starts_with("error: stdout: cannot write: No space left"), "{said}");
}

/// Without a terminal a night says where it is, line by line; with --json it says nothing.
#[test]
fn a_night_tells_its_stages_in_plain_lines() {
    let tiny = Tiny::new();
    let config = tiny.path("night.yaml").display().to_string();
    let output = nightshift(&["night", "--config", &config]).output().unwrap();
    let said = text(&output.stderr);
    for stage in ["convert", "enrich", "train", "exam", "gate", "report"] {
        assert!(said.contains(&format!("\n{stage}: begun\n")), "{stage}: {said}");
        let ends = said.lines().filter_map(|line| line.strip_prefix(&format!("{stage}: ")));
        // How long it took depends on what else the machine does.
        let ends = ends.filter(|end| end.starts_with(|c: char| c.is_ascii_digit()));
        assert!(ends.clone().count() == 1 && ends.clone().all(|end| end.contains(", ")), "{said}");
    }
    assert!(!said.contains('\u{1b}'), "{said}");
    let output = nightshift(&["night", "--config", &config, "--json"]).output().unwrap();
    assert_eq!(text(&output.stderr), "");
}
