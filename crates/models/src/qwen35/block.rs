//! One decoder layer of a Qwen3.5.

use mlx_rs::Array;

use super::attention::Attention;
use super::delta_net::DeltaNet;
use super::shape::{INPUT_NORM, Kind, POST_ATTENTION_NORM, Shape};
use crate::Result;
use crate::adapter::LayerAdapter;
use crate::attention::Attend;
use crate::checkpoint::Tensors;
use crate::config::Config;
use crate::fused::Activation;
use crate::layer::{Batch, Flow};
use crate::made::Made;
use crate::mlp::Mlp;

#[derive(Clone)]
pub(crate) struct Block {
    mixer: Mixer,
    mlp: Mlp,
    input_norm: Array,
    post_attention_norm: Array,
    norm_eps: f32,
}

/// What a token learns from those before it.
#[derive(Clone)]
enum Mixer {
    Attention(Attention),
    Delta(DeltaNet),
}

impl Block {
    /// Takes the tensors of a layer of this kind, all below `prefix`.
    pub fn load(
        config: &Config,
        shape: &Shape,
        kind: Kind,
        prefix: &str,
        tensors: &mut Tensors,
    ) -> Result<Self> {
        let mixer = match kind {
            Kind::Attention => Mixer::Attention(Attention::load(config, prefix, tensors)?),
            Kind::Delta => Mixer::Delta(DeltaNet::load(config, shape.delta, prefix, tensors)?),
        };
        Ok(Self {
            mixer,
            mlp: Mlp::load(prefix, Activation::Silu, tensors)?,
            input_norm: tensors.vector(&format!("{prefix}.{INPUT_NORM}"))?,
            post_attention_norm: tensors.vector(&format!("{prefix}.{POST_ATTENTION_NORM}"))?,
            norm_eps: config.norm_eps,
        })
    }

    pub fn forward(
        &self,
        input: &Flow,
        batch: &Batch,
        adapter: &LayerAdapter,
        mode: Attend<'_>,
    ) -> Result<Flow> {
        let x = &input.hidden;
        let normed = Made::norm(x, &self.input_norm, self.norm_eps);
        let mixed = match &self.mixer {
            Mixer::Attention(attention) => attention.forward(&normed, batch, adapter, mode)?,
            Mixer::Delta(delta) => delta.forward(&normed, batch, adapter, mode)?,
        };
        let x = x.add(mixed)?;
        let normed = Made::norm(&x, &self.post_attention_norm, self.norm_eps);
        let hidden = x.add(self.mlp.forward(&normed, adapter)?)?;
        Ok(Flow { hidden, carried: input.carried.clone() })
    }

    pub fn arrays(&self) -> Vec<&Array> {
        let mut arrays = match &self.mixer {
            Mixer::Attention(attention) => attention.arrays(),
            Mixer::Delta(delta) => delta.arrays(),
        };
        arrays.extend([&self.input_norm, &self.post_attention_norm]);
        arrays.extend(self.mlp.arrays());
        arrays
    }
}
