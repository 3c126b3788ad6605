//! `nightshift`: settings that mlx-lm does not have.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::lora::Scaling;
use super::preference::Reference;
use super::schedule::ScheduleUnit;
use super::values::{Bytes, duration};

/// The `nightshift` key, which holds all settings that mlx-lm does not have. With the defaults, the
/// result of a run is that of mlx-lm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Nightshift {
    /// The date that chat templates print, for those that do; absent: that of the run's first start.
    #[schemars(with = "Option<String>")]
    pub date: Option<Date>,
    /// Passes over the training rows, instead of `iters`.
    pub epochs: Option<f64>,
    /// Tokens of a micro-batch, at most; a longer row is a micro-batch of its own. Affects speed and
    /// memory, but not the gradients of an update.
    pub max_tokens_per_step: usize,
    /// Threads that compute micro-batches in parallel; absent: chosen for the machine.
    pub lanes: Option<usize>,
    /// The most memory that MLX may use; absent: half of the machine's on a CPU, MLX's own limit on
    /// a GPU.
    pub memory_limit: Option<Bytes>,
    /// Gradients with a larger global norm are scaled down to it; absent: no clipping.
    pub max_grad_norm: Option<f64>,
    /// What to do if a loss or gradient is infinite or NaN.
    pub on_bad_loss: OnBadLoss,
    /// What `lr_schedule` counts as a step.
    pub schedule_unit: ScheduleUnit,
    /// Warm-up as a share of all updates, instead of `lr_schedule.warmup`.
    pub warmup_share: Option<f64>,
    /// How `lora_parameters.alpha` becomes a scale.
    pub scaling: Scaling,
    /// How the optimizer's moments are stored.
    pub optimizer_state: StateStorage,
    /// Ranks by path of the linear layer (`mlp.down_proj`) that differ from `lora_parameters.rank`.
    /// The scale is the same for all.
    pub rank_pattern: BTreeMap<String, usize>,
    /// The adapted layers by index, instead of `num_layers`.
    pub layers: Option<Vec<usize>>,
    /// Whether the final adapter is the one of the lowest validation loss instead of the last; see also
    /// `nightshift.retention.max_kl`.
    pub eval_best: bool,
    /// Stop when the validation loss no longer falls.
    pub early_stop: Option<EarlyStop>,
    /// Stop after this long, such as `90m`, with a checkpoint.
    #[serde(with = "duration")]
    #[schemars(with = "Option<String>")]
    pub time_budget: Option<Duration>,
    /// The number of checkpoints (adapter, moments, position in the data) to keep.
    pub keep_checkpoints: usize,
    /// Holds predictions to those of the base model; absent: does not.
    pub kl: Option<Kl>,
    /// Measures how far the model has moved from the base model, with each validation; absent: does not.
    pub retention: Option<Retention>,
    /// What the loss of `train_mode: dpo` or `kto` compares with: absent, the model at the start of the run.
    pub reference: Option<Reference>,
    /// A folder for the reference's log-probabilities, which several runs may share: absent, `reference`
    /// in `adapter_path`.
    pub reference_cache: Option<PathBuf>,
}

impl Default for Nightshift {
    fn default() -> Self {
        Self {
            date: None,
            epochs: None,
            max_tokens_per_step: 2048,
            lanes: None,
            memory_limit: None,
            max_grad_norm: None,
            on_bad_loss: OnBadLoss::Stop,
            schedule_unit: ScheduleUnit::Updates,
            warmup_share: None,
            scaling: Scaling::Standard,
            optimizer_state: StateStorage::F32,
            rank_pattern: BTreeMap::new(),
            layers: None,
            eval_best: false,
            early_stop: None,
            time_budget: None,
            keep_checkpoints: 2,
            kl: None,
            retention: None,
            reference: None,
            reference_cache: None,
        }
    }
}

/// A penalty for predictions that differ from those of the base model, against forgetting: `weight`
/// times the mean of `KL(base || model)` over tokens is added to what is minimized.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Kl {
    /// The weight, per nat.
    pub weight: f64,
    /// The tokens.
    pub on: AnchoredTokens,
}

/// The tokens whose prediction is held to that of the base model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AnchoredTokens {
    /// The trained tokens of replay rows, which have `"kind": "replay"`: the base model's own answers.
    Replay,
    /// All tokens of all rows.
    All,
    /// The tokens without a loss, of all rows: prompts.
    Untrained,
}

/// Measures during a run how far the model has moved from the base model: the mean of `KL(base || model)` over
/// the tokens of replay rows that are not trained, the base model's own answers to neutral questions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Retention {
    /// Replay rows that are measured, at most.
    pub rows: usize,
    /// The largest divergence, in nats a token, of an adapter that may be the best one (`eval_best`). For
    /// `early_stop` a larger one is a validation without improvement. Absent: no limit.
    pub max_kl: Option<f64>,
}

impl Default for Retention {
    fn default() -> Self {
        Self { rows: 32, max_kl: None }
    }
}

/// What to do if the loss or the gradient of an update is infinite or NaN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OnBadLoss {
    /// Write the rows of the update to `bad-rows.jsonl` and stop with an error.
    #[default]
    Stop,
    /// Write the rows of the update to `bad-rows.jsonl`, leave the adapter unchanged and continue.
    Skip,
}

/// How the optimizer's moments are stored between updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StateStorage {
    /// In f32.
    #[default]
    F32,
    /// Tensors of at least 4,096 values as their quantized roots: 8 bits each, in groups of 64. A
    /// little more than a quarter of the memory; rounding changes the resulting adapter slightly.
    Int8,
}

/// When to stop because the validation loss no longer falls, or because the model has moved too far from the
/// base ([`Retention::max_kl`]).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct EarlyStop {
    /// The number of validations without improvement after which training stops.
    pub patience: usize,
    /// The smallest decrease of the loss that counts as an improvement.
    #[serde(default)]
    pub min_delta: f64,
}

impl EarlyStop {
    /// Stops after this many validations without any improvement.
    pub fn new(patience: usize) -> Self {
        Self { patience, min_delta: 0.0 }
    }
}
