#![doc = include_str!("../README.md")]

mod adapter;
mod arch;
mod backend;
mod checkpoint;
mod divergence;
mod error;
mod ext;
mod generate;
mod model;
mod nn;
mod ranks;
mod score;
mod synthesize;

pub use adapter::export::{export_gguf, export_peft};
pub use adapter::fuse::{FusedWeights, LogitError, fuse};
pub use arch::config::Config;
pub use arch::registry::{gguf_architectures, supported_architectures};
pub use backend::{Kernels, OpenOptions, WeightResidency};
pub use checkpoint::{model_digest, model_files};
pub use divergence::{Divergence, divergence};
pub use error::{Differences, Error, Result};
#[doc(hidden)]
pub use generate::generation_lanes;
pub use generate::{
    Completion, ContinuousBatch, FinishReason, GenerateOptions, Generator, Prompt, PromptPrefix,
    Sampler, TokenConstraint,
};
pub use model::Model;
pub use nn::adapter::Adapter;
pub use ranks::{Group, RankError};
pub use score::{Score, ScoreRow, score};
pub use synthesize::{Storage, Synthesized, synthesize};

/// Parts of a model and of an adapter, for programs with a forward or backward pass of their own.
pub mod layers {
    pub use crate::model::layer::Layer;
    pub use crate::nn::adapter::LayerAdapter;
    pub use crate::nn::batch::{Batch, Flow};
    pub use crate::nn::gated_delta::{GatedDelta, gated_delta, gated_delta_in_chunks};
    pub use crate::nn::head::Head;
    pub use crate::nn::linear_spec::LinearSpec;
    pub use crate::nn::lora::{AdapterKind, Dropout, Lora};
    pub use crate::nn::rope::RopeStyle;
    pub use crate::nn::rows::Rows;
}

/// What the training engine of this workspace needs and other programs do not.
#[doc(hidden)]
pub mod train_support {
    pub use crate::divergence::divergence_bytes;
    use mlx_rs::{Array, Stream, with_stream};

    use crate::Result;
    use crate::backend::Backend;
    use crate::ext::{cpu_op, fused};

    pub use crate::checkpoint::write_safetensors;
    pub use crate::nn::footprint::{BatchSize, Footprint};

    /// `exp(x)`, elementwise, on the default device. The gradient does not pass through it.
    ///
    /// For f32 on a CPU the relative error is below 2e-7, beside the rounding of `x * log2(e)`;
    /// results below 1.2e-38 are flushed to 0.
    ///
    /// ```
    /// use mlx_rs::Array;
    ///
    /// let y = models::train_support::exp(&Array::from_slice(&[0.0f32, 1.0, -1.0], &[3]))?;
    /// let y = y.as_slice::<f32>();
    /// assert_eq!(y[0], 1.0);
    /// assert!((y[1] - 1.0f32.exp()).abs() < 1e-6 && (y[2] - (-1.0f32).exp()).abs() < 1e-6);
    /// # Ok::<(), models::Error>(())
    /// ```
    pub fn exp(x: &Array) -> Result<Array> {
        fused::exp(Backend::choose(None)?, x)
    }

    /// The parts of a softmax over each row: `exp(x - max)`, the row's maximum and the sum of the
    /// exponentials, the latter two `[.., 1]`. The gradient does not pass through them.
    pub fn exponentials(x: &Array) -> Result<[Array; 3]> {
        fused::exponentials(Backend::choose(None)?, x)
    }

    /// `cap * tanh(x / cap)`, elementwise.
    pub fn soft_cap(x: &Array, cap: f32) -> Result<Array> {
        fused::soft_cap(Backend::choose(None)?, x, cap)
    }

    /// An array of the shape of `x` that `function` computes from the values of `x` when MLX evaluates
    /// it, both in f32 and in row-major order. It runs on a CPU stream, whatever the default device.
    /// Not differentiable. `function` must not panic: it runs on a thread of MLX.
    ///
    /// ```
    /// use mlx_rs::Array;
    ///
    /// let x = Array::from_slice(&[1.0f32, 2.0], &[2, 1]);
    /// let sums = models::train_support::host_function(&x, |x, y| y.fill(x.iter().sum()))?;
    /// assert_eq!(sums.as_slice::<f32>(), [3.0, 3.0]);
    /// # Ok::<(), models::Error>(())
    /// ```
    pub fn host_function<F>(x: &Array, function: F) -> Result<Array>
    where
        F: Fn(&[f32], &mut [f32]) + Send + Sync + 'static,
    {
        let [y] = with_stream(&Stream::cpu(), || {
            cpu_op([x], [x.shape()], move |[x], [y]| function(x, y))
        })?;
        Ok(y)
    }

    /// The memory that the device is best used up to, in bytes: Metal's recommended working set. `None`
    /// where the device does not tell.
    pub fn recommended_memory() -> Option<u64> {
        crate::ext::recommended_memory().map(|bytes| bytes as u64)
    }

    /// The derivative of [`soft_cap`] where its value is `y`: `1 - (y / cap)^2`.
    pub fn soft_cap_slope(y: &Array, cap: f32) -> Result<Array> {
        fused::soft_cap_slope(y, cap)
    }
}
