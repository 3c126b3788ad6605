use std::ops::Range;

use mlx_rs::{Array, Dtype};

use super::adapter::LayerAdapter;
use super::linear::Linear;
use super::lora::Lora;
use super::norm::RmsNorm;
use crate::Result;
use crate::backend::Backend;
use crate::ext::fused::soft_cap;

/// Final norm and output matrix: from the last layer's hidden states to logits.
///
/// A training loss never needs all logits at once, so the parts are public: normalize once, then
/// multiply by the output matrix [chunk by chunk](Self::weight).
#[derive(Clone, Debug)]
pub struct Head {
    pub(crate) norm: RmsNorm,
    pub(crate) output: Linear,
    /// The name of the output matrix: the embedding's if they are tied.
    pub(crate) path: &'static str,
    pub(crate) tied: bool,
    pub(crate) vocab_size: usize,
    pub(crate) soft_cap: Option<f32>,
    pub(crate) backend: Backend,
}

impl Head {
    /// Number of tokens in the vocabulary.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The final norm of hidden states `[.., H]`, in f32. Differentiable.
    pub fn normalize(&self, hidden: &Array) -> Result<Array> {
        Ok(self.norm.apply(hidden)?.as_dtype(Dtype::Float32)?)
    }

    /// The rows of the output matrix for a range of the vocabulary: `[range, H]`, in f32, without
    /// an adapter.
    pub fn weight(&self, vocabulary: Range<usize>) -> Result<Array> {
        self.output.rows(vocabulary)
    }

    /// If set, logits are `cap * tanh(z / cap)` of the products `z`.
    pub fn soft_cap(&self) -> Option<f32> {
        self.soft_cap
    }

    /// The update of the output matrix among an adapter's
    /// [`embeddings`](crate::Adapter::embeddings), as that of a linear layer: `A` is `[H, rank]`,
    /// `B` `[rank, vocabulary]`. A tied matrix has the embedding's, and is differentiable in its
    /// factors.
    ///
    /// # Errors
    /// [`Error::Adapter`](crate::Error::Adapter) if it is DoRA.
    pub fn update(&self, embeddings: &LayerAdapter) -> Result<Option<Lora>> {
        let Some(lora) = embeddings.get(self.path) else { return Ok(None) };
        let lora = lora.without_magnitude(self.path)?;
        Ok(Some(if self.tied { lora.transposed()? } else { lora.clone() }))
    }

    /// All logits of hidden states `[.., H]`: `[.., vocabulary]`, in f32; with the update of the
    /// output matrix, if it is among `embeddings`.
    pub fn logits(&self, hidden: &Array, embeddings: &LayerAdapter) -> Result<Array> {
        let hidden = self.norm.apply(hidden)?;
        let update = self.update(embeddings)?;
        let logits = self.output.apply(&hidden, update.as_ref())?.as_dtype(Dtype::Float32)?;
        match self.soft_cap {
            Some(cap) => soft_cap(self.backend, &logits, cap),
            None => Ok(logits),
        }
    }
}
