use mlx_rs::ops::addmm;
use mlx_rs::{Array, random, stop_gradient};
use serde::{Deserialize, Serialize};

use super::LinearSpec;
use crate::{Error, Result};

/// Tensor names below the linear layer's, as in mlx-lm's adapter files.
pub(crate) const A: &str = "lora_a";
pub(crate) const B: &str = "lora_b";
pub(crate) const MAGNITUDE: &str = "m";

/// A low-rank update of one linear layer: `y = W x + scale * ((x A) B)`, LoRA (arXiv:2106.09685).
///
/// With a magnitude it is DoRA (arXiv:2402.09353): each output is multiplied by `m / |W + scale (A
/// B)^T|`, the norm taken by row and held constant in the backward pass.
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
    /// Dropout of the input of `A`, in training only.
    pub dropout: Option<Dropout>,
}

/// Inverted dropout: each value is zero with probability `rate`, else divided by `1 - rate`.
#[derive(Clone, Debug)]
pub struct Dropout {
    /// The probability, below 1.
    pub rate: f32,
    /// MLX's random key. The same key drops the same values, so a layer can be recomputed.
    pub key: Array,
}

/// The kind of an adapter's updates: `fine_tune_type` in its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", try_from = "String")]
#[non_exhaustive]
pub enum AdapterKind {
    /// The two low-rank factors.
    Lora,
    /// The factors and the length of each row.
    Dora,
}

impl TryFrom<String> for AdapterKind {
    type Error = String;

    /// Unlike serde's own, the error names the key.
    fn try_from(name: String) -> std::result::Result<Self, String> {
        match name.as_str() {
            "lora" => Ok(Self::Lora),
            "dora" => Ok(Self::Dora),
            found => Err(format!("fine_tune_type: expected lora or dora, found {found}")),
        }
    }
}

impl LinearSpec {
    /// Names, below the linear layer's, and shapes of the tensors of an update, in the order `A`,
    /// `B`, magnitude (see [`Lora`]).
    #[doc(hidden)]
    pub fn parts(&self, kind: AdapterKind, rank: usize) -> Vec<(&'static str, Vec<i32>)> {
        let [a, b] = self.factor_shapes(rank);
        let mut parts = vec![(A, a), (B, b)];
        if kind == AdapterKind::Dora {
            parts.push((MAGNITUDE, vec![self.out_features as i32]));
        }
        parts
    }
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

    /// The update of an embedding, added to `y`, the table's rows of `tokens`: `y + scale *
    /// A[tokens] B`. Dropout applies to the update.
    pub(crate) fn add_rows(&self, y: &Array, tokens: &[u32]) -> Result<Array> {
        let tokens = Array::from_slice(tokens, &[tokens.len() as i32]);
        let update = self.dropped(&self.a.take_axis(tokens, 0)?.matmul(&self.b)?)?;
        let update = update.multiply(Array::from_f32(self.scale))?;
        Ok(y.add(update.as_dtype(y.dtype())?)?)
    }

    /// The update of the transposed matrix: of an embedding's update, that of the output matrix tied
    /// to it. It has a dropout key of its own.
    pub(crate) fn transposed(&self) -> Result<Self> {
        let dropout = match &self.dropout {
            Some(Dropout { rate, key }) => {
                Some(Dropout { rate: *rate, key: random::split(key, 2)?.1 })
            }
            None => None,
        };
        Ok(Self { a: self.b.transpose()?, b: self.a.transpose()?, dropout, ..self.clone() })
    }

    /// The matrix `weight`, `[out, in]` in f32, with the update merged.
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

    /// DoRA's factor of each output `[out]`, if it is DoRA, for the plain matrix `weight`.
    pub(crate) fn row_factors(
        &self,
        weight: impl FnOnce() -> Result<Array>,
    ) -> Result<Option<Array>> {
        let Some(magnitude) = &self.magnitude else { return Ok(None) };
        row_factors(magnitude, &self.direction(&weight()?)?).map(Some)
    }

    /// `W + scale (A B)^T`: the adapted matrix before its rows are scaled.
    fn direction(&self, weight: &Array) -> Result<Array> {
        let update = match self.a.ndim() {
            // Of experts, whose matrices are stacked in the rows of `weight`.
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

    /// `x` after dropout, if there is any.
    #[doc(hidden)]
    pub fn dropped(&self, x: &Array) -> Result<Array> {
        self.dropout.as_ref().map_or_else(|| Ok(x.clone()), |dropout| dropout.apply(x))
    }

    /// The arrays, named as in [`LinearSpec::parts`].
    pub(crate) fn parts(&self) -> impl Iterator<Item = (&'static str, &Array)> {
        let magnitude = self.magnitude.iter().map(|magnitude| (MAGNITUDE, magnitude));
        [(A, &self.a), (B, &self.b)].into_iter().chain(magnitude)
    }

    pub(crate) fn kind(&self) -> AdapterKind {
        if self.magnitude.is_some() { AdapterKind::Dora } else { AdapterKind::Lora }
    }

    /// Refuses DoRA for the embedding and the output matrix, whose rows are read in parts.
    pub(crate) fn without_magnitude(&self, path: &str) -> Result<&Self> {
        match self.kind() {
            AdapterKind::Lora => Ok(self),
            AdapterKind::Dora => Err(dora_unsupported(path)),
        }
    }
}

/// The error for DoRA where only LoRA is supported.
pub(crate) fn dora_unsupported(path: &str) -> Error {
    Error::Adapter { reason: format!("{path}: expected lora, found dora, which it cannot have") }
}

/// `magnitude` divided by the lengths of the rows of `direction`, which get no gradient.
fn row_factors(magnitude: &Array, direction: &Array) -> Result<Array> {
    Ok(magnitude.divide(stop_gradient(row_norms(direction)?)?)?)
}

/// The length of each row of `[out, in]`.
pub(crate) fn row_norms(matrix: &Array) -> Result<Array> {
    Ok(matrix.square()?.sum_axis(-1, None)?.sqrt()?)
}
