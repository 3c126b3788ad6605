//! Two training iterations with the night's rows and recipe.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use chat_format::ChatTokenizer;
use lora_train::config::AnchoredTokens;
use lora_train::metrics::{Record, Update, WorkPlan};
use lora_train::{
    Batches, Bytes, Data, Dataset, Example, Progress, Row, Start, TrainConfig, Trainer,
};
use models::Model;

use crate::error::Result;
use crate::stages::enrich::Splits;

/// Largest number of weights of a model that is loaded whole: two iterations take less than a minute
/// on any machine. Larger models are streamed from their files.
pub(super) const SMALL_MODEL: usize = 1_500_000_000;

#[derive(Debug)]
pub(super) struct TrainingTrial {
    /// The plan of the whole training.
    pub plan: WorkPlan,
    /// The two iterations; `None` if they would take too long.
    pub run: Option<TrialRun>,
}

#[derive(Debug)]
pub(super) struct TrialRun {
    pub updates: Vec<Update>,
    pub adapter: PathBuf,
    pub peak_memory_bytes: u64,
}

pub(super) struct TrainingInputs<'a> {
    /// The scratch night's folder.
    pub night: &'a Path,
    pub model: &'a Model,
    pub tokenizer: &'a ChatTokenizer,
    pub splits: &'a Splits,
    pub recipe: &'a TrainConfig,
    pub max_refused_share: f64,
}

impl TrainingTrial {
    /// Plans the training, and runs two iterations in the folder `night` unless the model is too
    /// large for that.
    pub fn run(inputs: &TrainingInputs<'_>) -> Result<Self> {
        let TrainingInputs { night, model, tokenizer, splits, recipe, max_refused_share } = *inputs;
        let recipe = &without_replay(recipe);
        let length = recipe.max_seq_length;
        let whole = splits.rendered(night, tokenizer, recipe, max_refused_share)?.data;
        let picked = pick(whole.train.rows(), 2 * recipe.batch_size);
        let plan = Trainer::plan(model, recipe, &whole)?;
        tracing::debug!(rows = splits.train_rows, "{plan}");
        let weights = model.config().num_weights();
        if weights > SMALL_MODEL && !model.computes_packed() {
            return Ok(Self { plan, run: None });
        }
        let adapter = night.join("two-steps");
        let mut short = recipe.clone();
        short.adapter_path = adapter.clone();
        (short.iters, short.grad_accumulation_steps, short.save_every) = (2, 1, 1);
        short.val_batches = Batches::AtMost(0);
        let settings = &mut short.nightshift;
        (settings.epochs, settings.early_stop, settings.time_budget) = (None, None, None);
        settings.eval_best = false;
        if weights > SMALL_MODEL {
            // A third of the size of 4-bit weights, so that the planner has to stream them.
            settings.memory_limit = Some(Bytes(weights as u64 / 6));
        }
        let data =
            Data { train: Dataset::new("train", picked, length)?, valid: None, retention: None };
        let mut updates = Vec::new();
        let mut watch = |progress: Progress<'_>| {
            if let Progress::Recorded(Record::Update(update)) = progress {
                updates.push(update.clone());
            }
            ControlFlow::Continue(())
        };
        let trainer = Trainer::new(model.clone(), short, data, Start::Fresh)?;
        let peak_memory_bytes = trainer.run(&mut watch)?.peak_memory_bytes;
        Ok(Self { plan, run: Some(TrialRun { updates, adapter, peak_memory_bytes }) })
    }
}

/// The recipe without what needs replay rows, which the rehearsal does not have. All tokens take at least the memory of
/// those of replay rows.
fn without_replay(recipe: &TrainConfig) -> TrainConfig {
    let mut recipe = recipe.clone();
    recipe.nightshift.retention = None;
    if let Some(kl) = recipe.nightshift.kl.as_mut().filter(|kl| kl.on == AnchoredTokens::Replay) {
        kl.on = AnchoredTokens::All;
    }
    recipe
}

/// The longest row, which determines the peak memory, and the shortest ones, which are fast.
fn pick(rows: &[Row], count: usize) -> Vec<Example> {
    let mut rows: Vec<_> = rows.iter().collect();
    rows.sort_by_key(|row| row.inputs().len());
    let longest = rows.pop();
    rows.truncate(count.saturating_sub(1));
    rows.into_iter().chain(longest).map(example).collect()
}

/// The example of a row: its inputs, and the last token, which is only a target.
fn example(row: &Row) -> Example {
    let last = row.targets().last().map(|(_, token)| token);
    let tokens = row.inputs().iter().copied().chain(last).collect();
    Example::new(tokens, row.targets().map(|(input, _)| input + 1..input + 2).collect())
}
