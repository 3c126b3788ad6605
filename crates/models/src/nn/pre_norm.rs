//! The decoder layer of most families: a mixer of tokens and a gated MLP, each behind an RMS norm and a
//! residual sum.

use mlx_rs::Array;

use crate::Result;
use crate::adapter::LayerAdapter;
use crate::nn::attention::Attend;
use crate::checkpoint::Tensors;
use crate::arch::config::Config;
use crate::ext::fused::Activation;
use crate::model::layer::{Batch, Flow};
use crate::nn::recompute::Made;
use crate::nn::mlp::Mlp;
use crate::arch::names::{INPUT_NORM, POST_ATTENTION_NORM};

/// What a token learns from those before it.
pub(crate) trait Mixer {
    /// Applied to what the norm makes of the hidden states.
    fn forward(
        &self,
        x: &Made,
        batch: &Batch,
        adapter: &LayerAdapter,
        mode: Attend<'_>,
    ) -> Result<Array>;

    /// The arrays that are in memory.
    fn arrays(&self) -> Vec<&Array>;
}

/// One decoder layer.
#[derive(Clone)]
pub(crate) struct PreNorm<M> {
    mixer: M,
    mlp: Mlp,
    input_norm: Array,
    post_attention_norm: Array,
    norm_eps: f32,
}

impl<M: Mixer> PreNorm<M> {
    /// Takes norms and MLP, all below `prefix`.
    pub fn load(mixer: M, config: &Config, prefix: &str, tensors: &mut Tensors) -> Result<Self> {
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
        let x = x.add(self.mixer.forward(&normed, batch, adapter, mode)?)?;
        let normed = Made::norm(&x, &self.post_attention_norm, self.norm_eps);
        let hidden = x.add(self.mlp.forward(&normed, adapter)?)?;
        Ok(Flow { hidden, carried: input.carried.clone() })
    }

    pub fn arrays(&self) -> Vec<&Array> {
        let mut arrays = self.mixer.arrays();
        arrays.extend([&self.input_norm, &self.post_attention_norm]);
        arrays.extend(self.mlp.arrays());
        arrays
    }
}
