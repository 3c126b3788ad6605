//! `train` as a person runs it: the files it leaves, what it prints, how it ends.

#[path = "../../crates/pipeline/tests/support/mod.rs"]
mod support;

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;
use support::Tiny;

const ROW: &str =
    r#"{"messages":[{"role":"user","content":"is it so?"},{"role":"assistant","content":"yes"}]}"#;

/// A folder with a model, two dozen rows and a configuration that trains in a second.
fn tiny() -> Tiny {
    let tiny = Tiny::new();
    fs::create_dir(tiny.path("data")).unwrap();
    tiny.write("data/train.jsonl", &format!("{ROW}\n").repeat(24));
    tiny.write("data/test.jsonl", ROW);
    configure(&tiny, "");
    tiny
}

fn configure(tiny: &Tiny, more: &str) {
    let path = |name| tiny.path(name).display().to_string();
    let yaml = format!(
        "
model: {}
data: {}
adapter_path: {}
lora_parameters: {{ rank: 4, alpha: 8, scale: 2.0 }}
num_layers: -1
mask_prompt: true
test: true
batch_size: 2
grad_accumulation_steps: 2
iters: 10
learning_rate: 1e-2
save_every: 4
{more}",
        path("model"),
        path("data"),
        path("adapter"),
    );
    tiny.write("train.yaml", &yaml);
}

fn train(tiny: &Tiny, more: &[&str]) -> Output {
    let test = std::env::current_exe().unwrap();
    let example = test.parent().unwrap().parent().unwrap().join("examples/train");
    Command::new(example).arg("--config").arg(tiny.path("train.yaml")).args(more).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn it_leaves_an_adapter_its_configuration_and_metrics() {
    let tiny = tiny();
    let output = train(&tiny, &["--json"]);
    assert!(output.status.success(), "{}", stderr(&output));

    let metrics = lines(&fs::read_to_string(tiny.path("adapter/metrics.jsonl")).unwrap());
    let updates: Vec<&Value> = metrics.iter().filter(|line| line.get("kind").is_none()).collect();
    assert_eq!(updates.len(), 5);
    assert_eq!(updates[4]["step"], 5);
    assert!(updates[4]["loss"].as_f64().unwrap() < updates[0]["loss"].as_f64().unwrap());
    assert_eq!(updates[0]["trained_tokens"], 4 * 4, "three letters and the end, four rows");

    let printed = lines(&String::from_utf8(output.stdout.clone()).unwrap());
    let (outcome, records) = printed.split_last().unwrap();
    assert_eq!(records, metrics);
    assert_eq!((&outcome["ending"], &outcome["step"]), (&"Complete".into(), &5.into()));
    assert!(outcome["test_loss"].as_f64().unwrap() < updates[0]["loss"].as_f64().unwrap());

    let config = fs::read(tiny.path("adapter/adapter_config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["fine_tune_type"], "lora");
    assert_eq!(config["num_layers"], 2);
    assert_eq!(config["lora_parameters"]["scale"], 2.0);
    assert_eq!(config["iters"], 10);
    let model = models::Model::open(tiny.path("model")).unwrap();
    models::Adapter::load(tiny.path("adapter"), &model).unwrap();
}

#[test]
fn people_read_stderr() {
    let output = train(&tiny(), &[]);
    let text = stderr(&output);
    assert!(output.stdout.is_empty());
    for words in [
        "note: `alpha/rank` = 2.0 agrees with `scale`",
        "warning: 20 of 24 rows are seen (83 %)",
        "24 rows, 5 updates",
        "Complete after 5 of 5 updates",
        "test loss",
    ] {
        assert!(text.contains(words), "no {words:?} in:\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "no colour and no bars where stderr is no terminal");
}

#[test]
fn a_spent_budget_is_code_3_and_resume_ends_with_the_same_bytes() {
    let tiny = tiny();
    assert!(train(&tiny, &[]).status.success());
    let whole = fs::read(tiny.path("adapter/adapters.safetensors")).unwrap();

    configure(&tiny, "nightshift: { time_budget: 1ns }");
    let output = train(&tiny, &[]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    configure(&tiny, "");
    let output = train(&tiny, &["--resume"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("resumed from"), "{}", stderr(&output));
    assert_eq!(fs::read(tiny.path("adapter/adapters.safetensors")).unwrap(), whole);
}

#[test]
fn resume_without_a_checkpoint_says_that_the_run_begins() {
    let tiny = tiny();
    let output = train(&tiny, &["--resume"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let expected = "adapter/checkpoints: expected a checkpoint to resume from, found none";
    assert!(stderr(&output).contains(expected), "{}", stderr(&output));
}

#[test]
fn an_empty_data_file_is_named() {
    for (name, content) in [("train", ""), ("valid", ""), ("valid", "\n\n"), ("test", "")] {
        let tiny = tiny();
        tiny.write(&format!("data/{name}.jsonl"), content);
        let output = train(&tiny, &[]);
        assert_eq!(output.status.code(), Some(2), "{name}: {}", stderr(&output));
        let expected = format!("data/{name}.jsonl: expected at least one row, found none");
        assert!(stderr(&output).contains(&expected), "{name}: {}", stderr(&output));
    }
}

#[test]
fn bad_input_is_code_2_and_says_why() {
    for (spoil, words) in [
        (
            "lerning_rate: 1e-5",
            "train.yaml:14: unknown key `lerning_rate`; did you mean `learning_rate`?",
        ),
        ("resume_adapter_file: nowhere.safetensors", "nowhere.safetensors: cannot open"),
        ("max_seq_length: 5", "none of 24 rows has a token to train on within 5 tokens"),
        ("lr_schedule: { name: cosine, arguments: [1] }", "train.yaml:14: `lr_schedule"),
    ] {
        let tiny = tiny();
        configure(&tiny, spoil);
        let output = train(&tiny, &["--json"]);
        assert_eq!(output.status.code(), Some(2), "{spoil}");
        assert!(stderr(&output).contains(words), "{spoil}: {}", stderr(&output));
        assert!(output.stdout.is_empty(), "{spoil}");
    }
}
