//! `train` over several processes, as `mlx.launch` starts them.

#[path = "../../crates/models/tests/support/ranks.rs"]
mod ranks;
#[path = "../../crates/pipeline/tests/support/mod.rs"]
mod support;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use ranks::{Hosts, Running, text};
use serde_json::Value;
use support::Tiny;

/// A folder with a model, two dozen rows and a configuration that trains in a second.
fn tiny() -> Tiny {
    let tiny = Tiny::new();
    fs::create_dir(tiny.path("data")).unwrap();
    let rows: String = (0..24)
        .map(|i| {
            let asked = "is it so? ".repeat(1 + i % 5);
            format!(
                r#"{{"messages":[{{"role":"user","content":"{asked}"}},{{"role":"assistant","content":"yes"}}]}}"#
            ) + "\n"
        })
        .collect();
    tiny.write("data/train.jsonl", &rows);
    let path = |name| tiny.path(name).display().to_string();
    let yaml = format!(
        "
model: {}
data: {}
adapter_path: {}
lora_parameters: {{ rank: 4, alpha: 8, scale: 2.0 }}
num_layers: -1
batch_size: 2
grad_accumulation_steps: 2
iters: 10
learning_rate: 1e-2
save_every: 4
nightshift: {{ lanes: 1 }}
",
        path("model"),
        path("data"),
        path("adapter"),
    );
    tiny.write("train.yaml", &yaml);
    tiny
}

fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join("examples/train")
}

fn train(tiny: &Tiny) -> Command {
    let mut command = Command::new(program());
    command.arg("--config").arg(tiny.path("train.yaml")).arg("--json");
    command
}

/// The updates that a process printed.
fn updates(output: &Output) -> Vec<Value> {
    let lines = String::from_utf8(output.stdout.clone()).unwrap();
    let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line.get("learning_rate").is_some()).collect()
}

#[test]
fn rank_0_prints_and_writes() {
    let tiny = tiny();
    let alone = train(&tiny).output().unwrap();
    assert!(alone.status.success(), "{}", text(&alone));
    let outputs = Hosts::new(2).run(|_| train(&tiny));
    for output in &outputs {
        assert!(output.status.success(), "{}", text(output));
    }
    let (one, two) = (updates(&alone), updates(&outputs[0]));
    assert_eq!((one.len(), two.len()), (5, 5));
    for (one, two) in one.iter().zip(&two) {
        for same in ["step", "trained_tokens", "processed_tokens", "learning_rate"] {
            assert_eq!(one[same], two[same]);
        }
        let [one, two] = [one, two].map(|update| update["loss"].as_f64().unwrap());
        assert!((one - two).abs() <= 1e-4 * one, "{one} {two}");
    }
    assert!(outputs[1].stdout.is_empty() && outputs[1].stderr.is_empty(), "{}", text(&outputs[1]));
}

#[test]
fn a_wrong_environment_is_code_2() {
    let tiny = tiny();
    for (variables, words) in [
        ([("MLX_RANK", "0"), ("X", "")], "MLX_RANK=0: expected MLX_HOSTFILE beside it"),
        ([("MLX_RANK", "0"), ("MLX_HOSTFILE", "no.json")], "MLX_HOSTFILE=no.json: expected a file"),
    ] {
        let output = train(&tiny).envs(variables).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert!(text(&output).contains(words), "{}", text(&output));
    }
}

/// A rank that is stopped (SIGSTOP) for longer than the limit ends the other with its number, and code 2.
#[test]
fn a_stopped_rank_is_named() {
    let tiny = tiny();
    let yaml = fs::read_to_string(tiny.path("train.yaml")).unwrap();
    tiny.write("train.yaml", &yaml.replace("iters: 10", "iters: 1000000"));
    let hosts = Hosts::with_timeout(2, 5);
    let mut started = hosts.start(|_| train(&tiny));
    while !tiny.path("adapter/checkpoints/00000004.safetensors").exists() {
        assert!(!started.iter_mut().any(Running::has_ended), "a rank has ended early");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    started[1].signal("STOP");
    let stopped = started.pop();
    let output = started.pop().unwrap().end();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("error: rank 1 is lost: not heard for"), "{}", text(&output));
    drop(stopped);
}

/// MLX's own launcher starts the program. `NIGHTSHIFT_MLX_LAUNCH` names it: `bin/mlx.launch` of the environment of
/// `benches/peers`.
#[test]
fn mlx_launch_starts_it() {
    let Some(launcher) = std::env::var_os("NIGHTSHIFT_MLX_LAUNCH") else {
        return eprintln!("skipped: NIGHTSHIFT_MLX_LAUNCH does not name mlx.launch");
    };
    let tiny = tiny();
    let mut command = Command::new(launcher);
    command.args(["-n", "2", "--backend", "ring", "--starting-port", "15321"]);
    command.args(["--env", "NIGHTSHIFT_RANK_TIMEOUT=30", "--"]);
    command.arg(program()).arg("--config").arg(tiny.path("train.yaml")).arg("--json");
    let output = Running::start({
        command.stdin(Stdio::null());
        command
    });
    let output = output.end();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(updates(&output).len(), 5, "{}", text(&output));
    assert!(tiny.path("adapter/adapters.safetensors").exists());
}
