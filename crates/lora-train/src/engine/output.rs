//! What turns hidden states into logits, and what of it is trained.

use std::ops::Range;

use mlx_rs::Array;
use mlx_rs::ops::concatenate;
use mlx_rs::ops::indexing::TryIndexOp;
use models::layers::Head;
use models::{LayerAdapter, Lora};

use crate::Result;

/// Logits are products of features of the hidden states and the rows of a matrix. A trait so that
/// tests can bring an output of their own.
///
/// A low-rank update of the matrix is columns beside it, and features beside the others: as
/// `W x + scale * B^T (A^T x)` is `[W, B^T] [x, scale * A^T x]`, nothing else has to know of it.
pub(crate) trait Output {
    /// Tokens in the vocabulary.
    fn vocab_size(&self) -> usize;
    /// `A` of the update, if there is one.
    fn inner(&self) -> Option<&Array>;
    /// The features `[n, H + rank]` of hidden states `[n, H]`, in f32: the states after the final
    /// norm, beside them what the update makes of those with this `A`.
    fn features(&self, hidden: &Array, inner: Option<&Array>) -> Result<Array>;
    /// Rows of the matrix, `[range, H + rank]` in f32.
    fn weight(&self, range: Range<usize>) -> Result<Array>;
    /// How many columns of the matrix, its last, are trained.
    fn rank(&self) -> i32 {
        self.inner().map_or(0, |inner| inner.dim(-1))
    }
    /// Logits are `cap * tanh(z / cap)` of the products where this is set.
    fn soft_cap(&self) -> Option<f32>;
}

/// A model's head with the update of its matrix, if it has one.
pub(crate) struct AdaptedHead<'a> {
    head: &'a Head,
    update: Option<Lora>,
}

impl<'a> AdaptedHead<'a> {
    pub(crate) fn new(head: &'a Head, ends: &LayerAdapter) -> Result<Self> {
        Ok(Self { head, update: head.update(ends)? })
    }
}

impl Output for AdaptedHead<'_> {
    fn vocab_size(&self) -> usize {
        self.head.vocab_size()
    }

    fn inner(&self) -> Option<&Array> {
        self.update.as_ref().map(|update| &update.a)
    }

    fn features(&self, hidden: &Array, inner: Option<&Array>) -> Result<Array> {
        let normed = self.head.normalize(hidden)?;
        let (Some(update), Some(inner)) = (&self.update, inner) else { return Ok(normed) };
        let low = update.dropped(&normed)?.matmul(inner)?;
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
