use std::ops::Range;

use mlx_rs::{Array, Dtype};

use crate::Result;
use crate::adapter::LayerAdapter;
use crate::ext::fused::{rms_norm, soft_cap};
use crate::nn::linear::Linear;
use crate::nn::lora::Lora;

/// From the last layer's hidden states to logits: final norm and output matrix.
///
/// A training loss never needs all logits at once, so the parts are public: normalize once, then
/// multiply by the output matrix [chunk by chunk](Self::weight).
#[derive(Clone, Debug)]
pub struct Head {
    pub(crate) norm: Array,
    pub(crate) norm_eps: f32,
    pub(crate) output: Linear,
    /// The name of the matrix: the embedding's if it is tied to it.
    pub(crate) path: &'static str,
    pub(crate) tied: bool,
    pub(crate) vocab_size: usize,
    pub(crate) soft_cap: Option<f32>,
}

impl Head {
    /// Tokens in the vocabulary.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The final norm of hidden states `[.., H]`, in f32. Differentiable.
    pub fn normalize(&self, hidden: &Array) -> Result<Array> {
        Ok(rms_norm(hidden, Some(&self.norm), self.norm_eps)?.as_dtype(Dtype::Float32)?)
    }

    /// The rows of the output matrix for a range of the vocabulary: `[range, H]`, in f32, without
    /// an update.
    pub fn weight(&self, vocabulary: Range<usize>) -> Result<Array> {
        self.output.rows(vocabulary)
    }

    /// Logits are `cap * tanh(z / cap)` of the products where this is set.
    pub fn soft_cap(&self) -> Option<f32> {
        self.soft_cap
    }

    /// The update of the output matrix among those of [both ends](crate::Adapter::ends), as that of a
    /// linear layer: `A` is `[H, rank]`, `B` `[rank, vocabulary]`. A tied matrix has the embedding's,
    /// in whose factors these are differentiable.
    ///
    /// # Errors
    /// [`Error::Adapter`](crate::Error::Adapter) if it is DoRA.
    pub fn update(&self, ends: &LayerAdapter) -> Result<Option<Lora>> {
        let Some(lora) = ends.get(self.path) else { return Ok(None) };
        let lora = lora.without_magnitude(self.path)?;
        Ok(Some(if self.tied { lora.transposed()? } else { lora.clone() }))
    }

    /// All logits of hidden states `[.., H]`: `[.., vocabulary]`, in f32; with the update of the
    /// output matrix, if it is among `ends`.
    pub fn logits(&self, hidden: &Array, ends: &LayerAdapter) -> Result<Array> {
        let hidden = rms_norm(hidden, Some(&self.norm), self.norm_eps)?;
        let update = self.update(ends)?;
        let logits = self.output.apply(&hidden, update.as_ref())?.as_dtype(Dtype::Float32)?;
        match self.soft_cap {
            Some(cap) => soft_cap(&logits, cap),
            None => Ok(logits),
        }
    }
}
