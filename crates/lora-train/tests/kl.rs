//! Predictions held to those of the base model (`nightshift.kl`): what it does, and what is refused.

#[path = "../../pipeline/tests/support/mod.rs"]
mod support;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use chat_format::ChatTokenizer;
use lora_train::metrics::{BaseDivergence, Record, Update};
use lora_train::{
    Data, Dataset, Error, Example, Pair, Progress, Result, RowSource, Start, TrainConfig, Trainer,
};
use models::Model;
use support::Tiny;

fn model_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden/mlx_lm/model")
}

fn config(folder: &Path, more: &str) -> TrainConfig {
    let yaml = format!(
        "
adapter_path: {}
num_layers: -1
lora_parameters: {{ rank: 8, scale: 4.0 }}
batch_size: 6
iters: 40
learning_rate: 1e-2
{more}",
        folder.display()
    );
    TrainConfig::from_yaml(&yaml, "run.yaml").unwrap()
}

/// Six rows of which two are replay.
#[allow(clippy::single_range_in_vec_init, reason = "one trained range is meant")]
fn rows() -> Vec<Example> {
    (0..6u32)
        .map(|i| {
            let tokens = (0..12).map(|j| (i * i * 11 + j * (i + 3) + 1) % 64).collect();
            let source = if i < 2 { RowSource::Replay } else { RowSource::Data };
            Example::new(tokens, vec![4..12]).from_source(source)
        })
        .collect()
}

fn train(config: TrainConfig, train: Dataset) -> Result<Vec<Update>> {
    let mut updates = Vec::new();
    let model = Model::open(model_path()).unwrap();
    let trainer =
        Trainer::new(model, config, Data { train, valid: None, retention: None }, Start::Fresh)?;
    trainer.run(&mut |progress: Progress<'_>| {
        if let Progress::Recorded(Record::Update(update)) = progress {
            updates.push(update.clone());
        }
        ControlFlow::Continue(())
    })?;
    Ok(updates)
}

fn run(more: &str) -> Vec<Update> {
    let folder = tempfile::tempdir().unwrap();
    train(config(folder.path(), more), Dataset::new("train", rows(), 64).unwrap()).unwrap()
}

fn kl(update: &Update) -> BaseDivergence {
    update.kl.unwrap()
}

#[test]
fn a_larger_weight_keeps_the_model_closer_to_its_base() {
    // Eight trained tokens of two replay rows; of six rows 11 predictions each, 3 of them untrained.
    for (on, tokens) in [("replay", 16), ("all", 66), ("untrained", 18)] {
        let last = |weight: f64| {
            let updates = run(&format!("nightshift: {{ kl: {{ weight: {weight}, on: {on} }} }}"));
            let first = kl(&updates[0]);
            assert!(first.mean.abs() < 1e-6, "an untrained adapter changes nothing: {first:?}");
            assert!(updates.iter().all(|update| kl(update).tokens == tokens), "{on}");
            let mean = updates.iter().map(|update| update.loss).sum::<f64>() / 40.0;
            (updates.into_iter().last().unwrap(), mean)
        };
        let ((light, loose), (heavy, tight)) = (last(1e-6), last(5.0));
        let (far, near) = (kl(&light).mean, kl(&heavy).mean);
        assert!(near > 0.0 && near < 0.5 * far, "{on}: {far} {near}");
        // Of one update more than of another by chance; over the run it falls more slowly.
        assert!(tight > loose, "{on}: the loss is the cross-entropy alone");
    }
}

#[test]
fn without_it_there_is_no_divergence_and_the_same_run() {
    let plain = run("");
    assert!(plain.iter().all(|update| update.kl.is_none()));
    let line = serde_json::to_string(&plain[0]).unwrap();
    assert!(!line.contains("kl"), "{line}");
    // A weight of next to nothing is next to no change.
    let held = run("nightshift: { kl: { weight: 1e-9, on: all } }");
    for (a, b) in held.iter().zip(&plain).take(3) {
        assert!((a.loss - b.loss).abs() < 1e-5, "{} {}", a.loss, b.loss);
    }
    let line = serde_json::to_string(&held[39]).unwrap();
    assert!(line.contains(r#""kl":{"mean":"#), "{line}");
    let read: Update = serde_json::from_str(&line).unwrap();
    assert_eq!(read, held[39]);
}

#[test]
fn pairs_are_held_too() {
    let folder = tempfile::tempdir().unwrap();
    let pairs = (0..6u32).map(|i| Pair {
        prompt: vec![i + 1, 7, 9],
        chosen: vec![i + 10, 5],
        rejected: vec![i + 20, 5],
    });
    let settings = "train_mode: dpo\nnightshift: { kl: { weight: 0.5, on: untrained } }";
    let data = Dataset::pairs("train", pairs, 64).unwrap();
    let updates = train(config(folder.path(), settings), data).unwrap();
    // Tokens 2 and 3 of the prompt, in both rows of six pairs.
    assert_eq!(kl(&updates[0]).tokens, 24);
    let (last, held) = (updates[39].preference.unwrap(), kl(&updates[39]).mean);
    assert!(last.accuracy > 0.8 && held > 0.0 && held < 1.0, "{last:?} {held}");
}

#[test]
fn what_cannot_be_held_is_refused() {
    for (settings, expected) in [
        ("kl: { on: all }", "expected a key `weight`, found none"),
        ("kl: { weight: 1 }", "expected a key `on`, found none"),
        ("kl: { weight: 0, on: all }", "`nightshift.kl.weight`: expected a finite number above 0"),
        ("kl: { weight: 1, on: some }", "expected one of replay, all, untrained, found some"),
        ("kl: { weight: 1, on: all, of: base }", "unknown key `of`"),
    ] {
        let yaml = format!("nightshift: {{ {settings} }}");
        let error = TrainConfig::from_yaml(&yaml, "run.yaml").unwrap_err().to_string();
        assert!(error.starts_with("run.yaml:1: ") && error.contains(expected), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let settings = "nightshift: { kl: { weight: 1, on: replay } }";
    let data = rows().into_iter().map(|row| row.from_source(RowSource::Data));
    let data = Dataset::new("train", data, 64).unwrap();
    let error = train(config(folder.path(), settings), data).unwrap_err();
    assert!(matches!(error, Error::Setting { .. }));
    assert_eq!(
        error.to_string(),
        "run.yaml:8: `nightshift.kl.on`: expected all or untrained, or rows with \
         `\"kind\": \"replay\"` in the training data, found replay and no such row"
    );
}

#[test]
fn replay_rows_are_those_of_this_kind() {
    let tiny = Tiny::new();
    let row = |kind: &str| {
        let messages = r#"[{"role":"user","content":"q?"},{"role":"assistant","content":"a"}]"#;
        format!("{{\"messages\":{messages}{kind}}}\n")
    };
    let rows = [r#","kind":"replay""#, r#","kind":"fact""#, "", r#","kind":["replay"]"#].map(row);
    tiny.write("train.jsonl", &rows.concat());
    let yaml = format!("data: {}", tiny.path("").display());
    let config = TrainConfig::from_yaml(&yaml, "run.yaml").unwrap();
    let tokenizer = ChatTokenizer::open(tiny.path("model")).unwrap();
    let data = Data::open(&config, &tokenizer).unwrap().train;
    let sources: Vec<_> = data.rows().iter().map(|row| row.source()).collect();
    use RowSource::{Data as Own, Replay};
    assert_eq!(sources, [Replay, Own, Own, Own]);
}
