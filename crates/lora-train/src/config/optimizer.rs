//! `optimizer` and `optimizer_config`: which rule moves the factors, and its constants.
//!
//! Names and defaults are MLX's, so a section written for mlx-lm means the same here.

use serde::{Deserialize, Serialize};

/// The `optimizer` key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerName {
    /// Adam without weight decay; mlx-lm's default.
    #[default]
    Adam,
    /// Adam with decoupled weight decay.
    AdamW,
    /// Momentum orthogonalized by Newton-Schulz steps.
    Muon,
    /// Plain or momentum gradient descent.
    Sgd,
    /// The sign of an interpolated momentum.
    Lion,
    /// Factored second moments.
    Adafactor,
}

/// The `optimizer_config` key: one section per optimizer; only the chosen one is used.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerConfigs {
    /// Used with `optimizer: adam`.
    pub adam: Adam,
    /// Used with `optimizer: adamw`.
    pub adamw: AdamW,
    /// Used with `optimizer: muon`.
    pub muon: Muon,
    /// Used with `optimizer: sgd`.
    pub sgd: Sgd,
    /// Used with `optimizer: lion`.
    pub lion: Lion,
    /// Used with `optimizer: adafactor`.
    pub adafactor: Adafactor,
}

/// Constants of Adam.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adam {
    /// Decay of the first and second moment.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Undo the moments' bias towards zero. Off in MLX, on in most other libraries.
    pub bias_correction: bool,
}

impl Default for Adam {
    fn default() -> Self {
        Self { betas: (0.9, 0.999), eps: 1e-8, bias_correction: false }
    }
}

/// Constants of AdamW.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamW {
    /// Decay of the first and second moment.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Undo the moments' bias towards zero.
    pub bias_correction: bool,
    /// Share of a parameter, times the learning rate, that is taken away at each update.
    pub weight_decay: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        let Adam { betas, eps, bias_correction } = Adam::default();
        Self { betas, eps, bias_correction, weight_decay: 0.01 }
    }
}

/// Constants of Muon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Muon {
    /// Decay of the momentum.
    pub momentum: f64,
    /// Added to the gradient, times the parameter.
    pub weight_decay: f64,
    /// Look ahead along the momentum.
    pub nesterov: bool,
    /// Newton-Schulz iterations.
    pub ns_steps: u32,
}

impl Default for Muon {
    fn default() -> Self {
        Self { momentum: 0.95, weight_decay: 0.01, nesterov: true, ns_steps: 5 }
    }
}

/// Constants of stochastic gradient descent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sgd {
    /// Decay of the momentum; 0 keeps none.
    pub momentum: f64,
    /// Added to the gradient, times the parameter.
    pub weight_decay: f64,
    /// Share of a new gradient that the momentum leaves out.
    pub dampening: f64,
    /// Look ahead along the momentum; needs a momentum and no dampening.
    pub nesterov: bool,
}

/// Constants of Lion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lion {
    /// Interpolation of the direction, and decay of the momentum.
    pub betas: (f64, f64),
    /// Share of a parameter, times the learning rate, that is taken away at each update.
    pub weight_decay: f64,
}

impl Default for Lion {
    fn default() -> Self {
        Self { betas: (0.9, 0.99), weight_decay: 0.0 }
    }
}

/// Constants of Adafactor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adafactor {
    /// Added to squared gradients; least scale of a parameter.
    pub eps: (f64, f64),
    /// An update whose root mean square is above this is scaled down to it.
    pub clip_threshold: f64,
    /// Exponent of the second moment's decay over steps.
    pub decay_rate: f64,
    /// Decay of the first moment; none is kept when absent.
    pub beta_1: Option<f64>,
    /// Share of a parameter, times the step size, that is taken away at each update.
    pub weight_decay: f64,
    /// Scale the step by the parameter's own root mean square.
    pub scale_parameter: bool,
    /// Take the step size from the step count and ignore the learning rate.
    pub relative_step: bool,
    /// With `relative_step`: start from 1e-6 and rise with each step.
    pub warmup_init: bool,
}

impl Default for Adafactor {
    fn default() -> Self {
        Self {
            eps: (1e-30, 1e-3),
            clip_threshold: 1.0,
            decay_rate: -0.8,
            beta_1: None,
            weight_decay: 0.0,
            scale_parameter: true,
            relative_step: true,
            warmup_init: false,
        }
    }
}
