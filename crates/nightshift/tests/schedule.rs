//! `schedule`: the copy of the program, and the command against a system that a script plays. No test touches the timers of
//! this machine.
#![cfg(target_os = "linux")]

#[path = "../../pipeline/tests/support/mod.rs"]
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pipeline::schedule::ProgramCopy;
use serde_json::Value;
use support::Tiny;

const PROGRAM: &str = env!("CARGO_BIN_EXE_nightshift");

/// The libraries that the loader finds for a program, by name and path.
fn loaded(program: &Path) -> Vec<(String, PathBuf)> {
    let output = Command::new(program).env("LD_TRACE_LOADED_OBJECTS", "1").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // `NAME => PATH (ADDRESS)`, or `PATH (ADDRESS)`.
    let line = |line: &str| {
        let (library, _) = line.trim().rsplit_once(" (")?;
        let (name, path) = library.split_once(" => ").unwrap_or((library, library));
        path.starts_with('/').then(|| (name.to_owned(), PathBuf::from(path)))
    };
    text.lines().filter_map(line).collect()
}

/// Invariant: nothing that the copy loads is where the program was built, and the copy may move.
#[test]
fn a_copy_needs_nothing_of_the_target_folder() {
    let target = Path::new(PROGRAM).canonicalize().unwrap();
    let target = target.ancestors().nth(2).unwrap().to_path_buf();
    let ours = |program: &Path| {
        let libraries = loaded(program).into_iter();
        let ours =
            |name: &str| ["mlx", "openblas", "blas", "gfortran"].iter().any(|w| name.contains(w));
        libraries.filter(|(name, _)| ours(name)).map(|(_, path)| path).collect::<Vec<_>>()
    };
    assert!(ours(Path::new(PROGRAM)).iter().all(|path| path.starts_with(&target)));

    let root = tempfile::tempdir().unwrap();
    let first = root.path().join("first programs");
    let copy = ProgramCopy::plan(Path::new(PROGRAM), &first).unwrap();
    copy.make().unwrap();
    copy.make().unwrap();
    assert_eq!(fs::read_dir(&first).unwrap().count(), 1, "one copy, and nothing half-made");
    let found = ours(&copy.program());
    assert!(found.len() >= 4, "{found:?}");
    assert!(found.iter().all(|path| path.canonicalize().unwrap().starts_with(&first)), "{found:?}");
    let all = loaded(&copy.program());
    assert!(all.iter().all(|(_, path)| !path.starts_with(&target)), "{all:?}");

    // A copy is planned where it is, and a copy of a copy is one too.
    let again = ProgramCopy::plan(&copy.program(), &first).unwrap();
    assert_eq!(again.program(), copy.program().canonicalize().unwrap());
    let moved = root.path().join("moved");
    fs::rename(&first, &moved).unwrap();
    let moved =
        fs::read_dir(&moved).unwrap().next().unwrap().unwrap().path().join("bin/nightshift");
    let second = ProgramCopy::plan(&moved, &root.path().join("second")).unwrap();
    second.make().unwrap();
    let found = ours(&second.program());
    assert!(
        found
            .iter()
            .all(|path| path.canonicalize().unwrap().starts_with(root.path().join("second")))
    );

    // It computes, too.
    let tiny = Tiny::new();
    let mut command = Command::new(second.program());
    command.arg("generate").arg("--model").arg(tiny.path("model"));
    let output = command.args(["--prompt", "so?", "--max-tokens", "2", "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// `nightly` is copied with the `preflight` beside it.
#[test]
fn the_examples_are_copied_together() {
    let root = tempfile::tempdir().unwrap();
    let (examples, copies) = (root.path().join("examples"), root.path().join("copies"));
    fs::create_dir(&examples).unwrap();
    let nightly = examples.join("nightly");
    fs::copy(PROGRAM, &nightly).unwrap();
    let error = ProgramCopy::plan(&nightly, &copies).unwrap_err().to_string();
    assert!(error.contains("preflight"), "{error}");
    fs::copy("/bin/sh", examples.join("preflight")).unwrap();
    let error = ProgramCopy::plan(&nightly, &copies).unwrap_err().to_string();
    assert!(error.contains("of the same build as `nightly`"), "{error}");
    fs::copy(PROGRAM, examples.join("preflight")).unwrap();
    let copy = ProgramCopy::plan(&nightly, &copies).unwrap();
    copy.make().unwrap();
    let preflight = copy.program().with_file_name("preflight");
    assert!(Command::new(preflight).arg("--help").output().unwrap().status.success());
}

/// A user with a home of their own, and a `systemctl` that remembers what is enabled.
struct User(Tiny);

impl User {
    fn new() -> Self {
        let user = User(Tiny::new());
        fs::create_dir(user.0.path("bin")).unwrap();
        user.program(
            "systemctl",
            r#"echo "$@" >> "$HOME/calls"
case "$2" in
enable) touch "$HOME/enabled.$4";;
disable) rm -f "$HOME/enabled.$4";;
show) if [ -e "$HOME/enabled.$3" ]; then echo ActiveState=active; echo NextElapseUSecRealtime=Mon 01:00; else echo ActiveState=inactive; fi;;
esac"#,
        );
        user.program("loginctl", "echo Linger=no");
        user
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.0.path("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn schedule(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(PROGRAM);
        let path = format!("{}:/usr/bin:/bin", self.0.path("bin").display());
        command.env("PATH", path).env("HOME", self.0.path(".")).current_dir(self.0.path("bin"));
        command.env_remove("XDG_CONFIG_HOME").env("XDG_DATA_HOME", self.0.path("data"));
        command.env("HF_TOKEN", "hf_secret").env("NIGHTSHIFT_KERNELS", "blas");
        command.arg("schedule").args(arguments).output().unwrap()
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn install_copies_the_program_and_writes_its_environment() {
    let user = User::new();
    let config = user.0.path("night.yaml").display().to_string();
    let output = user.schedule(&["install", "--config", &config]);
    let said = stderr(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("loginctl enable-linger"), "{said}");
    assert!(said.contains("HF_TOKEN=(hidden)") && !said.contains("hf_secret"), "{said}");

    let units = user.0.path(".config/systemd/user");
    let unit = units.join("com.sanctum.master-pipeline.service");
    let text = fs::read_to_string(&unit).unwrap();
    let data = user.0.path("data").display().to_string();
    let start = text.lines().find(|line| line.starts_with("ExecStart=")).unwrap();
    assert!(start.contains(&format!("\"{data}/nightshift-program/")), "{text}");
    assert!(start.contains("bin/nightshift\" \"night\" \"--config\""), "{text}");
    for line in [
        "Environment=\"HF_TOKEN=hf_secret\"",
        "Environment=\"NIGHTSHIFT_KERNELS=blas\"",
        &format!("Environment=\"XDG_DATA_HOME={data}\""),
        "SuccessExitStatus=1 5 143",
    ] {
        assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
    }
    let mode = unit.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "a file with a token is its owner's only");

    let printed = user.schedule(&["print", "--config", &config]);
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(printed.contains(start), "{printed}");
    assert!(printed.contains("HF_TOKEN=(hidden)") && !printed.contains("hf_secret"), "{printed}");

    // Neither needs the configuration, which is gone.
    fs::remove_file(user.0.path("night.yaml")).unwrap();
    let status = user.schedule(&["status", "--json"]);
    assert!(status.status.success(), "{}", stderr(&status));
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["runs_without_login"], false);
    assert!(user.schedule(&["remove"]).status.success());
    assert_eq!(fs::read_dir(&units).unwrap().count(), 0);
    assert!(!user.0.path("data/nightshift-program").exists());
    assert_eq!(user.schedule(&["status"]).status.code(), Some(1));
}

#[test]
fn a_night_that_would_fail_is_not_scheduled() {
    let user = User::new();
    user.0.edit("night.yaml", "gate:", "gait:");
    let config = user.0.path("night.yaml").display().to_string();
    let output = user.schedule(&["install", "--config", &config]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("gait"), "{}", stderr(&output));
    assert!(!user.0.path(".config").exists() && !user.0.path("data").exists());
}
