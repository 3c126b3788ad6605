use std::fmt;

use mlx_rs::Array;

use super::adapter::LayerAdapter;
use super::attention::AttentionMode;
use super::batch::{Batch, Flow};
use crate::Result;

/// The weights of one decoder layer and what it computes.
///
/// Pure: the output depends on the arrays of `input`, `adapter` and, in generation, the cache.
pub(crate) trait Block: Send {
    /// The layer's output.
    fn forward(
        &self,
        input: &Flow,
        batch: &Batch,
        adapter: &LayerAdapter,
        mode: AttentionMode<'_>,
    ) -> Result<Flow>;

    /// The arrays that are in memory.
    fn arrays(&self) -> Vec<&Array>;

    /// A clone that shares the arrays.
    fn boxed(&self) -> Box<dyn Block>;
}

impl Clone for Box<dyn Block> {
    fn clone(&self) -> Self {
        self.boxed()
    }
}

/// Computes inputs of the layers from the tokens, beside their embeddings.
pub(crate) trait TokenInputs: fmt::Debug + Send {
    /// `[1, T, layers, d]` from the tokens and their embeddings `[1, T, H]`.
    fn inputs(&self, tokens: &[u32], embeddings: &Array) -> Result<Array>;

    /// The arrays that are in memory.
    fn arrays(&self) -> Vec<&Array>;

    /// A clone that shares the arrays.
    fn boxed(&self) -> Box<dyn TokenInputs>;
}

impl Clone for Box<dyn TokenInputs> {
    fn clone(&self) -> Self {
        self.boxed()
    }
}
