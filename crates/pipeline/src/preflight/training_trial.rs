//! Two training iterations with the night's rows and recipe, by the night's own stage.

use std::path::Path;

use lora_train::config::AnchoredTokens;
use lora_train::metrics::WorkPlan;
use lora_train::{Batches, Data, Dataset, Example, Row, TrainConfig, Trainer};
use models::Model;
use serde::Serialize;

use super::scratch::run_stages;
use super::time_plan::TrainingLoad;
use crate::base_model::BaseModel;
use crate::error::Result;
use crate::stage::{Artefact, Stage, StageContext};
use crate::stages::StageName;
use crate::stages::enrich::Splits;
use crate::stages::train::{Train, TrainedAdapter};

/// Largest number of weights of a model that is trained and asked on a CPU before the night: larger ones take too long.
const SMALL_MODEL: usize = 1_500_000_000;

#[derive(Debug)]
pub(super) struct TrainingTrial {
    /// The plan of the whole training.
    pub plan: WorkPlan,
    /// Its tokens.
    pub load: TrainingLoad,
    /// The two iterations; `None` if they would take too long.
    pub run: Option<TrialRun>,
}

#[derive(Debug)]
pub(super) struct TrialRun {
    /// The loss of each.
    pub losses: Vec<f64>,
    pub trained: TrainedAdapter,
}

pub(super) struct TrainingInputs<'a> {
    /// The scratch night's folder.
    pub night: &'a Path,
    pub base: &'a BaseModel,
    pub model: &'a Model,
    pub tokenizer: &'a chat_format::ChatTokenizer,
    pub splits: &'a Splits,
    pub recipe: &'a TrainConfig,
    pub max_refused_share: f64,
}

impl TrainingTrial {
    /// Plans the training, and runs two iterations of it unless they take too long on this device.
    pub fn run(inputs: &TrainingInputs<'_>) -> Result<Self> {
        let TrainingInputs { night, base, model, tokenizer, splits, .. } = *inputs;
        let TrainingInputs { recipe, max_refused_share, .. } = *inputs;
        let recipe = &without_replay(recipe);
        let whole = splits.rendered(night, tokenizer, recipe, max_refused_share)?.data;
        let plan = Trainer::plan(model, recipe, &whole)?;
        tracing::debug!(rows = splits.train_rows, "{plan}");
        let load = TrainingLoad::of(recipe, &whole);
        if model.config().num_weights() > SMALL_MODEL && !model.computes_packed() {
            return Ok(Self { plan, load, run: None });
        }
        let recipe = &two_iterations(recipe);
        let stage = Train { model: base, splits, recipe, max_refused_share };
        let trained = run_stages(night, u64::MAX, |runner| runner.run(&TwoIterations(stage)))?;
        let losses = trained.metrics(night)?.updates().map(|update| update.loss).collect();
        Ok(Self { plan, load, run: Some(TrialRun { losses, trained }) })
    }

    /// Tokens that the iterations went through in a second.
    pub fn tokens_per_second(&self) -> Option<f64> {
        let speed = self.run.as_ref()?.trained.processed_per_second();
        (speed > 0.0).then_some(speed)
    }
}

/// The stage `train` of a night, with the rows of two iterations.
#[derive(Serialize)]
struct TwoIterations<'a>(Train<'a>);

impl Stage for TwoIterations<'_> {
    const NAME: StageName = StageName::Train;
    type Output = TrainedAdapter;

    fn run(&self, ctx: &mut StageContext<'_>) -> Result<TrainedAdapter> {
        let recipe = self.0.recipe;
        let few = |all: Data| {
            let rows = longest_and_shortest(all.train.rows(), 2 * recipe.batch_size);
            let train = Dataset::new("train", rows, recipe.max_seq_length);
            Ok(Data { train: train?, valid: None, retention: None })
        };
        self.0.train_rows(ctx, few)
    }

    fn artefacts(output: &TrainedAdapter) -> Vec<&Artefact> {
        Train::artefacts(output)
    }

    fn describe(output: &TrainedAdapter) -> String {
        Train::describe(output)
    }
}

/// The recipe with two iterations, each an update.
fn two_iterations(recipe: &TrainConfig) -> TrainConfig {
    let mut recipe = recipe.clone();
    (recipe.iters, recipe.grad_accumulation_steps, recipe.save_every) = (2, 1, 1);
    recipe.val_batches = Batches::AtMost(0);
    let settings = &mut recipe.nightshift;
    (settings.epochs, settings.early_stop, settings.time_budget) = (None, None, None);
    settings.eval_best = false;
    recipe
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
fn longest_and_shortest(rows: &[Row], count: usize) -> Vec<Example> {
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
