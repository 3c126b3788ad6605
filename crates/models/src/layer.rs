use std::fmt;

use mlx_rs::Array;

use crate::adapter::LayerAdapter;
use crate::attention::{Attend, Core};
use crate::linear::LinearSpec;
use crate::llama;
use crate::rope::Rotation;
use crate::{Result, Rows};

/// What flows from layer to layer, and gradients back: the hidden states `[1, T, H]`, and what a
/// family hands from one layer to later ones beside them (keys and values that several layers
/// share, for instance).
///
/// A layer passes on what it does not use. So differentiating layer by layer with respect to *all*
/// arrays of the flow is all that an engine needs to know: the gradients of shared arrays
/// accumulate by themselves.
#[derive(Clone, Debug)]
pub struct Flow {
    /// The hidden states, `[1, T, H]`.
    pub hidden: Array,
    /// Whatever else the family's layers hand on; empty for Llama.
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

/// What all layers share for one micro-batch: its layout and tables derived from it. Constant as
/// far as gradients are concerned.
#[derive(Clone, Debug)]
pub struct Batch {
    pub(crate) rows: Rows,
    pub(crate) rotation: Rotation,
    pub(crate) core: Core,
}

impl Batch {
    /// The layout of the rows.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }
}

/// One decoder layer: a pure function of its arrays, so `vjp` applies to it.
#[derive(Clone)]
pub struct Layer {
    pub(crate) block: Block,
}

/// The families' layers.
#[derive(Clone)]
pub(crate) enum Block {
    Llama(llama::Block),
}

impl Layer {
    /// The linear layers an adapter can attach to, in the order they are applied.
    pub fn linears(&self) -> Vec<LinearSpec> {
        match &self.block {
            Block::Llama(block) => block.linears(),
        }
    }

    /// The layer applied to whole rows, each token seeing its own row up to itself.
    ///
    /// Nothing is evaluated. The result depends on the arrays of `input` and `adapter`, and both
    /// can be differentiated; the model's own weights are constants.
    pub fn forward(&self, input: &Flow, batch: &Batch, adapter: &LayerAdapter) -> Result<Flow> {
        self.forward_with(input, batch, adapter, Attend::Rows)
    }

    pub(crate) fn forward_with(
        &self,
        input: &Flow,
        batch: &Batch,
        adapter: &LayerAdapter,
        attend: Attend<'_>,
    ) -> Result<Flow> {
        match &self.block {
            Block::Llama(block) => block.forward(input, batch, adapter, attend),
        }
    }

    /// Bytes of the layer's weights as they lie in memory.
    pub fn weight_bytes(&self) -> usize {
        self.arrays().iter().map(|array| array.nbytes()).sum()
    }

    pub(crate) fn arrays(&self) -> Vec<&Array> {
        match &self.block {
            Block::Llama(block) => block.arrays(),
        }
    }
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layer").field("linears", &self.linears()).finish_non_exhaustive()
    }
}
