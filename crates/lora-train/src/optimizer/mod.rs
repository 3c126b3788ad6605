//! Optimizers over named tensors, with a state that can be saved and restored.
//!
//! The update rules are those of `mlx.optimizers`, with the same defaults (Adam without bias
//! correction). The optimizers of mlx-rs have no bias correction and no step count in their state,
//! and compute `1 - beta` in f32, which is off by 1e-5 for a beta of 0.999.

mod adafactor;
mod adam;
mod clip;
mod lion;
mod muon;
mod sgd;
mod state;

use std::collections::BTreeMap;

use mlx_rs::Array;

pub(crate) use clip::{clip_global_norm, global_norm};

use state::{Slots, Stored};

use crate::config::{
    Adafactor, Adam, AdamW, Lion, Muon, OptimizerName, Sgd, StateStorage, TrainConfig,
};
use crate::{Error, Result};

/// Tensors by name: an adapter, its gradients, or an optimizer's state.
pub type Tensors = BTreeMap<String, Array>;

/// An optimizer of the kind that a configuration names.
///
/// ```
/// use lora_train::{Optimizer, Tensors, TrainConfig};
/// use mlx_rs::Array;
///
/// let mut optimizer = Optimizer::new(&TrainConfig::default());
/// let mut parameters = Tensors::from([("w".into(), Array::from_slice(&[1.0f32, -1.0], &[2]))]);
/// let gradients = Tensors::from([("w".into(), Array::from_slice(&[0.5f32, -0.5], &[2]))]);
/// optimizer.update(&mut parameters, &gradients, 0.1)?;
///
/// assert!(parameters["w"].as_slice::<f32>()[0] < 1.0);
/// assert_eq!(optimizer.step(), 1);
/// assert_eq!(optimizer.state().keys().collect::<Vec<_>>(), ["w.m", "w.v"]);
/// # Ok::<(), lora_train::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Optimizer {
    rule: Rule,
    storage: StateStorage,
    step: u64,
    state: Tensors,
}

impl Optimizer {
    /// The optimizer that `config` names, before its first step.
    pub fn new(config: &TrainConfig) -> Self {
        let storage = config.nightshift.optimizer_state;
        Self { rule: Rule::new(config), storage, step: 0, state: Tensors::new() }
    }

    /// Updates made so far.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The moments in f32, named `parameter.slot`; if stored in 8 bits, `parameter.slot.packed` (u32),
    /// `.scales` and `.biases`.
    pub fn state(&self) -> &Tensors {
        &self.state
    }

    /// The bytes of the state of a parameter of this shape.
    pub(crate) fn state_bytes(&self, shape: &[i32]) -> u64 {
        let values = |shape: &[i32]| shape.iter().map(|&n| n as u64).product::<u64>();
        // f32 and u32 take four bytes.
        self.stored(shape).map(|(_, shape, _)| values(&shape) * 4).sum()
    }

    /// The state tensors of a parameter of this shape.
    fn stored(&self, shape: &[i32]) -> impl Iterator<Item = Stored> {
        let slots = self.rule.slots(shape).into_iter();
        slots.flat_map(|(slot, shape)| state::stored(self.storage, slot, shape))
    }

    /// Restores a state that was saved after `step` updates of `parameters`.
    ///
    /// # Errors
    /// [`Error::OptimizerState`] if names, shapes or dtypes are not those of this optimizer.
    pub fn restore(&mut self, step: u64, state: Tensors, parameters: &Tensors) -> Result<()> {
        let mut expected = BTreeMap::new();
        if step > 0 {
            for (name, parameter) in parameters {
                let stored = self.stored(parameter.shape());
                expected
                    .extend(stored.map(|(slot, shape, dtype)| (key(name, &slot), (shape, dtype))));
            }
        }
        for (name, (shape, dtype)) in &expected {
            let found = state.get(name).map(|array| (array.shape(), array.dtype()));
            if found != Some((shape.as_slice(), *dtype)) {
                return Err(Error::OptimizerState {
                    name: name.clone(),
                    expected: format!("{dtype:?} of shape {shape:?}"),
                    found: found.map_or("no such tensor".to_owned(), |(shape, dtype)| {
                        format!("{dtype:?} of shape {shape:?}")
                    }),
                });
            }
        }
        if let Some(name) = state.keys().find(|name| !expected.contains_key(*name)) {
            return Err(Error::OptimizerState {
                name: name.clone(),
                expected: "no such tensor".to_owned(),
                found: "one".to_owned(),
            });
        }
        (self.step, self.state) = (step, state);
        Ok(())
    }

    /// Updates and evaluates every parameter that has a gradient.
    ///
    /// # Errors
    /// [`Error::Mlx`] if the shapes of a parameter and its gradient do not match.
    pub fn update(
        &mut self,
        parameters: &mut Tensors,
        gradients: &Tensors,
        learning_rate: f64,
    ) -> Result<()> {
        self.step += 1;
        let step = Step { number: self.step, learning_rate };
        for (name, parameter) in parameters.iter_mut() {
            let Some(gradient) = gradients.get(name) else { continue };
            let storage = self.storage;
            let mut slots = Slots { state: &mut self.state, parameter: name, storage };
            *parameter = self.rule.apply(step, parameter, gradient, &mut slots)?;
            // Evaluated one by one, so that only one parameter and its state exist twice.
            let stored = self.stored(parameter.shape());
            let names: Vec<_> = stored.map(|(slot, ..)| key(name, &slot)).collect();
            let state = names.iter().filter_map(|name| self.state.get(name));
            mlx_rs::transforms::eval(state.chain([&*parameter]))?;
        }
        Ok(())
    }
}

/// One update.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// Counted from 1.
    number: u64,
    learning_rate: f64,
}

/// An update rule with its hyperparameters.
#[derive(Debug, Clone)]
enum Rule {
    Adam(AdamW),
    Sgd(Sgd),
    Lion(Lion),
    Muon(Muon),
    Adafactor(Adafactor),
}

impl Rule {
    fn new(config: &TrainConfig) -> Self {
        let all = config.optimizer_config.clone();
        match config.optimizer {
            OptimizerName::Adam => {
                let Adam { betas, eps, bias_correction } = all.adam;
                Self::Adam(AdamW { betas, eps, bias_correction, weight_decay: 0.0 })
            }
            OptimizerName::AdamW => Self::Adam(all.adamw),
            OptimizerName::Muon => Self::Muon(all.muon),
            OptimizerName::Sgd => Self::Sgd(all.sgd),
            OptimizerName::Lion => Self::Lion(all.lion),
            OptimizerName::Adafactor => Self::Adafactor(all.adafactor),
        }
    }

    /// The updated parameter. Moments are read from and written to `slots`.
    fn apply(
        &self,
        step: Step,
        parameter: &Array,
        gradient: &Array,
        slots: &mut Slots<'_>,
    ) -> Result<Array> {
        match self {
            Self::Adam(rule) => adam::apply(rule, step, parameter, gradient, slots),
            Self::Sgd(rule) => sgd::apply(rule, step, parameter, gradient, slots),
            Self::Lion(rule) => lion::apply(rule, step, parameter, gradient, slots),
            Self::Muon(rule) => muon::apply(rule, step, parameter, gradient, slots),
            Self::Adafactor(rule) => adafactor::apply(rule, step, parameter, gradient, slots),
        }
    }

    /// Names and shapes of the moments of a parameter of this shape.
    fn slots(&self, shape: &[i32]) -> Vec<(&'static str, Vec<i32>)> {
        match self {
            Self::Adam(_) => vec![("m", shape.to_vec()), ("v", shape.to_vec())],
            Self::Sgd(rule) if rule.momentum == 0.0 => Vec::new(),
            Self::Sgd(_) | Self::Muon(_) => vec![("v", shape.to_vec())],
            Self::Lion(_) => vec![("m", shape.to_vec())],
            Self::Adafactor(rule) => adafactor::slots(rule, shape),
        }
    }
}

fn key(parameter: &str, slot: &str) -> String {
    format!("{parameter}.{slot}")
}

/// An f32 scalar. Hyperparameters are combined in f64 and rounded last.
fn scalar(value: f64) -> Array {
    Array::from_f32(value as f32)
}

/// The parameter after a decoupled weight decay by this share.
fn decayed(parameter: &Array, share: f64) -> Result<Array> {
    match share {
        0.0 => Ok(parameter.clone()),
        share => Ok(parameter.multiply(scalar(1.0 - share))?),
    }
}

/// The gradient with a weight decay added to it (L2 regularization).
fn regularized(gradient: &Array, parameter: &Array, decay: f64) -> Result<Array> {
    match decay {
        0.0 => Ok(gradient.clone()),
        decay => Ok(gradient.add(parameter.multiply(scalar(decay))?)?),
    }
}

/// `a * x + b * y`
fn blend(a: f64, x: &Array, b: f64, y: &Array) -> Result<Array> {
    Ok(x.multiply(scalar(a))?.add(y.multiply(scalar(b))?)?)
}
