//! `lr_schedule`: how the learning rate moves, as it is written; [`crate::Schedule`] computes it.

use serde::{Deserialize, Serialize};

/// The `lr_schedule` key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LrSchedule {
    /// Which curve.
    pub name: ScheduleName,
    /// The curve's arguments, in MLX's order; the first is the learning rate it starts from.
    pub arguments: Vec<f64>,
    /// Updates of linear warm-up before the curve begins.
    #[serde(default)]
    pub warmup: u64,
    /// The learning rate at the start of the warm-up.
    #[serde(default)]
    pub warmup_init: f64,
}

/// The curves of `lr_schedule`. All but `constant` are MLX's, with MLX's arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

/// What one step of `lr_schedule` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleUnit {
    /// One optimizer update, as mlx-lm counts.
    #[default]
    Updates,
    /// One iteration: with `grad_accumulation_steps: 16`, an update is 16 steps of the schedule.
    Iterations,
}
