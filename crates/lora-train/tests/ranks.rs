//! Training over several processes: the same adapter as of one, whatever their number, and after any loss.

#![allow(clippy::single_range_in_vec_init, reason = "one trained range is meant")]

mod adapters;
#[path = "../../models/tests/support/ranks.rs"]
mod support;

use std::collections::HashMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use adapters::distance;
use lora_train::metrics::{Metrics, Record};
use lora_train::{Data, Dataset, Ending, Example, Pair, Progress, Start, TrainConfig, Trainer};
use mlx_rs::Array;
use models::{Group, Model};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use support::{Hosts, Running, text};

const UPDATES: u64 = 20;
/// The most that adapters may be apart, of the way they have moved: sums of f32 in another order, which Adam's division by
/// the root of the second moment amplifies. Where it amplifies them more, a few times what one process is apart from
/// itself under another plan, with the same sums in another order.
const APART: f64 = 1e-6;
const TIMES: f64 = 4.0;
/// What no rounding comes to.
const TOO_FAR: f64 = 1e-2;
/// The variable with the [`Work`] of a child process, which executes the test `as_a_rank`.
const WORK: &str = "LORA_TRAIN_RANKS_WORK";
/// The variable with the number of kills of `killed_at_any_moment`, 50 by name.
const KILLS: &str = "LORA_TRAIN_RANKS_KILLS";

/// What a process does.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Work {
    case: String,
    folder: PathBuf,
    resume: bool,
    /// The rank that asks to stop, and after which update.
    stop: Option<(usize, u64)>,
    /// Settings of one rank only.
    odd: Option<(usize, Value)>,
}

impl Work {
    fn new(case: &str, folder: &Path) -> Self {
        let (case, folder) = (case.to_owned(), folder.to_owned());
        Self { case, folder, resume: false, stop: None, odd: None }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "as_a_rank", "--nocapture"])
            .env(WORK, serde_json::to_string(self).unwrap())
            .env("OPENBLAS_NUM_THREADS", "1");
        command
    }

    /// Runs it in this process, or as a rank of `group`.
    fn run(&self, group: Group) -> lora_train::Result<Ending> {
        let rank = group.rank();
        let mut settings = settings(&self.case, &self.folder);
        if let Some((_, odd)) = self.odd.as_ref().filter(|(odd, _)| *odd == rank) {
            merge(&mut settings, odd);
        }
        let config: TrainConfig = serde_json::from_value(settings).unwrap();
        config.validate().unwrap();
        let model = Model::open(config.model_path().unwrap()).unwrap();
        let start = if self.resume { Start::Resume } else { Start::Fresh };
        let data = data(&config, &model);
        let trainer = Trainer::over(group, model, config, data, start)?;
        let outcome = trainer.run(&mut |progress: Progress<'_>| match (progress, self.stop) {
            (Progress::Recorded(Record::Update(update)), Some((who, after)))
                if who == rank && update.step == after =>
            {
                ControlFlow::Break(())
            }
            (Progress::Recorded(Record::Event(_)), Some((who, 0))) if who == rank => {
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        });
        Ok(outcome?.ending)
    }

    fn run_alone(&self) -> Ending {
        self.run(Group::alone()).unwrap()
    }

    /// Runs it on so many ranks; returns what they printed.
    fn run_on(&self, ranks: usize) -> Vec<String> {
        let outputs = Hosts::new(ranks).run(|_| self.command());
        outputs.iter().map(text).collect()
    }
}

/// The child processes run this; in the test run itself it does nothing.
#[test]
fn as_a_rank() {
    let Ok(work) = std::env::var(WORK) else { return };
    let work: Work = serde_json::from_str(&work).unwrap();
    let ending = Group::from_env().map_err(Into::into).and_then(|group| work.run(group));
    match ending {
        Ok(ending) => println!("ended: {ending:?}"),
        Err(error) => {
            println!("failed: {error}");
            std::process::exit(2);
        }
    }
}

fn merge(settings: &mut Value, more: &Value) {
    match (settings, more) {
        (Value::Object(settings), Value::Object(more)) => {
            for (key, value) in more {
                merge(settings.entry(key).or_insert(Value::Null), value);
            }
        }
        (settings, more) => *settings = more.clone(),
    }
}

fn settings(case: &str, folder: &Path) -> Value {
    let model = match case {
        "gemma4" => "gemma4/shared",
        "experts" => "gemma4/experts",
        "qwen35" => "qwen35/tied",
        _ => "mlx_lm/model",
    };
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden");
    let mut settings = json!({
        "model": fixtures.join(model),
        "adapter_path": folder,
        "num_layers": -1,
        "lora_parameters": { "rank": 4, "scale": 2.0, "dropout": 0.0 },
        "batch_size": 2,
        "grad_accumulation_steps": 3,
        "iters": 3 * UPDATES,
        "steps_per_eval": 12,
        "save_every": 6,
        "optimizer": "adamw",
        "learning_rate": 1e-3,
        "nightshift": { "lanes": 1, "max_tokens_per_step": 24, "max_grad_norm": 0.5 },
    });
    let more = match case {
        "dora" => json!({ "fine_tune_type": "dora" }),
        "embedding" => json!({
            "lora_parameters": { "keys": ["self_attn.q_proj", "model.embed_tokens"] },
        }),
        "moments in 8 bits" => json!({
            "lora_parameters": { "rank": 128 },
            "nightshift": { "optimizer_state": "int8" },
        }),
        "anchored" => json!({ "nightshift": { "kl": { "weight": 0.5, "on": "all" } } }),
        "dpo" => json!({ "train_mode": "dpo", "loss_type": ["ipo", "sft"] }),
        "kto" => json!({ "train_mode": "kto" }),
        _ => json!({}),
    };
    merge(&mut settings, &more);
    settings
}

/// Rows of several lengths, some with a shared prefix, or pairs.
fn data(config: &TrainConfig, model: &Model) -> Data {
    let vocabulary = model.head().vocab_size().min(64) as u32;
    let row = |i: u32, shift: u32| -> Vec<u32> {
        let length = 6 + i * 7 % 9;
        // Rows of a block of three begin alike.
        (0..length)
            .map(|j| (if j < 4 { i / 3 * 13 } else { i * 13 } + j * 7 + shift) % vocabulary)
            .collect()
    };
    let rows = |count: u32, shift: u32| {
        let rows = (0..count).map(|i| {
            let tokens = row(i, shift);
            let end = tokens.len();
            Example::new(tokens, vec![3..end])
        });
        Dataset::new("train", rows, 64).unwrap()
    };
    let pairs = |count: u32, shift: u32| {
        let pairs = (0..count).map(|i| Pair {
            prompt: row(i / 2, shift),
            chosen: row(i + 5, shift)[..2 + i as usize % 3].to_vec(),
            rejected: row(i + 31, shift)[..1 + i as usize % 4].to_vec(),
        });
        Dataset::pairs("train", pairs, 64).unwrap()
    };
    let (train, valid) = match config.objective() {
        None => (rows(23, 0), rows(5, 3)),
        Some(_) => (pairs(23, 0), pairs(5, 3)),
    };
    Data { train, valid: Some(valid), retention: None }
}

/// Whether the model of a case computes in f32.
fn in_f32(case: &str, folder: &Path) -> bool {
    let config: TrainConfig = serde_json::from_value(settings(case, folder)).unwrap();
    Model::open(config.model_path().unwrap()).unwrap().bytes_per_value() == 4
}

fn adapter(folder: &Path) -> HashMap<String, Array> {
    adapters::load(&folder.join("adapters.safetensors"))
}

/// Of each update its step and tokens, and of all records the losses.
fn records(folder: &Path) -> (Vec<[u64; 3]>, Vec<f64>) {
    let metrics = Metrics::read(folder.join("metrics.jsonl")).unwrap();
    let of = |update: &lora_train::metrics::Update| {
        [update.step, update.processed_tokens, update.trained_tokens]
    };
    let losses = metrics.updates().map(|update| update.loss);
    let losses = losses.chain(metrics.validations().map(|(_, loss)| loss)).collect();
    (metrics.updates().map(of).collect(), losses)
}

/// A run of one process, and the adapter that it starts from.
struct Alone {
    start: HashMap<String, Array>,
    folder: tempfile::TempDir,
    /// How far another run of one process may be from it.
    most: f64,
}

impl Alone {
    fn new(case: &str) -> Self {
        let [first, folder, other] = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let stopped = Work { stop: Some((0, 0)), ..Work::new(case, first.path()) };
        assert_eq!(stopped.run_alone(), Ending::Stopped);
        assert_eq!(Work::new(case, folder.path()).run_alone(), Ending::Complete);
        let plan = json!({ "nightshift": { "lanes": 2, "max_tokens_per_step": 48 } });
        let replanned = Work { odd: Some((0, plan)), ..Work::new(case, other.path()) };
        assert_eq!(replanned.run_alone(), Ending::Complete);
        let (start, theirs) = (adapter(first.path()), adapter(folder.path()));
        let itself = distance(&adapter(other.path()), &theirs) / distance(&theirs, &start);
        println!("{case}: {itself:.1e} of the movement apart from itself under another plan");
        if !in_f32(case, folder.path()) {
            println!(
                "skipped: {case}: 16 bits round more than adapters may be apart; native-f32 compares them"
            );
            return Self { start, folder, most: f64::INFINITY };
        }
        assert!(itself < TOO_FAR, "{case}: {itself}");
        Self { start, folder, most: APART.max(TIMES * itself) }
    }

    /// Checks that the run in `folder` is this one within rounding.
    fn check(&self, folder: &Path, what: &str) {
        let (ours, theirs) = (adapter(folder), adapter(self.folder.path()));
        let moved = distance(&theirs, &self.start);
        let apart = distance(&ours, &theirs) / moved;
        println!("{what}: {apart:.1e} of the movement apart");
        assert!(apart <= self.most, "{what}: {apart:e}");
        let ((updates, losses), (expected, theirs)) =
            (records(folder), records(self.folder.path()));
        assert_eq!(updates, expected, "{what}");
        for (ours, theirs) in losses.iter().zip(&theirs) {
            assert!(
                (ours - theirs).abs() <= self.most.max(1e-5) * theirs.abs(),
                "{what}: loss {ours}, {theirs}"
            );
        }
    }
}

fn all_complete(said: &[String], what: &str) {
    for (rank, said) in said.iter().enumerate() {
        assert!(said.contains("ended: Complete"), "{what}: rank {rank}: {said}");
    }
}

fn compare(case: &str, numbers: &[usize]) {
    let alone = Alone::new(case);
    for &ranks in numbers {
        let folder = tempfile::tempdir().unwrap();
        let what = format!("{case} on {ranks} ranks");
        all_complete(&Work::new(case, folder.path()).run_on(ranks), &what);
        alone.check(folder.path(), &what);
    }
}

#[test]
fn ranks_train_the_adapter_of_one_process() {
    compare("llama", &[2, 3, 4]);
}

#[test]
fn other_families_do_too() {
    for (case, ranks) in [("gemma4", 2), ("experts", 3), ("qwen35", 2)] {
        compare(case, &[ranks]);
    }
}

#[test]
fn so_does_every_kind_of_adapter_and_loss() {
    for case in ["dora", "embedding", "moments in 8 bits", "anchored", "dpo", "kto"] {
        compare(case, &[2]);
    }
}

/// A single rank asks to stop, and all do; any number of ranks goes on.
#[test]
fn a_run_goes_on_with_another_number_of_ranks() {
    let alone = Alone::new("llama");
    let folder = tempfile::tempdir().unwrap();
    let work = Work::new("llama", folder.path());
    let stopped = Work { stop: Some((1, 5)), ..work.clone() };
    for said in stopped.run_on(2) {
        assert!(said.contains("ended: Stopped"), "{said}");
    }
    let on = Work { resume: true, ..work };
    assert_eq!(Work { stop: Some((0, 11)), ..on.clone() }.run_alone(), Ending::Stopped);
    all_complete(&on.run_on(3), "resumed");
    alone.check(folder.path(), "2, then 1, then 3 ranks");
}

#[test]
fn a_rank_that_differs_is_named_and_refused() {
    for (odd, words) in [
        (json!({ "seed": 9 }), "rank 1: `seed`: expected that of rank 0, 0, found 9"),
        (json!({ "steps_per_eval": 5 }), "rank 1: `steps_per_eval`: expected that of rank 0, 12"),
        (json!({ "max_seq_length": 8 }), "rank 1: `max_seq_length`: expected that of rank 0"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let work = Work { odd: Some((1, odd)), ..Work::new("llama", folder.path()) };
        for said in work.run_on(2) {
            assert!(said.contains("failed: ") && said.contains(words), "{said}");
        }
        assert!(!folder.path().join("adapters.safetensors").exists());
    }
}

/// SIGKILL of one rank after another: the others say which and end, the run goes on from the checkpoint with another number
/// of ranks, and ends with the adapter of an undisturbed one.
#[test]
fn killed_at_any_moment() {
    let kills = std::env::var(KILLS).map_or(3, |kills| kills.parse().unwrap());
    let alone = Alone::new("llama");
    let mut killed = 0;
    while killed < kills {
        let folder = tempfile::tempdir().unwrap();
        let mut delay = Duration::from_millis(400 + killed * 173 % 900);
        loop {
            let size = 2 + killed as usize % 2;
            let victim = killed as usize / 2 % size;
            let hosts = Hosts::with_timeout(size, 10);
            let work = Work { resume: true, ..Work::new("llama", folder.path()) };
            let mut ranks = hosts.start(|_| work.command());
            std::thread::sleep(delay);
            if ranks.iter_mut().all(Running::has_ended) || killed >= kills {
                let said: Vec<String> = ranks.into_iter().map(|rank| text(&rank.end())).collect();
                break all_complete(&said, "undisturbed");
            }
            ranks[victim].signal("KILL");
            killed += 1;
            for (rank, output) in ranks.into_iter().map(Running::end).enumerate() {
                let said = text(&output);
                let named = said.contains(&format!("failed: rank {victim} is lost"))
                    || said.contains("cannot join the other ranks")
                    || said.contains("ended: Complete");
                assert!(rank == victim || named, "kill {killed}, rank {rank} of {size}: {said}");
            }
            // Longer each time, so that the run finishes on any machine.
            delay = delay.mul_f64(1.5);
        }
        alone.check(folder.path(), &format!("after {killed} kills"));
    }
}

/// A checkpoint that only rank 0 has reaches the others: on several machines each has a folder of its own.
#[test]
fn every_rank_may_have_a_folder_of_its_own() {
    let alone = Alone::new("llama");
    let [first, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let elsewhere = json!({ "adapter_path": other.path() });
    let work = Work { odd: Some((1, elsewhere)), ..Work::new("llama", first.path()) };
    Work { stop: Some((0, 4)), ..work.clone() }.run_on(2);
    all_complete(&Work { resume: true, ..work }.run_on(2), "resumed");
    alone.check(first.path(), "a folder for each");
    let written: Vec<_> = fs::read_dir(other.path()).unwrap().collect();
    assert!(written.is_empty(), "only rank 0 writes: {written:?}");
}
