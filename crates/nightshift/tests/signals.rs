//! Signals: the first stops in good order, the second at once.

#[path = "../../pipeline/tests/support/mod.rs"]
mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};

use serde_json::Value;
use support::Tiny;

/// A night of so many updates that a signal comes before the last.
fn long_night() -> Tiny {
    let tiny = Tiny::new();
    tiny.edit("lora.yaml", "iters: 12", "iters: 160");
    tiny
}

fn night(tiny: &Tiny) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nightshift"));
    command.arg("night").arg("--config").arg(tiny.path("night.yaml"));
    command
}

/// Starts a command, sends it signals once its metrics have a line, and returns its end with what it said.
fn killed(
    mut command: Command,
    metrics: &dyn Fn() -> bool,
    signals: &[&str],
) -> (ExitStatus, String) {
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    while !metrics() {
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(child.try_wait().unwrap().is_none(), "it ended before its first update");
    }
    signals.iter().for_each(|signal| send(&child, signal));
    let said: Vec<String> = stderr.lines().map(|line| line.unwrap()).collect();
    (child.wait().unwrap(), said.join("\n"))
}

fn send(child: &Child, signal: &str) {
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// Lines of the night's training metrics.
fn updates(tiny: &Tiny) -> usize {
    let nights = fs::read_dir(tiny.path("home/nights")).into_iter().flatten();
    let night = nights.filter_map(|night| Some(night.ok()?.path())).next();
    let text = night.and_then(|dir| fs::read_to_string(dir.join("train/metrics.jsonl")).ok());
    let lines = text.unwrap_or_default();
    lines.lines().filter(|line| line.contains("\"loss\"") && line.contains("\"step\"")).count()
}

#[test]
fn sigterm_stops_a_night_which_the_next_start_resumes() {
    for (signal, code) in [("-TERM", 143), ("-INT", 130)] {
        let tiny = long_night();
        let (status, said) = killed(night(&tiny), &|| updates(&tiny) > 2, &[signal]);
        assert_eq!(status.code(), Some(code), "{said}");
        assert!(said.contains("the progress is saved, start again to resume"), "{said}");
        let done = updates(&tiny);
        assert!((1..160).contains(&done), "{done}");

        let output = night(&tiny).arg("--json").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(summary["training"]["updates"], 160);
        assert_eq!(fs::read_dir(tiny.path("home/nights")).unwrap().count(), 1);
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    let tiny = long_night();
    // Both arrive before the night can do anything about the first.
    let signals = ["-STOP", "-INT", "-TERM", "-CONT"];
    let (status, said) = killed(night(&tiny), &|| updates(&tiny) > 2, &signals);
    assert!([130, 143].map(Some).contains(&status.code()), "{status}");
    assert!(!said.contains("the progress is saved"), "{said}");
}
