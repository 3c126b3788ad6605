use mlx_rs::ops::addmm;
use mlx_rs::{Array, random, stop_gradient};

use crate::Result;

/// A low-rank update of one linear layer: `y = W x + scale * ((x A) B)`, LoRA (arXiv:2106.09685).
///
/// With a magnitude it is DoRA (arXiv:2402.09353): each output is `m / |W + scale (A B)^T|` times
/// that, the norm taken by row and held constant when gradients are.
#[derive(Clone, Debug)]
pub struct Lora {
    /// `A`: `[in, rank]`, f32; of stacked experts `[experts, rank, in]`.
    pub a: Array,
    /// `B`: `[rank, out]`, f32; of stacked experts `[experts, out, rank]`.
    pub b: Array,
    /// The strength, used as it is (not divided by the rank).
    pub scale: f32,
    /// DoRA's `m`: `[out]`, f32, the length of each row of the adapted matrix.
    pub magnitude: Option<Array>,
    /// What is left out of `x` before `A` in training; absent otherwise.
    pub dropout: Option<Dropout>,
}

/// Inverted dropout: each value is zero with probability `rate`, else divided by `1 - rate`.
#[derive(Clone, Debug)]
pub struct Dropout {
    /// The probability, below 1.
    pub rate: f32,
    /// MLX's random key. The same key leaves out the same values: a layer can be computed again.
    pub key: Array,
}

impl Dropout {
    fn apply(&self, x: &Array) -> Result<Array> {
        let keep = 1.0 - self.rate;
        let kept = random::bernoulli(&Array::from_f32(keep), x.shape(), &self.key)?;
        let factors = kept.as_dtype(x.dtype())?.multiply(Array::from_f32(keep.recip()))?;
        Ok(x.multiply(factors.as_dtype(x.dtype())?)?)
    }
}

impl Lora {
    /// `y + scale * ((x A) B)`.
    pub(crate) fn add_to(&self, y: &Array, x: &Array) -> Result<Array> {
        // The scale is applied where the array is smallest, in the backward pass too.
        let low = self.dropped(x)?.matmul(&self.a)?.multiply(Array::from_f32(self.scale))?;
        if y.dtype() == low.dtype() {
            return Ok(addmm(y, &low, &self.b, 1.0, 1.0)?);
        }
        Ok(y.add(low.matmul(&self.b)?.as_dtype(y.dtype())?)?)
    }

    /// The matrix `weight`, `[out, in]` in f32, with the update in it.
    pub(crate) fn merged(&self, weight: &Array) -> Result<Array> {
        let direction = self.direction(weight)?;
        match &self.magnitude {
            Some(magnitude) => {
                let factors = row_factors(magnitude, &direction)?;
                Ok(direction.multiply(factors.expand_dims(-1)?)?)
            }
            None => Ok(direction),
        }
    }

    /// What DoRA multiplies each output by, where the plain weight is `weight`.
    pub(crate) fn row_factors(
        &self,
        weight: impl FnOnce() -> Result<Array>,
    ) -> Result<Option<Array>> {
        let Some(magnitude) = &self.magnitude else { return Ok(None) };
        row_factors(magnitude, &self.direction(&weight()?)?).map(Some)
    }

    /// `W + scale (A B)^T`: the adapted matrix, but for the lengths of its rows.
    fn direction(&self, weight: &Array) -> Result<Array> {
        let update = match self.a.ndim() {
            // Of experts, whose matrices lie one below the other in `weight`.
            3 => self.b.matmul(&self.a)?.reshape(weight.shape())?,
            _ => self.a.matmul(&self.b)?.transpose()?,
        };
        Ok(weight.add(update.multiply(Array::from_f32(self.scale))?)?)
    }

    pub(crate) fn rank(&self) -> usize {
        // The stacked factors of experts are the transposes of the others.
        let rank = if self.a.ndim() == 3 { self.a.dim(1) } else { self.a.dim(-1) };
        rank as usize
    }

    /// What is left of `x` after dropout, if there is any.
    pub fn dropped(&self, x: &Array) -> Result<Array> {
        self.dropout.as_ref().map_or_else(|| Ok(x.clone()), |dropout| dropout.apply(x))
    }
}

/// What brings the rows of `direction` to these lengths; their own are constants to gradients.
fn row_factors(magnitude: &Array, direction: &Array) -> Result<Array> {
    Ok(magnitude.divide(stop_gradient(row_norms(direction)?)?)?)
}

/// The length of each row of `[out, in]`.
pub(crate) fn row_norms(matrix: &Array) -> Result<Array> {
    Ok(matrix.square()?.sum_axis(-1, None)?.sqrt()?)
}
