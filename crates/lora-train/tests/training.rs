//! Whole runs: learning, non-finite losses, invalid settings, early stopping.

#![allow(clippy::single_range_in_vec_init, reason = "one trained range is meant")]

use std::ops::ControlFlow;
use std::path::Path;

use lora_train::metrics::{Event, Record};
use lora_train::{Data, Dataset, Ending, Error, Example, Progress, Start, TrainConfig, Trainer};
use models::{Adapter, Model, ScoreRow, score};

fn model() -> Model {
    let fixture = "../../fixtures/golden/mlx_lm/model";
    Model::open(Path::new(env!("CARGO_MANIFEST_DIR")).join(fixture)).unwrap()
}

fn config(folder: &Path, more: &str) -> TrainConfig {
    let yaml = format!(
        "
adapter_path: {}
num_layers: -1
lora_parameters: {{ rank: 8, scale: 4.0 }}
batch_size: 3
learning_rate: 1e-2
steps_per_eval: 5
{more}",
        folder.display()
    );
    TrainConfig::from_yaml(&yaml, "run.yaml").unwrap()
}

fn examples() -> Vec<Example> {
    (0..6u32)
        .map(|i| {
            Example::new(
                (0..12).map(|j| (i * i * 11 + j * (i + 3) + 1) % 64).collect(),
                vec![4..12],
            )
        })
        .collect()
}

fn dataset(examples: Vec<Example>) -> Dataset {
    Dataset::new("train", examples, 64).unwrap()
}

fn train(config: TrainConfig, data: Data) -> (Vec<Record>, lora_train::Result<Ending>) {
    let mut records = Vec::new();
    let ending = Trainer::new(model(), config, data, Start::Fresh).and_then(|trainer| {
        let mut watch = |progress: Progress<'_>| {
            if let Progress::Recorded(record) = progress {
                records.push(record.clone());
            }
            ControlFlow::Continue(())
        };
        Ok(trainer.run(&mut watch)?.ending)
    });
    (records, ending)
}

fn losses(records: &[Record]) -> Vec<f64> {
    let loss = |record: &Record| match record {
        Record::Update(update) => Some(update.loss),
        Record::Event(_) => None,
    };
    records.iter().filter_map(loss).collect()
}

#[test]
fn it_memorizes_a_few_rows_and_the_saved_adapter_has_the_same_loss() {
    for variant in [
        "",
        "fine_tune_type: dora\nnightshift: { rank_pattern: { mlp.down_proj: 12 } }",
        "nightshift: { optimizer_state: int8, rank_pattern: { mlp.down_proj: 64 } }",
    ] {
        memorizes(variant);
    }
}

fn memorizes(variant: &str) {
    let folder = tempfile::tempdir().unwrap();
    let data =
        Data { train: dataset(examples()), valid: Some(dataset(examples())), retention: None };
    let (records, ending) = train(config(folder.path(), &format!("iters: 80\n{variant}")), data);
    assert_eq!(ending.unwrap(), Ending::Complete);
    let losses = losses(&records);
    // Rank 8 on two frozen layers of random weights cannot fit the rows much better.
    assert!(losses[79] < 0.75 * losses[0], "from {} to {}", losses[0], losses[79]);

    // The last validation, compared with scoring of the saved adapter by the models crate.
    let Some(Record::Event(Event::Validation { loss, tokens, .. })) = records.last() else {
        panic!("no validation at the end");
    };
    let model = model();
    let adapter = Adapter::load(folder.path(), &model).unwrap();
    let rows = examples();
    let rows: Vec<_> =
        rows.iter().map(|row| ScoreRow { tokens: &row.tokens, scored: &row.trained }).collect();
    let total: models::Score = score(&model, &adapter, &rows).unwrap().into_iter().sum();
    assert_eq!(total.tokens as u64, *tokens);
    // In 16 bits rows of other lengths round otherwise: ten roundoffs of a loss of about 2.
    let most = if model.bytes_per_value() == 4 { 1e-5 } else { 2.0 * 10.0 / 512.0 };
    assert!((total.loss() - loss).abs() < most, "{} v {loss}", total.loss());
}

#[test]
fn an_update_counts_its_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let data = Data { train: dataset(examples()), valid: None, retention: None };
    let (records, _) = train(config(folder.path(), "iters: 1"), data);
    let Some(Record::Update(update)) = records.last() else { panic!("no update") };
    // Three rows of 12 tokens, the last of which is only predicted; 8 of each are trained.
    assert_eq!((update.processed_tokens, update.trained_tokens), (33, 24));
    assert!(update.rss_bytes > 0 && update.seconds > 0.0);
}

#[test]
fn epochs_see_every_row_and_the_last_update_may_be_small() {
    let folder = tempfile::tempdir().unwrap();
    let data = Data { train: dataset(examples()), valid: None, retention: None };
    let settings = "grad_accumulation_steps: 2\nnightshift: { epochs: 1.5 }";
    let (records, _) = train(config(folder.path(), settings), data);
    let trained = |record: &Record| match record {
        Record::Update(update) => Some(update.trained_tokens),
        Record::Event(_) => None,
    };
    let trained: Vec<_> = records.iter().filter_map(trained).collect();
    assert_eq!(trained, [6 * 8, 3 * 8]);
}

#[test]
fn a_non_finite_loss_stops_the_run_or_skips_the_update() {
    let folder = tempfile::tempdir().unwrap();
    let explode = |on_bad_loss: &str| {
        let yaml = format!(
            "
adapter_path: {}
num_layers: -1
lora_parameters: {{ rank: 8, scale: 1.0e+4 }}
batch_size: 6
iters: 4
learning_rate: 1.0e+30
nightshift: {{ on_bad_loss: {on_bad_loss} }}
",
            folder.path().display()
        );
        let config = TrainConfig::from_yaml(&yaml, "run.yaml").unwrap();
        train(config, Data { train: dataset(examples()), valid: None, retention: None })
    };
    // B starts at zero, so the first update has a finite loss; it changes B by 1e30.
    let (records, ending) = explode("stop");
    let Err(Error::NotFinite { step, rows, .. }) = ending else { panic!("went on: {ending:?}") };
    assert_eq!((step, losses(&records).len()), (2, 1));
    assert_eq!(rows, [1, 2, 3, 4, 5, 6]);
    let report = std::fs::read_to_string(folder.path().join("bad-rows.jsonl")).unwrap();
    assert!(report.starts_with(r#"{"step":2,"#), "{report}");

    let (records, ending) = explode("skip");
    assert_eq!(ending.unwrap(), Ending::Complete);
    assert_eq!(losses(&records).len(), 1, "the other three were skipped");
}

#[test]
fn early_stop_ends_a_run_that_no_longer_improves() {
    let folder = tempfile::tempdir().unwrap();
    // Validation rows that contradict the training rows.
    let mut other = examples();
    for row in &mut other {
        row.tokens[5..].reverse();
    }
    let data = Data { train: dataset(examples()), valid: Some(dataset(other)), retention: None };
    let settings = "iters: 200\nnightshift: { early_stop: { patience: 2 }, eval_best: true }";
    let trainer =
        Trainer::new(model(), config(folder.path(), settings), data, Start::Fresh).unwrap();
    let outcome = trainer.run(&mut ()).unwrap();
    assert_eq!(outcome.ending, Ending::EarlyStop);
    let best = outcome.best.unwrap().step;
    assert_eq!(outcome.step, best + 10, "two validations after the best one");
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    assert_eq!(read("adapters.safetensors"), read("best/adapters.safetensors"));
}

#[test]
fn invalid_data_is_refused_before_the_first_update() {
    let folder = tempfile::tempdir().unwrap();
    let refuse = |more: &str, rows: Vec<Example>| {
        let data = Data { train: dataset(rows), valid: None, retention: None };
        train(config(folder.path(), more), data).1.unwrap_err().to_string()
    };
    let beyond = vec![Example::new(vec![1, 2, 64], vec![1..2, 2..3])];
    assert_eq!(refuse("", beyond), "row 1: token 64 is outside the model's vocabulary of 64");
    let missing = refuse("resume_adapter_file: /nowhere/a.safetensors", examples());
    assert!(missing.contains("/nowhere/a.safetensors"), "{missing}");
    let nothing = Dataset::new("valid", [Example::new(vec![1, 2], vec![0..1])], 9);
    assert_eq!(
        nothing.unwrap_err().to_string(),
        "valid data: none of 1 rows has a token to train on within 9 tokens (`max_seq_length`)"
    );
}

#[test]
fn unknown_keys_are_refused_with_the_list_of_linear_layers() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = format!(
        "
adapter_path: {}
num_layers: -1
lora_parameters: {{ rank: 8, scale: 4.0, keys: [self_attn.q_proj, attention.wq] }}
",
        folder.path().display()
    );
    let config = TrainConfig::from_yaml(&yaml, "run.yaml").unwrap();
    let data = || Data { train: dataset(examples()), valid: None, retention: None };
    let error = train(config, data()).1.unwrap_err().to_string();
    assert_eq!(
        error,
        "run.yaml:4: `lora_parameters.keys`: expected linear layers of the adapted layers \
         (self_attn.q_proj, self_attn.k_proj, self_attn.v_proj, self_attn.o_proj, mlp.gate_proj, \
         mlp.up_proj, mlp.down_proj) or model.embed_tokens, found attention.wq"
    );

    let pattern = self::config(folder.path(), "nightshift: { rank_pattern: { mlp.dwn_proj: 4 } }");
    let error = train(pattern, data()).1.unwrap_err().to_string();
    assert!(error.contains("`nightshift.rank_pattern`: expected linear layers"), "{error}");
    assert!(error.ends_with("found mlp.dwn_proj"), "{error}");
}
