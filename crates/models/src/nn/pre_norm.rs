use mlx_rs::Array;

use super::adapter::LayerAdapter;
use super::attention::AttentionMode;
use super::batch::{Batch, Flow};
use super::block::Block;
use super::loader::Loader;
use super::mlp::Mlp;
use super::norm::RmsNorm;
use super::recompute::Recomputed;
use crate::Result;
use crate::ext::fused::Activation;

pub(crate) const INPUT_NORM: &str = "input_layernorm";
pub(crate) const POST_ATTENTION_NORM: &str = "post_attention_layernorm";

/// Mixes the tokens of a row: attention or a recurrence.
pub(crate) trait Mixer: Clone + Send + 'static {
    /// Applied to the normed hidden states `[1, T, H]`.
    fn forward(
        &self,
        x: &Recomputed,
        batch: &Batch,
        adapter: &LayerAdapter,
        mode: AttentionMode<'_>,
    ) -> Result<Array>;

    /// The arrays that are in memory.
    fn arrays(&self) -> Vec<&Array>;
}

/// The decoder layer of most families: a mixer of tokens and a gated MLP, each behind an RMS norm and
/// with a residual connection.
#[derive(Clone)]
pub(crate) struct PreNorm<M> {
    mixer: M,
    mlp: Mlp,
    input_norm: RmsNorm,
    post_attention_norm: RmsNorm,
}

impl<M: Mixer> PreNorm<M> {
    /// Takes norms and MLP, all below `prefix`.
    pub fn load(mixer: M, norm_eps: f32, prefix: &str, loader: &mut Loader) -> Result<Self> {
        Ok(Self {
            mixer,
            mlp: Mlp::load(prefix, Activation::Silu, loader)?,
            input_norm: loader.norm(&format!("{prefix}.{INPUT_NORM}"), norm_eps)?,
            post_attention_norm: loader
                .norm(&format!("{prefix}.{POST_ATTENTION_NORM}"), norm_eps)?,
        })
    }
}

impl<M: Mixer> Block for PreNorm<M> {
    fn forward(
        &self,
        input: &Flow,
        batch: &Batch,
        adapter: &LayerAdapter,
        mode: AttentionMode<'_>,
    ) -> Result<Flow> {
        let x = &input.hidden;
        let normed = Recomputed::norm(x, &self.input_norm);
        let x = x.add(self.mixer.forward(&normed, batch, adapter, mode)?)?;
        let normed = Recomputed::norm(&x, &self.post_attention_norm);
        let hidden = x.add(self.mlp.forward(&normed, adapter)?)?;
        Ok(Flow { hidden, carried: input.carried.clone() })
    }

    fn arrays(&self) -> Vec<&Array> {
        let mut arrays = self.mixer.arrays();
        arrays.extend(self.input_norm.arrays().chain(self.post_attention_norm.arrays()));
        arrays.extend(self.mlp.arrays());
        arrays
    }

    fn boxed(&self) -> Box<dyn Block> {
        Box::new(self.clone())
    }
}
