use mlx_rs::Array;

use super::attention::AttentionKernel;
use super::rope::Rotation;
use super::rows::Rows;
use crate::Result;

/// The activations that flow from layer to layer: the hidden states `[1, T, H]`, and arrays that one
/// layer hands to later ones (keys and values that several layers share, for instance).
///
/// A layer passes on what it does not use. So an engine that differentiates layer by layer with
/// respect to *all* arrays of the flow needs no special case: the gradients of shared arrays
/// accumulate.
#[derive(Clone, Debug)]
pub struct Flow {
    /// The hidden states, `[1, T, H]`.
    pub hidden: Array,
    /// Arrays that the family's layers hand on; empty for Llama.
    #[doc(hidden)]
    pub carried: Vec<Array>,
}

impl Flow {
    /// A flow of hidden states alone.
    pub fn new(hidden: Array) -> Self {
        Self { hidden, carried: Vec::new() }
    }

    /// All arrays, the hidden states first: the order in which to differentiate.
    pub fn into_arrays(self) -> Vec<Array> {
        std::iter::once(self.hidden).chain(self.carried).collect()
    }

    /// The reverse of [`into_arrays`](Self::into_arrays); `None` without any array.
    pub fn from_arrays(arrays: impl IntoIterator<Item = Array>) -> Option<Self> {
        let mut arrays = arrays.into_iter();
        Some(Self { hidden: arrays.next()?, carried: arrays.collect() })
    }
}

/// What all layers share for one micro-batch: the layout of its rows, attention masks, rotary tables
/// and the family's inputs of each token. Constant in the backward pass.
#[derive(Clone, Debug)]
pub struct Batch {
    pub(crate) attention: AttentionKernel,
    /// By kind of layer.
    pub(crate) rotations: Vec<Rotation>,
    /// Inputs of each layer for each token, `[1, T, layers, d]`.
    pub(crate) token_inputs: Option<Array>,
}

impl Batch {
    /// The layout of the rows.
    pub fn rows(&self) -> &Rows {
        self.attention.rows()
    }

    /// The inputs that layers get beside the hidden states, computed from the tokens and their
    /// embeddings, if the family has any: `[1, T, layers, d]`.
    #[doc(hidden)]
    pub fn inputs(&self) -> Option<&Array> {
        self.token_inputs.as_ref()
    }

    /// The same batch with other such inputs, for instance some to differentiate with respect to.
    #[doc(hidden)]
    pub fn with_inputs(&self, inputs: &Array) -> Self {
        Self { token_inputs: Some(inputs.clone()), ..self.clone() }
    }

    /// Applies the rotary embedding of this kind of layer to queries or keys `[1, T, heads, d]`.
    pub(crate) fn rotate(&self, kind: usize, x: &Array) -> Result<Array> {
        match self.rotations.get(kind) {
            Some(rotation) => rotation.apply(x),
            None => Ok(x.clone()),
        }
    }
}
