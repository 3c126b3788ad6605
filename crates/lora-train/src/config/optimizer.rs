//! `optimizer` and `optimizer_config`. Names and defaults are those of `mlx.optimizers`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The `optimizer` key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OptimizerName {
    /// Adam without weight decay; mlx-lm's default.
    #[default]
    Adam,
    /// Adam with decoupled weight decay.
    AdamW,
    /// Momentum orthogonalized by Newton-Schulz iterations.
    Muon,
    /// Gradient descent, plain or with momentum.
    Sgd,
    /// The sign of an interpolated momentum (arXiv:2302.06675).
    Lion,
    /// Adam with factored second moments (arXiv:1804.04235).
    Adafactor,
}

/// The `optimizer_config` key: a section per optimizer, of which the chosen one's is used.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
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

/// Hyperparameters of Adam.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Adam {
    /// Decay of the first and second moment.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Whether to correct the moments' bias towards zero. Off in MLX, on in most other libraries.
    pub bias_correction: bool,
}

impl Default for Adam {
    fn default() -> Self {
        Self { betas: (0.9, 0.999), eps: 1e-8, bias_correction: false }
    }
}

/// Hyperparameters of AdamW.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdamW {
    /// Decay of the first and second moment.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Whether to correct the moments' bias towards zero.
    pub bias_correction: bool,
    /// Each update multiplies the parameters by `1 - learning_rate * weight_decay`.
    pub weight_decay: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        let Adam { betas, eps, bias_correction } = Adam::default();
        Self { betas, eps, bias_correction, weight_decay: 0.01 }
    }
}

/// Hyperparameters of Muon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Muon {
    /// Decay of the momentum.
    pub momentum: f64,
    /// Times the parameter, is added to the gradient.
    pub weight_decay: f64,
    /// Whether to use Nesterov momentum.
    pub nesterov: bool,
    /// Newton-Schulz iterations.
    pub ns_steps: u32,
}

impl Default for Muon {
    fn default() -> Self {
        Self { momentum: 0.95, weight_decay: 0.01, nesterov: true, ns_steps: 5 }
    }
}

/// Hyperparameters of stochastic gradient descent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sgd {
    /// Decay of the momentum; 0 for none.
    pub momentum: f64,
    /// Times the parameter, is added to the gradient.
    pub weight_decay: f64,
    /// The momentum adds `1 - dampening` of each gradient.
    pub dampening: f64,
    /// Whether to use Nesterov momentum; requires a momentum and no dampening.
    pub nesterov: bool,
}

/// Hyperparameters of Lion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Lion {
    /// Interpolation between momentum and gradient for the direction, and decay of the momentum.
    pub betas: (f64, f64),
    /// Each update multiplies the parameters by `1 - learning_rate * weight_decay`.
    pub weight_decay: f64,
}

impl Default for Lion {
    fn default() -> Self {
        Self { betas: (0.9, 0.99), weight_decay: 0.0 }
    }
}

/// Hyperparameters of Adafactor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Adafactor {
    /// Added to squared gradients; minimum of a parameter's root mean square for `scale_parameter`.
    pub eps: (f64, f64),
    /// Updates with a larger root mean square are scaled down to it.
    pub clip_threshold: f64,
    /// The second moment decays by `1 - step^decay_rate`.
    pub decay_rate: f64,
    /// Decay of the first moment; absent: no first moment.
    pub beta_1: Option<f64>,
    /// Each update multiplies the parameters by `1 - step size * weight_decay`.
    pub weight_decay: f64,
    /// Whether the step size is multiplied by the parameter's root mean square.
    pub scale_parameter: bool,
    /// Whether the step size depends on the step count instead of the learning rate.
    pub relative_step: bool,
    /// With `relative_step`: whether to warm up, with a step size of at most `1e-6 * step`.
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
