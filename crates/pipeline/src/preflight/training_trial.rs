//! Two training iterations with the night's rows and recipe.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use chat_format::{ChatTokenizer, TrainingRow};
use lora_train::metrics::{Record, Update, WorkPlan};
use lora_train::{Batches, Bytes, Data, Dataset, Progress, Start, TrainConfig, Trainer};
use models::Model;

use crate::error::Result;
use crate::stages::enrich::Splits;
use crate::stages::train::rows;

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

impl TrainingTrial {
    /// Plans the training, and runs two iterations in the folder `night` unless the model is too
    /// large for that.
    pub fn run(
        night: &Path,
        model: &Model,
        tokenizer: &ChatTokenizer,
        splits: &Splits,
        recipe: &TrainConfig,
    ) -> Result<Self> {
        let rows = rows(tokenizer, &splits.train.verified(night)?, recipe)?;
        let length = recipe.max_seq_length;
        let picked = pick(&rows, 2 * recipe.batch_size);
        let whole = Data { train: Dataset::new("train", rows, length)?, valid: None };
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
        let data = Data { train: Dataset::new("train", picked, length)?, valid: None };
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

/// The longest row, which determines the peak memory, and the shortest ones, which are fast.
fn pick(rows: &[TrainingRow], count: usize) -> Vec<TrainingRow> {
    let mut rows: Vec<_> = rows.iter().filter(|row| !row.trained.is_empty()).collect();
    rows.sort_by_key(|row| row.tokens.len());
    let longest = rows.pop();
    rows.truncate(count.saturating_sub(1));
    rows.into_iter().chain(longest).cloned().collect()
}
