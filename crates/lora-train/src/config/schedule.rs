//! `lr_schedule`: the settings from which [`crate::Schedule`] computes learning rates.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The `lr_schedule` key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LrSchedule {
    /// The curve after the warm-up.
    pub name: ScheduleName,
    /// The curve's arguments in MLX's order. The first is its initial learning rate.
    pub arguments: Vec<f64>,
    /// Steps of linear warm-up, counted as `nightshift.schedule_unit` says.
    #[serde(default)]
    pub warmup: u64,
    /// The learning rate at the start of the warm-up.
    #[serde(default)]
    pub warmup_init: f64,
}

impl LrSchedule {
    /// A schedule without warm-up.
    pub fn new(name: ScheduleName, arguments: impl Into<Vec<f64>>) -> Self {
        Self { name, arguments: arguments.into(), warmup: 0, warmup_init: 0.0 }
    }
}

/// The curves of `lr_schedule`, with their arguments. All but `constant` are MLX's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ScheduleName {
    /// `[init]`
    Constant,
    /// `[init, steps, end = 0]`
    CosineDecay,
    /// `[init, end, steps]`
    LinearSchedule,
    /// `[init, rate, every]`
    StepDecay,
    /// `[init, rate]`
    ExponentialDecay,
}

/// What `lr_schedule` counts as a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleUnit {
    /// An optimizer update, as in mlx-lm.
    #[default]
    Updates,
    /// An iteration: with `grad_accumulation_steps: 16`, an update is 16 steps of the schedule.
    Iterations,
}
