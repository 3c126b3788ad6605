//! `nightshift`: what mlx-lm has no key for.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::lora::Scaling;
use super::schedule::ScheduleUnit;
use super::values::{Bytes, duration};

/// The `nightshift` key: settings of ours, in one place, so that the rest of the file stays
/// mlx-lm's. Every default leaves training as mlx-lm does it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Nightshift {
    /// Passes over the training rows, instead of `iters`.
    pub epochs: Option<f64>,
    /// Most tokens in one micro-batch; as many as the longest row of an update has, if that is
    /// more. Speed and memory only: the gradients of an update do not depend on it.
    pub max_tokens_per_step: usize,
    /// Threads that share the work of an update; absent: chosen for the machine.
    pub lanes: Option<usize>,
    /// Most memory MLX may take; absent: a share of the machine's.
    pub memory_limit: Option<Bytes>,
    /// The gradient's global norm is scaled down to this; absent: no clipping.
    pub max_grad_norm: Option<f64>,
    /// What to do when a loss is not a number.
    pub on_bad_loss: OnBadLoss,
    /// What one step of `lr_schedule` is.
    pub schedule_unit: ScheduleUnit,
    /// Warm-up as a share of all updates, instead of `lr_schedule.warmup`.
    pub warmup_share: Option<f64>,
    /// How `lora_parameters.alpha` becomes a strength.
    pub scaling: Scaling,
    /// How the optimizer's moments are kept.
    pub optimizer_state: StateStorage,
    /// Ranks of single linear layers, by path (`mlp.down_proj`), where they are to differ from
    /// `lora_parameters.rank`. The strength is the same for all.
    pub rank_pattern: BTreeMap<String, usize>,
    /// The adapted layers by index, instead of `num_layers`.
    pub layers: Option<Vec<usize>>,
    /// End with the adapter of the lowest validation loss, not the last one.
    pub eval_best: bool,
    /// Stop when the validation loss no longer falls.
    pub early_stop: Option<EarlyStop>,
    /// Stop after this long, with a checkpoint.
    #[serde(with = "duration")]
    pub time_budget: Option<Duration>,
    /// Full checkpoints (adapter, moments, position) kept beside the adapter.
    pub keep_checkpoints: usize,
}

impl Default for Nightshift {
    fn default() -> Self {
        Self {
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
        }
    }
}

/// What to do when a loss is infinite or not a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBadLoss {
    /// Write the rows of the update to a file and stop.
    #[default]
    Stop,
    /// Write the rows of the update to a file, leave the adapter as it was, go on.
    Skip,
}

/// How the optimizer's moments are kept from update to update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateStorage {
    /// As they are.
    #[default]
    F32,
    /// Roots of 4,096 values and more in groups of 64 at 8 bits each, a bit more than a quarter of
    /// the memory. Not the same adapter: each update rounds.
    Int8,
}

/// When to give up on a validation loss that no longer falls.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStop {
    /// Evaluations without progress before training stops.
    pub patience: usize,
    /// The least fall of the loss that counts as progress.
    #[serde(default)]
    pub min_delta: f64,
}
