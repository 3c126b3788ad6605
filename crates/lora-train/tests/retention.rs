//! How far a run has moved from its base model (`nightshift.retention`): what is measured, which adapter is
//! the best one, when a run ends, and what is refused.

#![allow(clippy::single_range_in_vec_init, reason = "one trained range is meant")]

#[path = "../../pipeline/tests/support/mod.rs"]
mod support;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use chat_format::ChatTokenizer;
use lora_train::metrics::Metrics;
use lora_train::{
    Data, Dataset, Ending, Error, Example, Outcome, RowSource, Start, TrainConfig, Trainer,
};
use models::{Adapter, Divergence, Model, ScoreRow};
use support::Tiny;

fn model() -> Model {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden/mlx_lm/model");
    Model::open(path).unwrap()
}

fn config(folder: &Path, settings: &str) -> TrainConfig {
    let yaml = format!(
        "
adapter_path: {}
num_layers: -1
lora_parameters: {{ rank: 8, scale: 4.0 }}
batch_size: 3
iters: 40
learning_rate: 1e-3
steps_per_eval: 5
nightshift: {{ {settings} }}",
        folder.display()
    );
    TrainConfig::from_yaml(&yaml, "run.yaml").unwrap()
}

fn examples(shift: u32, source: RowSource) -> Vec<Example> {
    let row = |i: u32| {
        let tokens = (0..12).map(|j| (i * i * 11 + j * (i + 3) + shift) % 64).collect();
        Example::new(tokens, vec![4..12]).from_source(source)
    };
    (0..6).map(row).collect()
}

fn dataset(rows: Vec<Example>) -> Dataset {
    Dataset::new("train", rows, 64).unwrap()
}

/// Six rows to learn, which are validation rows too, and six replay rows that are not trained.
fn run(folder: &Path, settings: &str) -> Outcome {
    let config = config(folder, settings);
    let data = Data {
        train: dataset(examples(1, RowSource::Data)),
        valid: Some(dataset(examples(1, RowSource::Data))),
        retention: Some(dataset(examples(29, RowSource::Replay))),
    };
    Trainer::new(model(), config, data, Start::Fresh).unwrap().run(&mut ()).unwrap()
}

/// The divergence of an adapter on disk, by the exam's own measurement.
fn divergence(adapter: PathBuf) -> f64 {
    let model = model();
    let rows = examples(29, RowSource::Replay);
    let rows: Vec<ScoreRow<'_>> =
        rows.iter().map(|row| ScoreRow { tokens: &row.tokens, scored: &row.trained }).collect();
    let adapter = Adapter::load(adapter, &model).unwrap();
    let parts = models::divergence(&model, &Adapter::none(&model), &adapter, &rows).unwrap();
    parts.into_iter().sum::<Divergence>().mean_kl()
}

#[test]
fn it_is_measured_with_each_validation_and_is_that_of_the_adapter() {
    let folder = tempfile::tempdir().unwrap();
    let outcome = run(folder.path(), "retention: { rows: 32 }");
    let metrics = Metrics::read(folder.path().join("metrics.jsonl")).unwrap();
    let measured: Vec<_> = metrics.retentions().collect();
    let steps: Vec<u64> = measured.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, [0, 5, 10, 15, 20, 25, 30, 35, 40]);
    assert!(measured.iter().all(|(_, kl)| kl.tokens == 48), "eight of each of six rows");
    assert!(measured[0].1.mean.abs() < 1e-6, "a new adapter changes nothing: {measured:?}");
    let last = measured[8].1.mean;
    let saved = divergence(folder.path().to_owned());
    assert!(last > 0.05 && (last - saved).abs() < 1e-5 * last, "{last} {saved}");
    assert_eq!(outcome.ending, Ending::Complete);
    // Without a limit the best one is that of the lowest loss, whatever its divergence.
    let (step, loss) = metrics.validations().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    let best = outcome.best.unwrap();
    assert_eq!((best.step, best.loss), (step, Some(loss)));
}

/// Step, loss and divergence of each validation of a run without a limit.
fn measured() -> Vec<(u64, f64, f64)> {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), "retention: {}");
    let metrics = Metrics::read(folder.path().join("metrics.jsonl")).unwrap();
    let losses = metrics.validations();
    losses.zip(metrics.retentions()).map(|((step, loss), (_, kl))| (step, loss, kl.mean)).collect()
}

#[test]
fn the_best_adapter_has_the_lowest_loss_within_the_limit() {
    let all = measured();
    let lowest = |limit: f64| {
        let within = all.iter().filter(|(.., kl)| *kl <= limit);
        within.min_by(|a, b| a.1.total_cmp(&b.1)).copied().unwrap()
    };
    let mut limits: Vec<f64> = all.iter().map(|(.., kl)| *kl).collect();
    limits.sort_by(f64::total_cmp);
    let chosen: HashSet<u64> = limits.iter().map(|limit| lowest(*limit).0).collect();
    assert!(chosen.len() > 3, "the limit makes no difference: {all:?}");

    for limit in [limits[2], limits[4]] {
        let (step, loss, kl) = lowest(limit);
        let folder = tempfile::tempdir().unwrap();
        let settings = format!("eval_best: true, retention: {{ max_kl: {limit:?} }}");
        let outcome = run(folder.path(), &settings);
        assert_eq!((outcome.ending, outcome.step), (Ending::Complete, 40));
        let best = outcome.best.unwrap();
        assert_eq!((best.step, best.loss, best.kl), (step, Some(loss), Some(kl)));
        let saved = divergence(folder.path().to_owned());
        assert!((saved - kl).abs() < 1e-5 * kl, "the adapter on disk: {saved} {kl}");
    }
}

#[test]
fn early_stopping_counts_validations_beyond_the_limit() {
    let all = measured();
    // The second validation is within the limit, those right after it are not.
    let limit = all[1].2;
    assert!(all[2..5].iter().all(|(.., kl)| *kl > limit) && all[1].1 < all[0].1, "{all:?}");
    for (patience, end) in [(1, 10), (3, 20)] {
        let folder = tempfile::tempdir().unwrap();
        let settings = format!(
            "eval_best: true, early_stop: {{ patience: {patience} }}, retention: {{ max_kl: {limit:?} }}"
        );
        let outcome = run(folder.path(), &settings);
        assert_eq!((outcome.ending, outcome.step), (Ending::EarlyStop, end));
        assert_eq!(outcome.best.unwrap().step, 5);
        let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
        assert_eq!(read("adapters.safetensors"), read("best/adapters.safetensors"));
    }
}

#[test]
fn a_start_beyond_the_limit_has_no_best_adapter() {
    let (far, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    run(far.path(), "retention: {}");
    let settings = "eval_best: true, early_stop: { patience: 1 }, retention: { max_kl: 1.0e-3 }";
    let mut config = config(folder.path(), settings);
    config.resume_adapter_file = Some(far.path().join("adapters.safetensors"));
    let train = dataset(examples(1, RowSource::Data));
    let retention = Some(dataset(examples(29, RowSource::Replay)));
    let data = Data { train, valid: None, retention };
    let outcome = Trainer::new(model(), config, data, Start::Fresh).unwrap().run(&mut ()).unwrap();
    assert_eq!((outcome.ending, outcome.step, outcome.best), (Ending::EarlyStop, 0, None));
}

#[test]
fn without_replay_rows_for_validation_a_few_of_the_training_rows_are_held_back() {
    let folder = tempfile::tempdir().unwrap();
    let mixed = || {
        let rows = [examples(1, RowSource::Data), examples(29, RowSource::Replay)].concat();
        Data { train: dataset(rows), valid: None, retention: None }
    };
    for (rows, held) in [(1, vec![12]), (2, vec![11, 12]), (32, vec![11, 12])] {
        let config = config(folder.path(), &format!("retention: {{ rows: {rows} }}"));
        let data = mixed().with_retention(&config).unwrap();
        let numbers = |data: &Dataset| data.rows().iter().map(|row| row.number()).collect();
        let (retention, train): (Vec<_>, Vec<_>) =
            (numbers(data.retention.as_ref().unwrap()), numbers(&data.train));
        assert_eq!(retention, held);
        assert_eq!(train, (1..=12).filter(|row| !held.contains(row)).collect::<Vec<usize>>());
        // What is taken once stays.
        let again = data.clone().with_retention(&config).unwrap();
        assert_eq!(again.train.digest(), data.train.digest());
    }
    let plain = mixed().with_retention(&config(folder.path(), "lanes: 1")).unwrap();
    assert!(plain.retention.is_none() && plain.train.rows().len() == 12);
}

#[test]
fn files_with_replay_rows_are_measured() {
    let tiny = Tiny::new();
    let row = |kind: &str| {
        let messages = r#"[{"role":"user","content":"q?"},{"role":"assistant","content":"a"}]"#;
        format!("{{\"messages\":{messages},\"kind\":\"{kind}\"}}\n")
    };
    tiny.write("train.jsonl", &[row("fact"), row("replay")].concat());
    tiny.write("valid.jsonl", &[row("replay"), row("fact"), row("replay")].concat());
    let yaml = format!("data: {}\nnightshift: {{ retention: {{}} }}", tiny.path("").display());
    let config = TrainConfig::from_yaml(&yaml, "run.yaml").unwrap();
    let tokenizer = ChatTokenizer::open(tiny.path("model")).unwrap();
    let data = Data::open(&config, &tokenizer).unwrap();
    assert_eq!((data.train.rows().len(), data.retention.unwrap().rows().len()), (2, 2));
}

#[test]
fn what_cannot_be_measured_is_refused() {
    for (settings, expected) in [
        ("retention: { rows: 0 }", "`nightshift.retention.rows`: expected at least 1, found 0"),
        ("retention: { max_kl: 0.1 }", "`nightshift.retention.max_kl`: expected `eval_best: true`"),
        (
            "eval_best: true, retention: { max_kl: -1 }",
            "`nightshift.retention.max_kl`: expected a finite number above 0, found -1",
        ),
        ("retention: { kl: 1 }", "unknown key `kl`"),
    ] {
        let yaml = format!("nightshift: {{ {settings} }}");
        let error = TrainConfig::from_yaml(&yaml, "run.yaml").unwrap_err().to_string();
        assert!(error.starts_with("run.yaml:1: ") && error.contains(expected), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "retention: {}");
    let train = dataset(examples(1, RowSource::Data));
    let data = Data { train, valid: None, retention: None };
    let refused = data.clone().with_retention(&config).unwrap_err();
    let started = Trainer::new(model(), config, data, Start::Fresh).err().unwrap();
    for error in [refused, started] {
        assert!(matches!(error, Error::Setting { .. }));
        assert_eq!(
            error.to_string(),
            "run.yaml:9: `nightshift.retention`: expected rows with `\"kind\": \"replay\"`, or no \
             such key, found no such row"
        );
    }
}
