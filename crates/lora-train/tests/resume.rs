//! A run that is interrupted and resumed ends with the same bytes as an uninterrupted one.

#![allow(clippy::single_range_in_vec_init, reason = "one trained range is meant")]

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use lora_train::metrics::{Event, Metrics, Record};
use lora_train::{
    Bytes, Data, Dataset, Ending, Error, Example, Outcome, Pair, Progress, Start, TrainConfig,
    Trainer,
};
use models::Model;
use serde_json::json;

const UPDATES: u64 = 7;

fn config(folder: &Path, changes: &str) -> TrainConfig {
    let yaml = format!(
        "
adapter_path: {}
num_layers: -1
lora_parameters: {{ rank: 2, scale: 2.0 }}
batch_size: 2
grad_accumulation_steps: 2
iters: 13
steps_per_eval: 4
save_every: 4
optimizer: adamw
lr_schedule: {{ name: cosine_decay, arguments: [1.0e-2, 6], warmup: 2 }}
nightshift: {{ lanes: 2, max_tokens_per_step: 24, max_grad_norm: 0.5, eval_best: true{changes} }}
",
        folder.display()
    );
    TrainConfig::from_yaml(&yaml, "run.yaml").unwrap()
}

fn rows(count: u32, shift: u32) -> Dataset {
    let rows = (0..count).map(|i| {
        Example::new(
            (0..6 + i % 9).map(|j| (i * 13 + j * 7 + shift) % 64).collect(),
            vec![3..6 + i as usize % 9],
        )
    });
    Dataset::new("train", rows, 64).unwrap()
}

fn pairs(count: u32, shift: u32) -> Dataset {
    let answer = |i: u32, length: u32| (0..length).map(|j| (i * 5 + j * 7 + shift) % 64).collect();
    let pairs = (0..count).map(|i| Pair {
        prompt: (0..3 + i % 4).map(|j| (i / 2 * 13 + j * 3 + shift) % 64).collect(),
        chosen: answer(i, 2 + i % 3),
        rejected: answer(i + 31, 1 + i % 4),
    });
    Dataset::pairs("train", pairs, 64).unwrap()
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden/mlx_lm/model")
}

/// A trainer of rows, or with a preference loss of pairs.
fn trainer(config: TrainConfig, start: Start) -> Result<Trainer, Error> {
    let model = Model::open(fixture()).unwrap();
    let retention = config.nightshift.retention.map(|_| rows(3, 9));
    let data = match config.objective() {
        None => Data { train: rows(11, 0), valid: Some(rows(5, 3)), retention },
        Some(_) => Data { train: pairs(11, 0), valid: Some(pairs(5, 3)), retention },
    };
    Trainer::new(model, config, data, start)
}

/// What a run trains on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Rows,
    Pairs,
    /// Pairs with a loss that estimates a divergence.
    Kto,
    /// Rows whose predictions are held to those of the base model.
    Anchored,
    /// Pairs with a limit to the distance from the base model.
    Retained,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Rows, Self::Pairs, Self::Kto, Self::Anchored, Self::Retained];

    fn config(self, folder: &Path) -> TrainConfig {
        let more = match self {
            Self::Anchored => ", kl: { weight: 0.5, on: all }",
            Self::Retained => ", retention: { max_kl: 0.5 }",
            _ => "",
        };
        let mut config = config(folder, more);
        let loss = match self {
            Self::Pairs | Self::Retained => {
                Some(json!({ "train_mode": "dpo", "loss_type": ["ipo", "sft"] }))
            }
            Self::Kto => Some(json!({ "train_mode": "kto" })),
            Self::Rows | Self::Anchored => None,
        };
        if let Some(mut settings) = loss {
            settings["model"] = json!(fixture());
            let mut all = serde_json::to_value(&config).unwrap();
            all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
            all["lora_parameters"]["dropout"] = 0.25.into();
            let origin = config.origin;
            config = serde_json::from_value(all).unwrap();
            config.origin = origin;
        }
        config
    }

    fn run(self, folder: &Path, start: Start) -> Outcome {
        trainer(self.config(folder), start).unwrap().run(&mut ()).unwrap()
    }

    /// Runs until `stop` returns true.
    fn run_until(
        self,
        folder: &Path,
        start: Start,
        stop: impl Fn(&Progress<'_>) -> bool,
    ) -> Outcome {
        let mut watch = |progress: Progress<'_>| match stop(&progress) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        trainer(self.config(folder), start).unwrap().run(&mut watch).unwrap()
    }
}

fn run(folder: &Path, start: Start) -> Outcome {
    Kind::Rows.run(folder, start)
}

/// The adapter's bytes, and the metrics without durations and memory.
fn result(folder: &Path) -> (Vec<u8>, Vec<Record>) {
    let mut records = Metrics::read(folder.join("metrics.jsonl")).unwrap().records;
    for record in &mut records {
        match record {
            Record::Update(update) => {
                (update.seconds, update.peak_memory_bytes, update.rss_bytes) = (0.0, 0, 0);
            }
            Record::Event(Event::Validation { seconds, .. } | Event::Retention { seconds, .. }) => {
                *seconds = 0.0
            }
            // After a kill they may be on disk already.
            Record::Event(Event::Reference { seconds, computed_tokens, .. }) => {
                (*seconds, *computed_tokens) = (0.0, 0);
            }
            Record::Event(_) => {}
        }
    }
    (fs::read(folder.join("adapters.safetensors")).unwrap(), records)
}

#[test]
fn stopped_after_any_update_it_ends_with_the_same_bytes() {
    for kind in Kind::ALL {
        stopped_after_any_update(kind);
    }
}

fn stopped_after_any_update(kind: Kind) {
    let whole = tempfile::tempdir().unwrap();
    let outcome = kind.run(whole.path(), Start::Fresh);
    assert_eq!(
        (outcome.ending, outcome.step, outcome.updates),
        (Ending::Complete, UPDATES, UPDATES)
    );
    if kind == Kind::Retained {
        let best = outcome.best.unwrap().step;
        let metrics = Metrics::read(whole.path().join("metrics.jsonl")).unwrap();
        let measured: Vec<_> = metrics.retentions().collect();
        assert!(0 < best && best < UPDATES, "the limit makes no difference: {measured:?}");
    }
    let expected = result(whole.path());
    let updates = expected.1.iter().filter(|record| matches!(record, Record::Update(_)));
    assert_eq!(updates.count() as u64, UPDATES);

    for at in 0..UPDATES {
        let folder = tempfile::tempdir().unwrap();
        let stopped = kind.run_until(folder.path(), Start::Fresh, |progress| match progress {
            Progress::Recorded(Record::Update(update)) => update.step == at,
            Progress::Recorded(Record::Event(Event::Plan { .. })) => at == 0,
            _ => false,
        });
        assert_eq!((stopped.ending, stopped.step), (Ending::Stopped, at));
        assert_eq!(kind.run(folder.path(), Start::Resume).ending, Ending::Complete);
        assert_eq!(result(folder.path()), expected, "{kind:?} stopped after update {at}");
    }
}

/// Covers dropout, which has another mask in each update, on an embedding tied to the output matrix.
#[test]
fn an_adapted_embedding_resumes_with_its_dropout() {
    let (whole, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let run = |folder: &Path, start, last| {
        let mut config = config(folder, "");
        let keys = ["self_attn.q_proj", "model.embed_tokens"].map(String::from);
        config.lora_parameters.keys = Some(keys.into());
        config.lora_parameters.dropout = 0.25;
        let mut watch = |progress: Progress<'_>| match progress {
            Progress::Recorded(Record::Update(update)) if update.step == last => {
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        };
        trainer(config, start).unwrap().run(&mut watch).unwrap().ending
    };
    assert_eq!(run(whole.path(), Start::Fresh, u64::MAX), Ending::Complete);
    assert_eq!(run(folder.path(), Start::Fresh, 3), Ending::Stopped);
    assert_eq!(run(folder.path(), Start::Resume, u64::MAX), Ending::Complete);
    assert_eq!(result(folder.path()), result(whole.path()));
}

#[test]
fn a_finished_run_resumed_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), Start::Resume);
    let expected = result(folder.path());
    assert_eq!(run(folder.path(), Start::Resume).ending, Ending::Complete);
    assert_eq!(result(folder.path()), expected);
}

#[test]
fn a_spent_time_budget_is_a_pause() {
    let (whole, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    run(whole.path(), Start::Fresh);
    let mut hurried = config(folder.path(), "");
    hurried.nightshift.time_budget = Some(Duration::from_nanos(1));
    let paused = trainer(hurried, Start::Fresh).unwrap().run(&mut ()).unwrap();
    assert_eq!((paused.ending, paused.step), (Ending::TimeBudget, 0));
    run(folder.path(), Start::Resume);
    assert_eq!(result(folder.path()), result(whole.path()));
}

#[test]
fn other_settings_or_rows_are_refused_with_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), Start::Fresh);
    let mut changed = config(folder.path(), "");
    changed.lora_parameters.rank = 4;
    changed.seed = 9;
    changed.save_every = 1;
    let Err(Error::RunChanged { differences, .. }) = trainer(changed, Start::Resume) else {
        panic!("resumed under other settings");
    };
    assert_eq!(differences, ["lora_parameters.rank: 2 -> 4", "seed: 0 -> 9"]);
}

/// The limit says how the run is computed, not what: it goes on from the last checkpoint, with a plan that fits.
#[test]
fn under_a_lower_memory_limit_a_run_goes_on_with_a_smaller_plan() {
    let (whole, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    run(whole.path(), Start::Fresh);
    let stop = |progress: &Progress<'_>| matches!(progress, Progress::Saved { step: 4, .. });
    Kind::Rows.run_until(folder.path(), Start::Fresh, stop);
    let plan = |folder: &Path| {
        let metrics = Metrics::read(folder.join("metrics.jsonl")).unwrap();
        metrics.plan().unwrap().estimated_memory_bytes
    };
    let before = plan(folder.path());
    let mut lowered = config(folder.path(), "");
    lowered.nightshift.memory_limit = Some(Bytes(before - 1));
    let trainer = trainer(lowered, Start::Resume).unwrap();
    assert!(trainer.resumed_from().unwrap().ends_with("00000004.safetensors"));
    let mut steps = vec![];
    let outcome = trainer.run(&mut |progress: Progress<'_>| {
        if let Progress::Recorded(Record::Update(update)) = progress {
            steps.push(update.step);
        }
        ControlFlow::Continue(())
    });
    assert_eq!((outcome.unwrap().ending, steps), (Ending::Complete, vec![5, 6, 7]));
    assert!(plan(folder.path()) < before);
    // The plan decides the order of sums: the last bits of an f32 may differ.
    let losses = |folder: &Path| -> Vec<f64> {
        let metrics = Metrics::read(folder.join("metrics.jsonl")).unwrap();
        metrics.updates().map(|update| update.loss).collect()
    };
    for (a, b) in losses(whole.path()).into_iter().zip(losses(folder.path())) {
        assert!((a - b).abs() < 1e-4 * a.abs(), "{a} {b}");
    }
}

#[test]
fn a_broken_checkpoint_is_named() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), Start::Fresh);
    let newest = folder.path().join("checkpoints/00000007.safetensors");
    let whole = fs::read(&newest).unwrap();
    for cut in [0, 5, 200, whole.len() - 1] {
        fs::write(&newest, &whole[..cut]).unwrap();
        let error = trainer(config(folder.path(), ""), Start::Resume).err().unwrap();
        assert!(error.to_string().contains("00000007.safetensors: "), "{error}");
    }
}

/// The variable with the folder of the run, set in the child processes that are killed.
const CHILD: &str = "LORA_TRAIN_KILL_TEST";
/// The variable with the number of the child's [`Kind`].
const KIND: &str = "LORA_TRAIN_KILL_KIND";
/// The variable with the number of runs, each of which is killed several times; see
/// `benches/kills.sh`.
const RUNS: &str = "LORA_TRAIN_KILLED_RUNS";

/// SIGKILL at various times, several times per run. The child processes execute this test.
#[test]
fn killed_at_any_moment() {
    if let Some(folder) = std::env::var_os(CHILD) {
        let kind: usize = std::env::var(KIND).unwrap().parse().unwrap();
        Kind::ALL[kind].run(Path::new(&folder), Start::Resume);
        return;
    }
    let runs = std::env::var(RUNS).map_or(1, |count| count.parse().unwrap());
    for kind in Kind::ALL {
        let whole = tempfile::tempdir().unwrap();
        kind.run(whole.path(), Start::Fresh);
        let expected = result(whole.path());
        let mut kills = 0;
        for number in 0..runs {
            let folder = tempfile::tempdir().unwrap();
            // A different first time for each run.
            let first = Duration::from_millis(60 + number * 37 % 90);
            kills += run_and_kill(kind, folder.path(), first);
            let found = result(folder.path());
            assert_eq!(found, expected, "{kind:?} {number}, after {kills} kills in all");
        }
        eprintln!("{kind:?}: {runs} runs, {kills} kills");
        assert!(kills > 0, "the run was over before it could be killed");
    }
}

/// Kills and resumes a run until it finishes; returns the number of kills.
fn run_and_kill(kind: Kind, folder: &Path, first: Duration) -> u64 {
    let mut kills = 0;
    // Increasing times, so that the run finishes on any machine.
    for delay in (0..).map(|attempt| first.mul_f64(1.5f64.powi(attempt))) {
        let kind = Kind::ALL.iter().position(|known| *known == kind).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed_at_any_moment"])
            .env(CHILD, folder)
            .env(KIND, kind.to_string())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(delay);
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success());
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    }
    kills
}
