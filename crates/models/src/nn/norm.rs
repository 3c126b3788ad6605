use mlx_rs::Array;

use crate::Result;
use crate::backend::Backend;
use crate::ext::fused;

/// RMS norm over the last axis (Zhang and Sennrich, 2019).
#[derive(Clone, Debug)]
pub(crate) struct RmsNorm {
    backend: Backend,
    weight: Option<Array>,
    eps: f32,
}

impl RmsNorm {
    /// With `weight` `[d]`, or without a weight. `eps` is added to the mean square.
    pub fn new(backend: Backend, weight: Option<Array>, eps: f32) -> Self {
        Self { backend, weight, eps }
    }

    /// Normalizes `[.., d]`.
    pub fn apply(&self, x: &Array) -> Result<Array> {
        fused::rms_norm(self.backend, x, self.weight.as_ref(), self.eps)
    }

    /// The arrays it consists of.
    pub fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.weight.iter()
    }
}
