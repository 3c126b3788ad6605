use std::fmt;
use std::sync::Arc;

use mlx_rs::{Array, transforms};

use crate::adapter::LayerAdapter;
use crate::nn::attention::{Attend, Core, scores_at_once, scores_kept};
use crate::checkpoint::{Checkpoint, Tensors};
use crate::arch::config::{Config, Family};
use crate::nn::linear::{LinearSpec, WeightResidency};
use crate::nn::rope::Rotation;
use crate::nn::stream::Stream;
use crate::arch::{gemma4, llama, qwen35};
use crate::{Error, Result, Rows};

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

/// What all layers share for one micro-batch: its layout and tables derived from it, and what a
/// family makes of the tokens beside their embeddings. Constant as far as gradients are concerned.
#[derive(Clone, Debug)]
pub struct Batch {
    pub(crate) rows: Rows,
    /// By kind of layer.
    pub(crate) rotations: Vec<Rotation>,
    pub(crate) core: Core,
    /// What each layer adds of its own for each token, `[1, T, layers, d]`; see [`gemma4`].
    pub(crate) per_layer: Option<Array>,
}

impl Batch {
    /// The layout of the rows.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// What layers get beside the hidden states, made from the tokens and their embeddings, where a
    /// family has that: `[1, T, layers, d]`.
    pub fn inputs(&self) -> Option<&Array> {
        self.per_layer.as_ref()
    }

    /// The same with other such inputs, those that gradients are wanted of for instance.
    pub fn with_inputs(&self, inputs: &Array) -> Self {
        Self { per_layer: Some(inputs.clone()), ..self.clone() }
    }

    /// Rotates queries or keys `[1, T, heads, d]` as layers of this kind do.
    pub(crate) fn rotate(&self, kind: usize, x: &Array) -> Result<Array> {
        match self.rotations.get(kind) {
            Some(rotation) => rotation.apply(x),
            None => Ok(x.clone()),
        }
    }
}

/// One decoder layer: a pure function of its arrays, so `vjp` applies to it.
#[derive(Clone)]
pub struct Layer {
    config: Arc<Config>,
    index: usize,
    weights: Weights,
    /// Bytes of the weights as they are in the checkpoint.
    stored_bytes: u64,
    /// Bytes of them as plain matrices.
    dense_bytes: u64,
}

/// Where a layer's weights are.
#[derive(Clone)]
enum Weights {
    Held(Block, WeightResidency),
    Streamed(Stream),
}

/// The families' layers.
#[derive(Clone)]
enum Block {
    Llama(Box<llama::Block>),
    Gemma4(Box<gemma4::Block>),
    Qwen35(Box<qwen35::Block>),
}

impl Block {
    fn load(config: &Config, index: usize, tensors: &mut Tensors) -> Result<Self> {
        let prefix = config.layer_prefix(index);
        Ok(match &config.family {
            Family::Llama => Self::Llama(Box::new(llama::load(config, &prefix, tensors)?)),
            Family::Gemma4(shape) => {
                let block = gemma4::Block::load(config, shape, index, &prefix, tensors)?;
                Self::Gemma4(Box::new(block))
            }
            Family::Qwen35(shape) => {
                let Some(&kind) = shape.layers.get(index) else {
                    return Err(Error::Argument {
                        name: "layer",
                        expected: format!("below {}", shape.layers.len()),
                        found: index.to_string(),
                    });
                };
                let block = qwen35::load(config, shape, kind, &prefix, tensors)?;
                Self::Qwen35(Box::new(block))
            }
        })
    }

    fn arrays(&self) -> Vec<&Array> {
        match self {
            Self::Llama(block) => block.arrays(),
            Self::Gemma4(block) => block.arrays(),
            Self::Qwen35(block) => block.arrays(),
        }
    }
}

impl Layer {
    /// The layer of this number. Unless it is streamed, its weights are read now.
    pub(crate) fn open(
        config: &Arc<Config>,
        index: usize,
        checkpoint: &Arc<Checkpoint>,
        residency: WeightResidency,
    ) -> Result<Self> {
        let prefix = format!("{}.", config.layer_prefix(index));
        let weights = match residency {
            WeightResidency::Streamed => {
                Weights::Streamed(Stream::new(Arc::clone(checkpoint), &prefix))
            }
            _ => {
                let block = Block::load(config, index, &mut checkpoint.tensors(residency))?;
                // Layer by layer, so that at most one has its weights in memory twice.
                transforms::eval(block.arrays())?;
                Weights::Held(block, residency)
            }
        };
        let stored_bytes = checkpoint.bytes_below(&prefix);
        let config = Arc::clone(config);
        let mut layer = Self { config, index, weights, stored_bytes, dense_bytes: 0 };
        let weights = layer.linears().into_iter().map(|linear| linear.weights()).sum::<usize>();
        layer.dense_bytes = (weights * checkpoint.kernels().bytes_per_value()) as u64;
        Ok(layer)
    }

    /// The linear layers an adapter can attach to, in the order they are applied.
    pub fn linears(&self) -> Vec<LinearSpec> {
        match &self.config.family {
            Family::Llama => llama::linears(&self.config).to_vec(),
            Family::Gemma4(shape) => match shape.layers.get(self.index) {
                Some(layer) => shape.linears(&self.config, *layer),
                None => Vec::new(),
            },
            Family::Qwen35(shape) => match shape.layers.get(self.index) {
                Some(kind) => shape.linears(&self.config, *kind),
                None => Vec::new(),
            },
        }
    }

    /// Which cache it reads: its own, which has its number, or that of the layer whose keys it
    /// shares.
    pub(crate) fn cache(&self) -> usize {
        self.config.cache_of(self.index)
    }

    /// How its weights lie in memory.
    pub fn residency(&self) -> WeightResidency {
        match &self.weights {
            Weights::Held(_, residency) => *residency,
            Weights::Streamed(_) => WeightResidency::Streamed,
        }
    }

    /// Begins to read the weights of a streamed layer, so that they are at hand when it is applied
    /// next. Nothing to do for one that has its weights.
    pub fn read_ahead(&self) {
        if let Weights::Streamed(stream) = &self.weights {
            stream.read_ahead();
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
        let read;
        let block = match &self.weights {
            Weights::Held(block, _) => block,
            Weights::Streamed(stream) => {
                read = Block::load(&self.config, self.index, &mut stream.read()?)?;
                &read
            }
        };
        match block {
            Block::Llama(block) => block.forward(input, batch, adapter, attend),
            Block::Gemma4(block) => block.forward(input, batch, adapter, attend),
            Block::Qwen35(block) => block.forward(input, batch, adapter, attend),
        }
    }

    /// Numbers for each token that its backward pass needs beside the outputs of the linear
    /// layers, in rows of this length: scores of attention, or what the gated delta rule leaves.
    pub fn values_between(&self, length: usize) -> usize {
        self.delta_values().unwrap_or_else(|| {
            scores_kept(self.config.num_heads, length, self.config.window_of(self.index))
        })
    }

    /// Numbers that exist while a row of this length is computed, whatever the number of rows: the
    /// scores of a tile of a long row.
    pub fn values_at_once(&self, length: usize) -> usize {
        match self.delta_values() {
            Some(_) => 0,
            None => {
                scores_at_once(self.config.num_heads, length, self.config.window_of(self.index))
            }
        }
    }

    fn delta_values(&self) -> Option<usize> {
        match &self.config.family {
            Family::Qwen35(shape) => shape.values_between(self.index),
            Family::Llama | Family::Gemma4(_) => None,
        }
    }

    /// Bytes that its weights take in memory, held like this.
    pub fn weight_bytes(&self, residency: WeightResidency) -> u64 {
        match residency {
            WeightResidency::Streamed => 0,
            WeightResidency::Auto | WeightResidency::Packed => self.stored_bytes,
            WeightResidency::Dequantized => self.dense_bytes,
        }
    }
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layer").field("linears", &self.linears()).finish_non_exhaustive()
    }
}
