//! Learning rate schedules: those of MLX, joined to a linear warm-up as in mlx-lm.
//!
//! A schedule counts optimizer updates from 0. With gradient accumulation there are fewer of them
//! than iterations; see [`ScheduleUnit`].

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
/// // The curve's first value is there twice: as the end of the warm-up and as its own start.
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
    /// The schedule of a run of this many updates.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) for arguments that the named curve does not take.
    pub fn new(config: &TrainConfig, updates: u64) -> Result<Self> {
        let Some(settings) = &config.lr_schedule else {
            let curve = Curve::Constant { init: config.learning_rate };
            return Ok(Self { curve, warmup: None, stride: 1 });
        };
        let stride = match config.nightshift.schedule_unit {
            ScheduleUnit::Updates => 1,
            ScheduleUnit::Iterations => config.grad_accumulation_steps as u64,
        };
        let curve = Curve::new(settings).map_err(|BadArgument { key, expected, found }| {
            config.invalid(&format!("lr_schedule.{key}"), expected, found)
        })?;
        let steps = match config.nightshift.warmup_share {
            Some(share) => (share * updates as f64).round() as u64 * stride,
            None => settings.warmup,
        };
        let init = settings.warmup_init;
        let warmup = (steps > 0).then_some(Warmup { init, steps });
        Ok(Self { curve, warmup, stride })
    }

    /// The learning rate of an update, counted from 0.
    pub fn at(&self, update: u64) -> f64 {
        let step = update.saturating_mul(self.stride);
        match self.warmup {
            // As in mlx-lm, the curve starts one step after the warm-up has reached its first value.
            Some(Warmup { init, steps }) if step <= steps => {
                Curve::Linear { init, end: self.peak(), steps }.at(step)
            }
            Some(Warmup { steps, .. }) => self.curve.at(step - steps - 1),
            None => self.curve.at(step),
        }
    }

    /// Updates before the learning rate reaches [`peak`](Self::peak).
    pub fn warmup_updates(&self) -> u64 {
        self.warmup.map_or(0, |warmup| warmup.steps.div_ceil(self.stride))
    }

    /// The learning rate the curve starts from.
    pub fn peak(&self) -> f64 {
        self.curve.at(0)
    }

    /// Updates until a decay has reached its final value; `None` for curves without one.
    pub fn ends_after(&self) -> Option<u64> {
        let steps = match self.curve {
            Curve::Cosine { steps, .. } | Curve::Linear { steps, .. } => steps,
            Curve::Constant { .. } | Curve::Step { .. } | Curve::Exponential { .. } => return None,
        };
        let before = self.warmup.map_or(0, |warmup| warmup.steps + 1);
        Some((before + steps).div_ceil(self.stride))
    }
}

/// An invalid value in `lr_schedule`.
struct BadArgument {
    key: &'static str,
    expected: &'static str,
    found: String,
}

impl Curve {
    fn new(settings: &LrSchedule) -> std::result::Result<Self, BadArgument> {
        let bad = |key, expected, found| BadArgument { key, expected, found };
        let arguments = settings.arguments.as_slice();
        if let Some(number) = arguments.iter().find(|n| !n.is_finite() || **n < 0.0) {
            return Err(bad("arguments", "finite numbers of at least 0", number.to_string()));
        }
        if !settings.warmup_init.is_finite() || settings.warmup_init < 0.0 {
            let found = settings.warmup_init.to_string();
            return Err(bad("warmup_init", "a finite number of at least 0", found));
        }
        Self::from_arguments(settings.name, arguments)
            .ok_or_else(|| bad("arguments", signature(settings.name), format!("{arguments:?}")))
    }

    fn from_arguments(name: ScheduleName, arguments: &[f64]) -> Option<Self> {
        let steps = |number: f64| (number.fract() == 0.0 && number >= 1.0).then_some(number as u64);
        Some(match (name, arguments) {
            (ScheduleName::Constant, &[init]) => Self::Constant { init },
            (ScheduleName::CosineDecay, &[init, number]) => {
                Self::Cosine { init, steps: steps(number)?, end: 0.0 }
            }
            (ScheduleName::CosineDecay, &[init, number, end]) => {
                Self::Cosine { init, steps: steps(number)?, end }
            }
            (ScheduleName::LinearSchedule, &[init, end, number]) => {
                Self::Linear { init, end, steps: steps(number)? }
            }
            (ScheduleName::StepDecay, &[init, rate, number]) => {
                Self::Step { init, rate, every: steps(number)? }
            }
            (ScheduleName::ExponentialDecay, &[init, rate]) => Self::Exponential { init, rate },
            _ => return None,
        })
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

/// The arguments of a curve, for messages.
fn signature(name: ScheduleName) -> &'static str {
    match name {
        ScheduleName::Constant => "[init]",
        ScheduleName::CosineDecay => {
            "[init, steps] or [init, steps, end], with at least 1 whole step"
        }
        ScheduleName::LinearSchedule => "[init, end, steps], with at least 1 whole step",
        ScheduleName::StepDecay => "[init, rate, every], with at least 1 whole step",
        ScheduleName::ExponentialDecay => "[init, rate]",
    }
}
