//! Two iterations of the night's training, on its own rows and with its own recipe.

use std::ops::ControlFlow;
use std::path::PathBuf;

use lora_train::metrics::{Record, Update, WorkPlan};
use lora_train::{Batches, Bytes, Data, Dataset, Example, Progress, Start, TrainConfig, Trainer};

use super::scene::{Enriched, Opened, Scene, Tried};
use crate::error::Result;
use crate::stages::train::examples;

/// A model of so many weights is trained for two iterations within a minute on any machine, and
/// fits its memory whole. Larger ones are streamed from their files.
pub(super) const SMALL: usize = 1_500_000_000;

/// What two iterations came to.
#[derive(Debug)]
pub(super) struct TwoSteps {
    /// The plan of the whole run.
    pub plan: WorkPlan,
    /// The iterations; absent where they would take too long.
    pub taken: Option<Taken>,
}

/// Iterations that were made.
#[derive(Debug)]
pub(super) struct Taken {
    pub updates: Vec<Update>,
    /// Where the adapter is.
    pub adapter: PathBuf,
    /// The most that MLX held.
    pub peak_memory_bytes: u64,
}

impl TwoSteps {
    pub fn take(scene: &Scene<'_>) -> Tried<Self> {
        let (Some(opened), Some(tokenizer), Some(enriched), Some(recipe)) = (
            scene.opened.done(),
            scene.tokenizer.done(),
            scene.enriched.done(),
            scene.training.done(),
        ) else {
            return Tried::Missed("rows, model, tokenizer and recipe");
        };
        let rows = |recipe: &TrainConfig| {
            let file = enriched.splits.train.verified(&scene.night)?;
            examples(tokenizer, &file, recipe.mask_prompt)
        };
        Tried::from(rows(recipe).and_then(|rows| Self::of(scene, opened, enriched, recipe, rows)))
    }

    fn of(
        scene: &Scene<'_>,
        opened: &Opened,
        enriched: &Enriched,
        recipe: &TrainConfig,
        rows: Vec<Example>,
    ) -> Result<Self> {
        let length = recipe.max_seq_length;
        let picked = pick(rows.clone(), 2 * recipe.batch_size);
        let whole = Data { train: Dataset::new("train", rows, length)?, valid: None };
        let plan = Trainer::plan(&opened.model, recipe, &whole)?;
        tracing::debug!(rows = enriched.splits.train_rows, "{plan}");
        let weights = opened.model.config().num_weights();
        if weights > SMALL && !opened.model.computes_packed() {
            return Ok(Self { plan, taken: None });
        }
        let adapter = scene.night.join("two-steps");
        let mut short = recipe.clone();
        short.adapter_path = adapter.clone();
        (short.iters, short.grad_accumulation_steps, short.save_every) = (2, 1, 1);
        short.val_batches = Batches::AtMost(0);
        let settings = &mut short.nightshift;
        (settings.epochs, settings.early_stop, settings.time_budget) = (None, None, None);
        settings.eval_best = false;
        if weights > SMALL {
            // A third of what four-bit weights take: the planner has to stream them.
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
        let trainer = Trainer::new(opened.model.clone(), short, data, Start::Fresh)?;
        let peak_memory_bytes = trainer.run(&mut watch)?.peak_memory_bytes;
        Ok(Self { plan, taken: Some(Taken { updates, adapter, peak_memory_bytes }) })
    }
}

/// The longest row, which memory depends on, and the shortest ones, which are over soon.
fn pick(mut rows: Vec<Example>, count: usize) -> Vec<Example> {
    rows.retain(|row| !row.trained.is_empty());
    rows.sort_by_key(|row| row.tokens.len());
    let longest = rows.pop();
    rows.truncate(count.saturating_sub(1));
    rows.extend(longest);
    rows
}
