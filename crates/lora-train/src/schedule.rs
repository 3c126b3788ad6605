//! Learning rates: MLX's curves, joined to a warm-up as mlx-lm joins them.
//!
//! A schedule counts optimizer updates, the first one being 0. In a run with accumulation that
//! is not the number of iterations; see [`ScheduleUnit`].

use std::f64::consts::PI;

use crate::Result;
use crate::config::{LrSchedule, ScheduleName, ScheduleUnit, TrainConfig};

/// The learning rate of every update of a run.
///
/// ```
/// use lora_train::{Schedule, TrainConfig};
///
/// let config = TrainConfig::from_yaml(
///     "lr_schedule: { name: linear_schedule, arguments: [1.0, 0.0, 4], warmup: 2 }",
///     "night.yaml",
/// )?;
/// let schedule = Schedule::new(&config, 100)?;
/// let rates: Vec<f64> = (0..6).map(|update| schedule.at(update)).collect();
/// // The curve's first value comes twice: at the end of the warm-up, and as its own beginning.
/// assert_eq!(rates, [0.0, 0.5, 1.0, 1.0, 0.75, 0.5]);
/// # Ok::<(), lora_train::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    curve: Curve,
    warmup: Option<Warmup>,
    /// Steps of the schedule per update.
    stride: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Curve {
    Constant { init: f64 },
    Cosine { init: f64, steps: u64, end: f64 },
    Linear { init: f64, end: f64, steps: u64 },
    Step { init: f64, rate: f64, every: u64 },
    Exponential { init: f64, rate: f64 },
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Warmup {
    init: f64,
    steps: u64,
}

impl Schedule {
    /// The schedule of a run of `updates` updates.
    pub fn new(config: &TrainConfig, updates: u64) -> Result<Self> {
        let Some(written) = &config.lr_schedule else {
            let curve = Curve::Constant { init: config.learning_rate };
            return Ok(Self { curve, warmup: None, stride: 1 });
        };
        let stride = match config.nightshift.schedule_unit {
            ScheduleUnit::Updates => 1,
            ScheduleUnit::Iterations => config.grad_accumulation_steps as u64,
        };
        let curve = Curve::new(written).map_err(|Misfit { key, expected, found }| {
            config.invalid(&format!("lr_schedule.{key}"), expected, found)
        })?;
        let steps = match config.nightshift.warmup_share {
            Some(share) => (share * updates as f64).round() as u64 * stride,
            None => written.warmup,
        };
        let init = written.warmup_init;
        let warmup = (steps > 0).then_some(Warmup { init, steps });
        Ok(Self { curve, warmup, stride })
    }

    /// The learning rate of an update; the first one is 0.
    pub fn at(&self, update: u64) -> f64 {
        let step = update.saturating_mul(self.stride);
        match self.warmup {
            // The curve begins one step after the warm-up has reached its first value.
            Some(Warmup { init, steps }) if step <= steps => {
                Curve::Linear { init, end: self.peak(), steps }.at(step)
            }
            Some(Warmup { steps, .. }) => self.curve.at(step - steps - 1),
            None => self.curve.at(step),
        }
    }

    /// Updates before the learning rate is what the curve starts from.
    pub fn warmup_updates(&self) -> u64 {
        self.warmup.map_or(0, |warmup| warmup.steps.div_ceil(self.stride))
    }

    /// The learning rate the curve starts from.
    pub fn peak(&self) -> f64 {
        self.curve.at(0)
    }

    /// Updates until the curve has nothing left to change, for curves that end.
    pub fn ends_after(&self) -> Option<u64> {
        let steps = match self.curve {
            Curve::Cosine { steps, .. } | Curve::Linear { steps, .. } => steps,
            Curve::Constant { .. } | Curve::Step { .. } | Curve::Exponential { .. } => return None,
        };
        let before = self.warmup.map_or(0, |warmup| warmup.steps + 1);
        Some((before + steps).div_ceil(self.stride))
    }
}

/// Why the arguments of a schedule are refused.
struct Misfit {
    key: &'static str,
    expected: &'static str,
    found: String,
}

impl Curve {
    fn new(written: &LrSchedule) -> std::result::Result<Self, Misfit> {
        let misfit = |key, expected, found| Misfit { key, expected, found };
        let arguments = written.arguments.as_slice();
        if let Some(bad) = arguments.iter().find(|number| !number.is_finite() || **number < 0.0) {
            return Err(misfit("arguments", "finite numbers of at least 0", bad.to_string()));
        }
        if !written.warmup_init.is_finite() || written.warmup_init < 0.0 {
            let found = written.warmup_init.to_string();
            return Err(misfit("warmup_init", "a finite number of at least 0", found));
        }
        let (curve, shape) = Self::from_arguments(written.name, arguments);
        curve.ok_or_else(|| misfit("arguments", shape, format!("{arguments:?}")))
    }

    /// The curve if the arguments fit, and what they should have been.
    fn from_arguments(name: ScheduleName, arguments: &[f64]) -> (Option<Self>, &'static str) {
        let steps = |number: f64| (number.fract() == 0.0 && number >= 1.0).then_some(number as u64);
        let cosine = |init, number, end| Some(Self::Cosine { init, steps: steps(number)?, end });
        let linear = |init, end, number| Some(Self::Linear { init, end, steps: steps(number)? });
        let step = |init, rate, number| Some(Self::Step { init, rate, every: steps(number)? });
        match name {
            ScheduleName::Constant => (
                match *arguments {
                    [init] => Some(Self::Constant { init }),
                    _ => None,
                },
                "[init]",
            ),
            ScheduleName::CosineDecay => (
                match *arguments {
                    [init, number] => cosine(init, number, 0.0),
                    [init, number, end] => cosine(init, number, end),
                    _ => None,
                },
                "[init, steps] or [init, steps, end], with at least 1 whole step",
            ),
            ScheduleName::LinearSchedule => (
                match *arguments {
                    [init, end, number] => linear(init, end, number),
                    _ => None,
                },
                "[init, end, steps], with at least 1 whole step",
            ),
            ScheduleName::StepDecay => (
                match *arguments {
                    [init, rate, number] => step(init, rate, number),
                    _ => None,
                },
                "[init, rate, every], with at least 1 whole step",
            ),
            ScheduleName::ExponentialDecay => (
                match *arguments {
                    [init, rate] => Some(Self::Exponential { init, rate }),
                    _ => None,
                },
                "[init, rate]",
            ),
        }
    }

    fn at(self, step: u64) -> f64 {
        match self {
            Self::Constant { init } => init,
            Self::Cosine { init, steps, end } => {
                let progress = step.min(steps) as f64 / steps as f64;
                end + 0.5 * (1.0 + (PI * progress).cos()) * (init - end)
            }
            Self::Linear { init, end, steps } => {
                let progress = step.min(steps) as f64 / steps as f64;
                init + progress * (end - init)
            }
            Self::Step { init, rate, every } => init * rate.powf((step / every) as f64),
            Self::Exponential { init, rate } => init * rate.powf(step as f64),
        }
    }
}
