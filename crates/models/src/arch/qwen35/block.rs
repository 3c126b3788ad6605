//! One decoder layer of a Qwen3.5.

use mlx_rs::Array;

use super::attention::Attention;
use super::delta_net::DeltaNet;
use super::shape::{Kind, Shape};
use crate::Result;
use crate::adapter::LayerAdapter;
use crate::nn::attention::Attend;
use crate::checkpoint::Tensors;
use crate::arch::config::Config;
use crate::model::layer::Batch;
use crate::nn::recompute::Made;
use crate::nn::pre_norm::{Mixer, PreNorm};

/// One decoder layer.
pub(crate) type Block = PreNorm<Either>;

/// Every fourth layer attends; the others remember by the gated delta rule.
#[derive(Clone)]
pub(crate) enum Either {
    Attention(Attention),
    Delta(DeltaNet),
}

/// Takes the tensors of a layer of this kind, all below `prefix`.
pub(crate) fn load(
    config: &Config,
    shape: &Shape,
    kind: Kind,
    prefix: &str,
    tensors: &mut Tensors,
) -> Result<Block> {
    let mixer = match kind {
        Kind::Attention => Either::Attention(Attention::load(config, prefix, tensors)?),
        Kind::Delta => Either::Delta(DeltaNet::load(config, shape.delta, prefix, tensors)?),
    };
    PreNorm::load(mixer, config, prefix, tensors)
}

impl Mixer for Either {
    fn forward(
        &self,
        x: &Made,
        batch: &Batch,
        adapter: &LayerAdapter,
        mode: Attend<'_>,
    ) -> Result<Array> {
        match self {
            Self::Attention(attention) => attention.forward(x, batch, adapter, mode),
            Self::Delta(delta) => delta.forward(x, batch, adapter, mode),
        }
    }

    fn arrays(&self) -> Vec<&Array> {
        match self {
            Self::Attention(attention) => attention.arrays(),
            Self::Delta(delta) => delta.arrays(),
        }
    }
}
