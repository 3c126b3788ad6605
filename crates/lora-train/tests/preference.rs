//! Preference losses and runs against PyTorch and TRL (`fixtures/golden/preference`), the reference's
//! log-probabilities on disk, and what the configuration refuses.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use lora_train::config::{Reference, TrainMode};
use lora_train::lint::{Facts, LintCode, lint};
use lora_train::metrics::{Event, Metrics, Record, Update};
use lora_train::preference::{Answer, PreferenceMetrics};
use lora_train::{
    Data, Dataset, Ending, Error, Example, Pair, Progress, Result, Start, TrainConfig, Trainer,
};
use mlx_rs::Array;
use models::{Adapter, Kernels, Model, OpenOptions, ScoreRow, score};
use serde::Deserialize;
use serde_json::{Value, json};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden").join(name)
}

fn model_path() -> PathBuf {
    golden("mlx_lm/model")
}

#[derive(Deserialize)]
struct Losses {
    cases: Vec<LossCase>,
}

#[derive(Deserialize)]
struct LossCase {
    settings: Value,
    baseline: f64,
    loss: f64,
    chosen: Vec<GoldenAnswer>,
    rejected: Vec<GoldenAnswer>,
}

#[derive(Deserialize)]
struct GoldenAnswer {
    logps: Vec<f64>,
    reference: f64,
    gradient: Vec<f64>,
}

impl GoldenAnswer {
    fn answer(&self) -> Answer {
        let Self { logps, reference, .. } = self;
        Answer { sum: logps.iter().sum(), reference: *reference, tokens: logps.len() }
    }
}

/// Both in f64, so what is tolerated is the rounding of sums in another order.
#[test]
fn losses_and_gradients_are_those_of_trl_in_f64() {
    let text = std::fs::read_to_string(golden("preference/losses.json")).unwrap();
    let golden: Losses = serde_json::from_str(&text).unwrap();
    assert_eq!(golden.cases.len(), 63);
    for LossCase { settings, baseline, loss, chosen, rejected } in golden.cases {
        let config: TrainConfig = serde_json::from_value(settings.clone()).unwrap();
        config.validate().unwrap();
        let objective = config.objective().unwrap().with_baseline(baseline);
        let answers = chosen.iter().zip(&rejected).map(|(a, b)| [a.answer(), b.answer()]);
        let pairs: Vec<[Answer; 2]> = answers.collect();
        let close = |ours: f64, theirs: f64, what: &str| {
            let apart = (ours - theirs).abs();
            assert!(apart <= 1e-9 * (1.0 + theirs.abs()), "{settings} {what}: {ours} v {theirs}");
        };
        close(objective.summary(&pairs).0, loss, "loss");
        let tokens: usize = chosen.iter().map(|answer| answer.logps.len()).sum();
        for (index, [a, b]) in pairs.iter().enumerate() {
            let slopes = objective.pair(*a, *b);
            let count = pairs.len() as f64;
            let of_chosen = slopes.chosen / count - objective.nll() / tokens as f64;
            for (side, ours) in [(&chosen, of_chosen), (&rejected, slopes.rejected / count)] {
                for theirs in &side[index].gradient {
                    close(ours, *theirs, "gradient");
                }
            }
        }
    }
}

#[derive(Deserialize)]
struct Run {
    rank: usize,
    scale: f64,
    learning_rate: f64,
    pairs: Vec<GoldenPair>,
    cases: HashMap<String, RunCase>,
}

#[derive(Deserialize)]
struct GoldenPair {
    prompt_ids: Vec<u32>,
    chosen_ids: Vec<u32>,
    rejected_ids: Vec<u32>,
}

#[derive(Deserialize)]
struct RunCase {
    settings: serde_json::Map<String, Value>,
    updates: Vec<HashMap<String, f64>>,
}

fn records(trainer: Trainer) -> Vec<Record> {
    let mut records = Vec::new();
    let mut watch = |progress: Progress<'_>| {
        if let Progress::Recorded(record) = progress {
            records.push(record.clone());
        }
        ControlFlow::Continue(())
    };
    assert_eq!(trainer.run(&mut watch).unwrap().ending, Ending::Complete);
    records
}

fn largest_difference(a: &HashMap<String, Array>, b: &HashMap<String, Array>) -> f32 {
    assert_eq!(a.len(), b.len());
    let apart = a.iter().map(|(name, a)| {
        let apart = a.subtract(&b[name]).unwrap().abs().unwrap();
        apart.max(None).unwrap().item_exact::<f32>()
    });
    apart.fold(0.0, f32::max)
}

#[test]
fn five_updates_of_llama_agree_with_trl() {
    let text = std::fs::read_to_string(golden("preference/run.json")).unwrap();
    let golden_run: Run = serde_json::from_str(&text).unwrap();
    let pairs: Vec<Pair> = golden_run
        .pairs
        .into_iter()
        .map(|GoldenPair { prompt_ids, chosen_ids, rejected_ids }| Pair {
            prompt: prompt_ids,
            chosen: chosen_ids,
            rejected: rejected_ids,
        })
        .collect();
    assert_eq!(golden_run.cases.len(), 5);
    for (name, case) in golden_run.cases {
        let folder = tempfile::tempdir().unwrap();
        let start = golden(&format!("preference/{name}.start.safetensors"));
        let mut settings = json!({
            "adapter_path": folder.path(),
            "resume_adapter_file": start,
            "num_layers": -1,
            "lora_parameters": { "rank": golden_run.rank, "scale": golden_run.scale },
            "optimizer": "sgd",
            "learning_rate": golden_run.learning_rate,
            "batch_size": pairs.len(),
            "iters": case.updates.len(),
        });
        settings.as_object_mut().unwrap().extend(case.settings);
        let config: TrainConfig = serde_json::from_value(settings).unwrap();
        config.validate().unwrap();
        let train = Dataset::pairs("train", pairs.clone(), 64).unwrap();
        let model = Model::open(model_path()).unwrap();
        let in_f32 = model.bytes_per_value() == 4;
        let data = Data { train, valid: None, retention: None };
        let records = records(Trainer::new(model, config, data, Start::Fresh).unwrap());
        let updates: Vec<_> = records.iter().filter_map(Record::as_update).collect();
        assert_eq!(updates.len(), case.updates.len());
        for (update, theirs) in updates.iter().zip(&case.updates) {
            let metrics = update.preference.unwrap();
            for (key, theirs) in theirs {
                let ours = match key.as_str() {
                    "loss" => update.loss,
                    "rewards/accuracies" => metrics.accuracy,
                    "rewards/margins" => metrics.margin,
                    "logps/chosen" => metrics.chosen_logp,
                    "logps/rejected" => metrics.rejected_logp,
                    "kl" => metrics.baseline.unwrap(),
                    other => panic!("{other}"),
                };
                // Log-probabilities of about -25: in f32, or in 16 bits ten roundoffs before the first
                // update. Adam then makes whole steps of gradients that are rounding only.
                if !in_f32 && (update.step > 1 || key == "rewards/accuracies") {
                    continue;
                }
                let most = if in_f32 { 3e-5 } else { 25.0 * 10.0 / 512.0 };
                let apart = (ours - theirs).abs();
                let step = update.step;
                // At the start the rewards are equal but for rounding: TRL's are exactly so.
                let decided = key != "rewards/accuracies" || step > 1;
                assert!(apart < most || !decided, "{name} {step} {key}: {ours} v {theirs}");
            }
        }
        let load = |path: PathBuf| Array::load_safetensors(path).unwrap();
        let theirs = load(golden(&format!("preference/{name}.end.safetensors")));
        let ours = load(folder.path().join("adapters.safetensors"));
        let moved = largest_difference(&theirs, &load(start));
        let apart = largest_difference(&ours, &theirs);
        println!("{name}: {apart:e} apart of {moved:e} moved");
        // Five updates in f32 with sums in another order; a wrong weight is off by a hundredth or more.
        assert!(!in_f32 || apart < 1e-5 * moved, "{name}: {apart:e} apart of {moved:e} moved");
    }
}

fn pairs(count: u32) -> Vec<Pair> {
    let answer = |i: u32, length: u32| (0..length).map(|j| (i * 7 + j * 5 + 3) % 64).collect();
    (0..count)
        .map(|i| Pair {
            prompt: (0..4 + i % 3).map(|j| (i / 2 * 11 + j * 3 + 1) % 64).collect(),
            chosen: answer(i, 3 + i % 4),
            rejected: answer(i + 20, 2 + i % 5),
        })
        .collect()
}

fn data(count: u32) -> Data {
    let split = |name| Dataset::pairs(name, pairs(count), 64).unwrap();
    Data { train: split("train"), valid: Some(split("valid")), retention: None }
}

fn config(folder: &Path, more: &str) -> TrainConfig {
    let yaml = format!(
        "
model: {}
adapter_path: {}
num_layers: -1
lora_parameters: {{ rank: 4, scale: 2.0 }}
batch_size: 3
iters: 30
steps_per_eval: 1000
optimizer: adamw
learning_rate: 1e-2
{more}",
        model_path().display(),
        folder.display()
    );
    TrainConfig::from_yaml(&yaml, "run.yaml").unwrap()
}

fn trainer(config: TrainConfig, data: Data) -> Result<Trainer> {
    Trainer::new(Model::open(model_path()).unwrap(), config, data, Start::Fresh)
}

fn preference(record: &Record) -> Option<PreferenceMetrics> {
    match record {
        Record::Event(Event::Validation { preference, .. }) => *preference,
        _ => None,
    }
}

#[test]
fn every_loss_learns_to_prefer_and_says_what_it_did_to_the_answers() {
    for mode in [
        "train_mode: dpo",
        "{ train_mode: dpo, loss_type: ipo }",
        "{ train_mode: dpo, loss_type: [sigmoid, sft], loss_weights: [1, 0.2] }",
        "{ train_mode: cpo, loss_type: hinge }",
        "{ train_mode: simpo, beta: 2 }",
        "train_mode: orpo",
        "train_mode: kto",
        "{ train_mode: kto, loss_type: apo_zero_unpaired }",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mode = mode.trim_matches(['{', '}', ' ']).replace(", l", "\nl").replace(", b", "\nb");
        let config = config(folder.path(), &mode);
        let needs_reference = config.objective().unwrap().needs_reference();
        let records = records(trainer(config, data(6)).unwrap());
        let validations: Vec<_> = records.iter().filter_map(preference).collect();
        let [before, after] = validations[..] else { panic!("{validations:?}") };
        let model = Model::open(model_path()).unwrap();
        let in_f32 = model.bytes_per_value() == 4;
        // Thirty updates in 16 bits take another path; a pair or two of six may be on the wrong side at its end.
        let accuracy = if in_f32 { 0.8 } else { 0.6 };
        assert!(after.accuracy > accuracy && after.margin > before.margin, "{mode}: {after:?}");
        assert_eq!(after.pairs, 6);
        let gap = |metrics: PreferenceMetrics| metrics.chosen_logp - metrics.rejected_logp;
        assert!(gap(after) > gap(before), "{mode}: {before:?} {after:?}");
        assert_eq!(after.chosen_change.is_some(), needs_reference, "{mode}");
        // The last validation, compared with scoring by the models crate.
        let adapter = Adapter::load(folder.path(), &model).unwrap();
        let rows: Vec<Vec<u32>> =
            pairs(6).iter().map(|pair| [pair.prompt.as_slice(), &pair.chosen].concat()).collect();
        let trained: Vec<_> = pairs(6)
            .iter()
            .map(|pair| vec![pair.prompt.len()..pair.prompt.len() + pair.chosen.len()])
            .collect();
        let rows: Vec<_> =
            rows.iter().zip(&trained).map(|(tokens, scored)| ScoreRow { tokens, scored }).collect();
        let total: models::Score = score(&model, &adapter, &rows).unwrap().into_iter().sum();
        // In 16 bits rows of other lengths round otherwise: ten roundoffs of a loss of about 4.
        let most = if in_f32 { 1e-5 } else { 4.0 * 10.0 / 512.0 };
        assert!((after.nll - total.loss()).abs() < most, "{mode}: {} {}", after.nll, total.loss());
    }
}

#[test]
fn a_chosen_answer_that_becomes_less_likely_is_told() {
    let mut metrics = PreferenceMetrics::default();
    assert!(!metrics.chosen_falls(), "without a reference nothing is known");
    for (change, falls) in [(0.5, false), (-0.2, false), (-3.0, true)] {
        metrics.chosen_change = Some(change);
        assert_eq!(metrics.chosen_falls(), falls);
    }
    let line = r#"{"pairs":2,"accuracy":0.5,"margin":0.1,"chosen_logp":-3.0,"rejected_logp":-4.0,"nll":1.0}"#;
    let read: PreferenceMetrics = serde_json::from_str(line).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), line);
}

fn reference(folder: &Path) -> (bool, u64, u64) {
    let metrics = Metrics::read(folder.join("metrics.jsonl")).unwrap();
    let of = |record: &Record| match record {
        Record::Event(Event::Reference { answers, adapter, computed_tokens, .. }) => {
            Some((*adapter, *answers, *computed_tokens))
        }
        _ => None,
    };
    metrics.records.iter().find_map(of).unwrap()
}

#[test]
fn the_reference_is_computed_once_and_kept_by_what_it_depends_on() {
    let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let run = |more: &str, count| {
        let cache = cache.path().display();
        let more = format!(
            "train_mode: dpo\nbeta: 0.3\nnightshift: {{ reference_cache: {cache}{more} }}\n"
        );
        let mut config = config(folder.path(), &more);
        config.iters = 2;
        let records = records(trainer(config, data(count)).unwrap());
        let adapter = std::fs::read(folder.path().join("adapters.safetensors")).unwrap();
        assert!(records.iter().any(|r| matches!(r, Record::Event(Event::Reference { .. }))));
        (reference(folder.path()), adapter)
    };
    let ((adapter, answers, computed), expected) = run("", 6);
    // Both splits have the same pairs, so the second one's are read.
    assert!(!adapter && answers == 24 && computed > 50, "{answers} {computed}");
    assert_eq!(
        run("", 6),
        ((false, 24, 0), expected.clone()),
        "read from the disk: the same bytes"
    );
    let files = || -> Vec<PathBuf> {
        std::fs::read_dir(cache.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    let [file] = &files()[..] else { panic!("{:?}", files()) };

    // A damaged file is computed again.
    let whole = std::fs::read_to_string(file).unwrap();
    for damaged in [&whole[..whole.len() / 2], &whole.replace('-', "x"), "", &whole[10..]] {
        std::fs::write(file, damaged).unwrap();
        assert_eq!(run("", 6), ((false, 24, computed), expected.clone()), "{damaged}");
        assert_eq!(std::fs::read_to_string(file).unwrap(), whole);
    }
    // Other rows are another file.
    assert!(run("", 5).0.2 > 0);
    assert_eq!(files().len(), 2);
}

/// A run of fewer pairs than there are asks the reference for those alone, and makes the same updates as one that takes
/// all of them.
#[test]
fn the_reference_is_computed_for_the_pairs_that_are_taken() {
    for mode in ["dpo", "kto"] {
        let run = |iters| {
            let folder = tempfile::tempdir().unwrap();
            let mut config = config(folder.path(), &format!("train_mode: {mode}"));
            config.iters = iters;
            let train = Data { valid: None, ..data(12) };
            let records = records(trainer(config, train).unwrap());
            let updates = records.iter().filter_map(Record::as_update).cloned().collect::<Vec<_>>();
            (reference(folder.path()), updates)
        };
        let ((_, few, computed), short) = run(2);
        let ((_, all, computed_all), long) = run(4);
        assert_eq!((few, all), (12, 24), "{mode}");
        assert!(0 < computed && computed < computed_all, "{mode}: {computed} {computed_all}");
        assert_eq!(short.len(), 2);
        for (a, b) in short.iter().zip(&long) {
            // The reference's sums are the same but for the order within a batch.
            assert!((a.loss - b.loss).abs() < 1e-4, "{mode}: {} {}", a.loss, b.loss);
        }
    }
}

#[test]
fn the_reference_is_the_adapter_at_the_start_or_the_base() {
    let first = tempfile::tempdir().unwrap();
    records(trainer(config(first.path(), "train_mode: dpo"), data(6)).unwrap());
    let start = first.path().join("adapters.safetensors");
    let begin = |more: &str| {
        let folder = tempfile::tempdir().unwrap();
        let more = format!("train_mode: dpo\nresume_adapter_file: {}\n{more}", start.display());
        let mut config = config(folder.path(), &more);
        config.iters = 1;
        let records = records(trainer(config, data(6)).unwrap());
        let first = records.iter().find_map(preference).unwrap();
        (reference(folder.path()).0, first.chosen_change.unwrap(), first.accuracy)
    };
    let (adapter, change, _) = begin("");
    let in_f32 = Model::open(model_path()).unwrap().bytes_per_value() == 4;
    let most = if in_f32 { 1e-5 } else { 10.0 / 512.0 };
    assert!(adapter && change.abs() < most, "nothing has changed yet: {change}");
    for base in [
        "nightshift: { reference: base }".to_owned(),
        format!("reference_model_path: {}", model_path().display()),
    ] {
        let (adapter, change, accuracy) = begin(&base);
        assert!(!adapter && change.abs() > 0.1 && accuracy > 0.8, "{base}: {change}");
    }
}

#[test]
fn rows_and_losses_that_do_not_belong_together_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refusal = |more: &str, data| match trainer(config(folder.path(), more), data) {
        Err(error @ Error::Setting { .. }) => error.to_string(),
        other => panic!("{more}: {:?}", other.err()),
    };
    let found = refusal("train_mode: sft", data(3));
    assert_eq!(
        found,
        "run.yaml:11: `train_mode`: expected a preference loss such as dpo, for pairs, found sft"
    );
    #[allow(clippy::single_range_in_vec_init, reason = "one trained range is meant")]
    let row = Example::new(vec![1, 2, 3], vec![1..3]);
    let rows =
        Data { train: Dataset::new("train", [row], 9).unwrap(), valid: None, retention: None };
    let found = refusal("train_mode: orpo", rows);
    assert_eq!(
        found,
        "run.yaml:11: `train_mode`: expected sft, for rows without a chosen and a rejected answer, \
         found orpo"
    );
}

/// What a GPU would run, on the CPU: bf16 and MLX's own kernels. Log-probabilities of about -25 are then
/// within a few hundredths of those in f32, and so is all that depends on them.
#[test]
fn native_kernels_agree_to_the_precision_of_bf16() {
    let run = |kernels| {
        let folder = tempfile::tempdir().unwrap();
        let more = "train_mode: kto\nbeta: 0.5\nnightshift: { kl: { weight: 0.5, on: all } }";
        let mut config = config(folder.path(), more);
        (config.iters, config.batch_size) = (5, 6);
        let model =
            Model::open_with(model_path(), OpenOptions::default().kernels(kernels)).unwrap();
        let trainer = Trainer::new(model, config, data(6), Start::Fresh).unwrap();
        records(trainer).iter().filter_map(Record::as_update).cloned().collect::<Vec<_>>()
    };
    let (exact, native) = (run(Kernels::Blas), run(Kernels::Native));
    for (a, b) in exact.iter().zip(&native) {
        let [of_a, of_b] = [a, b].map(|update| update.preference.unwrap());
        assert!((a.loss - b.loss).abs() < 0.05, "{a:?} {b:?}");
        assert!((of_a.chosen_logp - of_b.chosen_logp).abs() < 0.5, "{of_a:?} {of_b:?}");
        let [of_a, of_b] = [a, b].map(|update| update.kl.unwrap().mean);
        assert!((of_a - of_b).abs() < 0.02 + 0.1 * of_a, "{of_a} {of_b}");
    }
    assert_eq!(native.len(), 5);
    let logp = |update: &Update| update.preference.unwrap().chosen_logp;
    assert_ne!(logp(&exact[0]), logp(&native[0]), "other kernels");
}

#[test]
fn kto_needs_answers_to_other_prompts() {
    let folder = tempfile::tempdir().unwrap();
    let same =
        (0..3).map(|i| Pair { prompt: vec![1, 2], chosen: vec![i + 3], rejected: vec![i + 9] });
    let train = Dataset::pairs("train", same, 64).unwrap();
    let alike = Data { train, valid: None, retention: None };
    let error = trainer(config(folder.path(), "train_mode: kto"), alike.clone()).err().unwrap();
    assert_eq!(
        error.to_string(),
        "run.yaml:11: `train_mode`: expected another loss for pairs that all have the same prompt, \
         found kto"
    );
    let zero = "train_mode: kto\nloss_type: apo_zero_unpaired";
    assert!(trainer(config(folder.path(), zero), alike).is_ok());

    // The divergence takes tokens of its own, and its references are kept like the others.
    let run = |mode: &str| -> (u64, u64, Option<f64>) {
        let mut config = config(folder.path(), mode);
        config.iters = 3;
        let records = records(trainer(config, data(6)).unwrap());
        let last = records.iter().filter_map(Record::as_update).next_back().unwrap();
        (last.processed_tokens, last.computed_tokens, last.preference.unwrap().baseline)
    };
    let (processed, computed, baseline) = run("train_mode: kto");
    let (without_processed, without_computed, none) = run(zero);
    assert_eq!(processed, without_processed);
    assert!(computed > without_computed && baseline >= Some(0.0) && none.is_none());
    run("train_mode: kto");
    assert_eq!(reference(folder.path()).2, 0, "all on disk");
}

#[test]
fn pairs_without_two_answers_are_dropped_and_counted() {
    let pair = |chosen: &[u32], rejected: &[u32]| Pair {
        prompt: vec![1, 2, 3],
        chosen: chosen.to_vec(),
        rejected: rejected.to_vec(),
    };
    let pairs = [
        pair(&[4, 5], &[6, 7]),
        pair(&[4, 5], &[4, 5]),
        pair(&[], &[4]),
        pair(&[8, 9, 10], &[8, 9, 11]),
        pair(&[4], &[5, 6, 7]),
    ];
    let data = Dataset::pairs("train", pairs, 5).unwrap();
    // The fourth differs only beyond the limit.
    assert_eq!((data.examples(), data.rows().len()), (2, 4));
    assert_eq!(data.dropped(), [2, 3, 4]);
    assert_eq!(data.truncated(), [4, 5]);
    assert_eq!(data.rows()[3].number(), 5);
    let none = Dataset::pairs("valid", [pair(&[4], &[4])], 9).unwrap_err();
    assert!(matches!(none, Error::NothingToTrain { rows: 1, .. }), "{none}");
}

fn refused(yaml: &str) -> String {
    TrainConfig::from_yaml(yaml, "run.yaml").unwrap_err().to_string()
}

#[test]
fn settings_are_refused_with_what_is_valid() {
    for (yaml, expected) in [
        (
            "train_mode: grpo",
            "run.yaml:1: `train_mode`: expected one of sft, dpo, cpo, simpo, orpo, kto",
        ),
        (
            "train_mode: dpo\nbeta: 0",
            "run.yaml:2: `beta`: expected a finite number above 0, found 0",
        ),
        (
            "train_mode: dpo\nloss_type: wpo",
            "run.yaml:2: `loss_type`: expected one of sigmoid, sigmoid_norm, hinge, ipo, robust, \
             dpop, simpo, sft, kto, apo_zero_unpaired, found wpo",
        ),
        (
            "train_mode: kto\nloss_type: sigmoid",
            "run.yaml:2: `loss_type`: expected one of kto, apo_zero_unpaired with this `train_mode`",
        ),
        (
            "train_mode: kto\ndesirable_weight: 0",
            "run.yaml:2: `desirable_weight`: expected a finite number above 0, found 0",
        ),
        ("train_mode: dpo\nloss_type: 3", "run.yaml:2: `loss_type`: expected the name of a loss"),
        (
            "train_mode: dpo\nloss_type: simpo",
            "run.yaml:2: `loss_type`: expected one of sigmoid, sigmoid_norm, hinge, ipo, robust, \
             dpop, sft with this `train_mode`, found simpo",
        ),
        (
            "train_mode: cpo\ndpo_cpo_loss_type: dpop",
            "run.yaml:2: `dpo_cpo_loss_type`: expected one of sigmoid, hinge, ipo, simpo",
        ),
        (
            "train_mode: dpo\nloss_type: [sigmoid, sft]\nloss_weights: [1]",
            "run.yaml:3: `loss_weights`: expected 2 finite numbers, one for each loss, found [1.0]",
        ),
        (
            "train_mode: dpo\nloss_type: [sft]",
            "run.yaml:2: `loss_type`: expected a loss that compares two answers, found none",
        ),
        (
            "train_mode: dpo\nloss_type: ipo\ndpo_cpo_loss_type: ipo",
            "run.yaml:2: `loss_type`: expected only this or `dpo_cpo_loss_type`, found both",
        ),
        (
            "train_mode: dpo\nloss_type: robust\nlabel_smoothing: 0.5",
            "run.yaml:3: `label_smoothing`: expected at least 0 and below 0.5, found 0.5",
        ),
        (
            "model: a\ntrain_mode: dpo\nreference_model_path: b",
            "run.yaml:3: `reference_model_path`: expected the value of `model`, or no such key, \
             found b",
        ),
        (
            "model: a\ntrain_mode: dpo\nreference_model_path: a\nnightshift: { reference: start }",
            "run.yaml:4: `nightshift.reference`: expected base",
        ),
        ("train_mode: dpo\ntest: true", "run.yaml:2: `test`: expected false with pairs"),
    ] {
        let found = refused(yaml);
        assert!(found.starts_with(expected), "{yaml}: {found}");
    }
}

#[test]
fn the_sample_file_is_read_and_has_no_key_without_effect() {
    let path = "../../fixtures/configs/preference.yaml";
    let config = TrainConfig::load(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    assert_eq!(config.mode(), TrainMode::Dpo);
    assert_eq!(config.reference(), Reference::Start);
    assert_eq!(config.objective().unwrap().nll(), 0.2);
    assert_eq!(config.grad_accumulation_steps, 2);
    let found = lint(&config, Facts { rows: 800, model_layers: 30 }).unwrap();
    assert!(found.iter().all(|lint| lint.code != LintCode::NoEffect), "{found:?}");
}

#[test]
fn keys_that_a_loss_does_not_read_are_named() {
    let unread = |yaml: &str| -> Vec<String> {
        let config = TrainConfig::from_yaml(yaml, "run.yaml").unwrap();
        let found = lint(&config, Facts { rows: 9, model_layers: 2 }).unwrap();
        let found = found.iter().filter(|lint| lint.code == LintCode::NoEffect);
        let key = |message: &str| message.split('`').nth(1).unwrap_or_default().to_owned();
        found.map(|lint| key(&lint.message)).collect()
    };
    // A file of mlx-lm-lora with everything it reads for pairs.
    let theirs = "
train_type: lora
gradient_accumulation_steps: 2
beta: 0.1
reward_scaling: 1.0
dpo_cpo_loss_type: sigmoid
delta: 50.0
reference_model_path: null
mask_prompt: true
";
    let keys = |mode: &str| unread(&format!("train_mode: {mode}{theirs}"));
    assert_eq!(keys("dpo"), ["reward_scaling", "delta", "mask_prompt"]);
    assert_eq!(keys("cpo"), ["reward_scaling", "delta", "reference_model_path", "mask_prompt"]);
    assert_eq!(
        keys("orpo"),
        ["reward_scaling", "dpo_cpo_loss_type", "delta", "reference_model_path", "mask_prompt"]
    );
    assert_eq!(
        keys("sft"),
        ["reward_scaling", "beta", "dpo_cpo_loss_type", "delta", "reference_model_path"]
    );
    let kto = "train_mode: kto\ndesirable_weight: 1.2\nundesirable_weight: 1\nbeta: 0.1\ndelta: 1";
    assert_eq!(unread(kto), ["delta"]);
    let read =
        "train_mode: cpo\nloss_type: simpo\ncpo_alpha: 0\nsimpo_gamma: 1\nlabel_smoothing: 0.1";
    assert!(unread(read).is_empty());
    let config = TrainConfig::from_yaml(&format!("train_mode: dpo{theirs}"), "run.yaml").unwrap();
    assert_eq!(config.grad_accumulation_steps, 2);
}
