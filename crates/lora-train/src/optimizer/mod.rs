//! Optimizers over named tensors, with a state that can be written down and read back.
//!
//! The rules are those of `mlx.optimizers`, constants and quirks included (Adam corrects no bias
//! unless asked). mlx-rs has some of them too, but without bias correction, without a step count
//! in its state, and with `1 - beta` rounded from f32, which is 1e-5 off for a beta of 0.999.

mod adafactor;
mod adam;
mod clip;
mod lion;
mod muon;
mod sgd;
mod state;

use std::collections::BTreeMap;

use mlx_rs::Array;

pub use clip::{clip_global_norm, global_norm};

use state::{Slots, Stored};

use crate::config::{OptimizerName, StateStorage, TrainConfig};
use crate::{Error, Result};

/// Tensors by name: an adapter, its gradients, or an optimizer's state.
pub type Tensors = BTreeMap<String, Array>;

/// Moves parameters along their gradients.
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
    /// The optimizer that `config` names, at its first step.
    pub fn new(config: &TrainConfig) -> Self {
        let storage = config.nightshift.optimizer_state;
        Self { rule: Rule::new(config), storage, step: 0, state: Tensors::new() }
    }

    /// Updates made so far.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// What the rule remembers of earlier gradients, as `parameter.slot`; of what is packed into 8
    /// bits, `parameter.slot.packed`, `.scales` and `.biases`.
    pub fn state(&self) -> &Tensors {
        &self.state
    }

    /// How many bytes it remembers of a parameter of this shape.
    pub(crate) fn state_bytes(&self, shape: &[i32]) -> u64 {
        let values = |shape: &[i32]| shape.iter().map(|&n| n as u64).product::<u64>();
        // Every type that is stored takes four bytes.
        self.stored(shape).map(|(_, shape, _)| values(&shape) * 4).sum()
    }

    /// What is stored of a parameter of this shape.
    fn stored(&self, shape: &[i32]) -> impl Iterator<Item = Stored> {
        let slots = self.rule.slots(shape).into_iter();
        slots.flat_map(|(slot, shape)| state::stored(self.storage, slot, shape))
    }

    /// Goes on from a state that was written down after `step` updates of `parameters`.
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

    /// Makes one update of every parameter that has a gradient, and evaluates it.
    pub fn update(
        &mut self,
        parameters: &mut Tensors,
        gradients: &Tensors,
        learning_rate: f64,
    ) -> Result<()> {
        self.step += 1;
        let now = Now { step: self.step, learning_rate };
        for (name, parameter) in parameters.iter_mut() {
            let Some(gradient) = gradients.get(name) else { continue };
            let storage = self.storage;
            let mut slots = Slots { state: &mut self.state, parameter: name, storage };
            *parameter = self.rule.apply(now, parameter, gradient, &mut slots)?;
            // One by one, so that no more than one parameter and its state exist twice.
            let stored = self.stored(parameter.shape());
            let names: Vec<_> = stored.map(|(slot, ..)| key(name, &slot)).collect();
            let state = names.iter().filter_map(|name| self.state.get(name));
            mlx_rs::transforms::eval(state.chain([&*parameter]))?;
        }
        Ok(())
    }
}

/// When an update is made.
#[derive(Debug, Clone, Copy)]
struct Now {
    /// Counted from 1.
    step: u64,
    learning_rate: f64,
}

/// How one parameter is moved.
#[derive(Debug, Clone)]
enum Rule {
    Adam(adam::Rule),
    Sgd(crate::config::Sgd),
    Lion(crate::config::Lion),
    Muon(crate::config::Muon),
    Adafactor(crate::config::Adafactor),
}

impl Rule {
    fn new(config: &TrainConfig) -> Self {
        let constants = config.optimizer_config.clone();
        match config.optimizer {
            OptimizerName::Adam => Self::Adam(constants.adam.into()),
            OptimizerName::AdamW => Self::Adam(constants.adamw.into()),
            OptimizerName::Muon => Self::Muon(constants.muon),
            OptimizerName::Sgd => Self::Sgd(constants.sgd),
            OptimizerName::Lion => Self::Lion(constants.lion),
            OptimizerName::Adafactor => Self::Adafactor(constants.adafactor),
        }
    }

    /// The moved parameter; what is to be remembered goes into `slots`.
    fn apply(
        &self,
        now: Now,
        parameter: &Array,
        gradient: &Array,
        slots: &mut Slots<'_>,
    ) -> Result<Array> {
        match self {
            Self::Adam(rule) => rule.apply(now, parameter, gradient, slots),
            Self::Sgd(rule) => sgd::apply(rule, now, parameter, gradient, slots),
            Self::Lion(rule) => lion::apply(rule, now, parameter, gradient, slots),
            Self::Muon(rule) => muon::apply(rule, now, parameter, gradient, slots),
            Self::Adafactor(rule) => adafactor::apply(rule, now, parameter, gradient, slots),
        }
    }

    /// Names and shapes of what is remembered of a parameter of this shape.
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

/// An f32 scalar from constants that are kept, and combined, in f64.
fn scalar(value: f64) -> Array {
    Array::from_f32(value as f32)
}

/// `decay * old + share * new`
fn blend(decay: f64, old: &Array, share: f64, new: &Array) -> Result<Array> {
    Ok(old.multiply(scalar(decay))?.add(new.multiply(scalar(share))?)?)
}
