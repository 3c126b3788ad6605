use mlx_rs::Array;

use super::attention::Attention;
use super::delta_net::DeltaNet;
use super::shape::{DeltaShape, Kind};
use crate::Result;
use crate::arch::config::Config;
use crate::nn::adapter::LayerAdapter;
use crate::nn::attention::AttentionMode;
use crate::nn::batch::Batch;
use crate::nn::loader::Loader;
use crate::nn::pre_norm::{Mixer, PreNorm};
use crate::nn::recompute::Recomputed;

/// Full attention or gated-delta linear attention.
#[derive(Clone)]
pub(super) enum AnyAttention {
    Full(Attention),
    Delta(DeltaNet),
}

/// Takes the tensors of a layer of this kind, all below `prefix`.
pub(super) fn load(
    config: &Config,
    delta: DeltaShape,
    kind: Kind,
    prefix: &str,
    loader: &mut Loader,
) -> Result<PreNorm<AnyAttention>> {
    let mixer = match kind {
        Kind::Attention => AnyAttention::Full(Attention::load(config, prefix, loader)?),
        Kind::Delta => AnyAttention::Delta(DeltaNet::load(config, delta, prefix, loader)?),
    };
    PreNorm::load(mixer, config.norm_eps, prefix, loader)
}

impl Mixer for AnyAttention {
    fn forward(
        &self,
        x: &Recomputed,
        batch: &Batch,
        adapter: &LayerAdapter,
        mode: AttentionMode<'_>,
    ) -> Result<Array> {
        match self {
            Self::Full(attention) => attention.forward(x, batch, adapter, mode),
            Self::Delta(delta) => delta.forward(x, batch, adapter, mode),
        }
    }

    fn arrays(&self) -> Vec<&Array> {
        match self {
            Self::Full(attention) => attention.arrays(),
            Self::Delta(delta) => delta.arrays(),
        }
    }
}
