//! The weights of the targets of a micro-batch in what is minimized.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use mlx_rs::Array;
use mlx_rs::ops::concatenate;
use mlx_rs::ops::indexing::TryIndexOp;
use models::train_support;

use crate::Result;

/// The weight of each target's loss in the sum that is differentiated.
#[derive(Clone)]
pub(crate) enum TargetWeights {
    /// The same for all: one over the trained tokens of the update gives the gradient of their mean
    /// loss.
    Equal(f32),
    /// Weights that depend on the losses of all targets.
    Function(Arc<WeightFunction>),
}

/// Computes the weights, in the second slice, from the losses.
pub(crate) type WeightFunction = dyn Fn(&[f32], &mut [f32]) + Send + Sync;

impl fmt::Debug for TargetWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equal(weight) => write!(f, "Equal({weight})"),
            Self::Function(_) => f.write_str("Function"),
        }
    }
}

impl TargetWeights {
    /// The weights of targets with these losses `[n, 1]`: `[n, 1]`, or a scalar.
    pub(super) fn of(&self, losses: &[Array]) -> Result<Array> {
        match self {
            Self::Equal(weight) => Ok(Array::from_f32(*weight)),
            Self::Function(function) => {
                let function = Arc::clone(function);
                let losses = concatenate(losses, 0)?;
                Ok(train_support::host_function(&losses, move |x, y| function(x, y))?)
            }
        }
    }
}

/// The rows of `array` `[n, 1]` in this range; a scalar is the same for all rows.
pub(super) fn rows_of(array: &Array, range: &Range<i32>) -> Result<Array> {
    match array.ndim() {
        0 => Ok(array.clone()),
        _ => Ok(array.try_index((range.clone(), ..))?),
    }
}
