//! The output projection: hidden states to logits, with the LoRA update of its matrix.

use std::ops::Range;

use mlx_rs::Array;
use mlx_rs::ops::concatenate;
use mlx_rs::ops::indexing::TryIndexOp;
use models::layers::{Head, LayerAdapter, Lora};

use crate::Result;

/// Logits as products of features `[n, H + rank]` and the rows of a matrix `[vocabulary, H + rank]`.
/// A trait so that tests can provide a small projection.
///
/// A LoRA update is `rank` more columns of the matrix and `rank` more features: `W x + scale *
/// B^T (A^T x)` equals `[W, B^T] [x, scale * A^T x]`, so the loss does not have to know about it.
pub(crate) trait OutputProjection {
    /// Tokens in the vocabulary.
    fn vocab_size(&self) -> usize;
    /// `A` of the update, `[H, rank]`, if there is an update.
    fn lora_a(&self) -> Option<&Array>;
    /// The features `[n, H + rank]` in f32 of hidden states `[n, H]`: the normalized hidden states,
    /// then the update's `scale * A^T x` with this `A`.
    fn features(&self, hidden: &Array, lora_a: Option<&Array>) -> Result<Array>;
    /// Rows of the matrix, `[range, H + rank]` in f32.
    fn weight(&self, range: Range<usize>) -> Result<Array>;
    /// The number of trained columns, which are the last ones of the matrix.
    fn rank(&self) -> i32 {
        self.lora_a().map_or(0, |a| a.dim(-1))
    }
    /// If set, the logits are `cap * tanh(z / cap)` of the products `z`.
    fn soft_cap(&self) -> Option<f32>;
}

/// A model's head with the LoRA update of its matrix, if it has one.
pub(crate) struct AdaptedHead<'a> {
    head: &'a Head,
    update: Option<Lora>,
}

impl<'a> AdaptedHead<'a> {
    pub(crate) fn new(head: &'a Head, embeddings: &LayerAdapter) -> Result<Self> {
        Ok(Self { head, update: head.update(embeddings)? })
    }
}

impl OutputProjection for AdaptedHead<'_> {
    fn vocab_size(&self) -> usize {
        self.head.vocab_size()
    }

    fn lora_a(&self) -> Option<&Array> {
        self.update.as_ref().map(|update| &update.a)
    }

    fn features(&self, hidden: &Array, lora_a: Option<&Array>) -> Result<Array> {
        let normed = self.head.normalize(hidden)?;
        let (Some(update), Some(a)) = (&self.update, lora_a) else { return Ok(normed) };
        let low = update.dropped(&normed)?.matmul(a)?;
        let low = low.multiply(Array::from_f32(update.scale))?;
        Ok(concatenate(&[normed, low], -1)?)
    }

    fn weight(&self, range: Range<usize>) -> Result<Array> {
        let weight = self.head.weight(range.clone())?;
        let Some(update) = &self.update else { return Ok(weight) };
        let columns = update.b.try_index((.., range.start as i32..range.end as i32))?;
        Ok(concatenate(&[weight, columns.transpose()?], -1)?)
    }

    fn soft_cap(&self) -> Option<f32> {
        self.head.soft_cap()
    }
}

/// A small projection for tests.
#[cfg(test)]
pub(super) mod tiny {
    use super::*;

    pub(crate) const WIDTH: usize = 6;
    pub(crate) const VOCABULARY: usize = 37;
    pub(crate) const RANK: usize = 2;

    /// A projection whose norm multiplies by two.
    pub(crate) struct Tiny {
        /// `[vocabulary, H]`.
        pub(crate) weight: Vec<f32>,
        pub(crate) cap: Option<f32>,
        /// `A` `[H, rank]` and `B` `[rank, vocabulary]`.
        pub(crate) update: Option<(Array, Array)>,
    }

    impl OutputProjection for Tiny {
        fn vocab_size(&self) -> usize {
            VOCABULARY
        }

        fn lora_a(&self) -> Option<&Array> {
            self.update.as_ref().map(|(a, _)| a)
        }

        fn features(&self, hidden: &Array, lora_a: Option<&Array>) -> Result<Array> {
            let normed = hidden.multiply(Array::from_f32(2.0))?;
            let Some(a) = lora_a else { return Ok(normed) };
            Ok(concatenate(&[&normed, &normed.matmul(a)?], -1)?)
        }

        fn weight(&self, range: Range<usize>) -> Result<Array> {
            let values = &self.weight[range.start * WIDTH..range.end * WIDTH];
            let weight = Array::from_slice(values, &[range.len() as i32, WIDTH as i32]);
            let Some((_, b)) = &self.update else { return Ok(weight) };
            let columns = b.try_index((.., range.start as i32..range.end as i32))?;
            Ok(concatenate(&[weight, columns.transpose()?], -1)?)
        }

        fn soft_cap(&self) -> Option<f32> {
            self.cap
        }
    }
}
