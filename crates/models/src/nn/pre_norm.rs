use mlx_rs::Array;

use super::{
    AttentionMode, Batch, Block, Flow, LayerAdapter, LinearSpec, Loader, Mlp, Recomputed, RmsNorm,
    SparseMlp, SparseShape,
};
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
}

/// What follows the mixer of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FeedForward {
    /// A gated MLP of this width.
    Dense(usize),
    /// A mixture of experts.
    Sparse(SparseShape),
}

impl FeedForward {
    /// Its linear layers, in the order they are applied.
    pub fn linears(self, hidden: usize) -> Vec<LinearSpec> {
        match self {
            Self::Dense(width) => Mlp::linears(hidden, width).to_vec(),
            Self::Sparse(shape) => shape.linears(hidden),
        }
    }

    fn load(self, prefix: &str, loader: &mut Loader) -> Result<LoadedFeedForward> {
        Ok(match self {
            Self::Dense(_) => {
                LoadedFeedForward::Dense(Box::new(Mlp::load(prefix, Activation::Silu, loader)?))
            }
            Self::Sparse(shape) => {
                LoadedFeedForward::Sparse(Box::new(SparseMlp::load(shape, prefix, loader)?))
            }
        })
    }
}

#[derive(Clone)]
enum LoadedFeedForward {
    Dense(Box<Mlp>),
    Sparse(Box<SparseMlp>),
}

/// The decoder layer of most families: a mixer of tokens and a gated MLP or experts, each behind an RMS
/// norm and with a residual connection.
#[derive(Clone)]
pub(crate) struct PreNorm<M> {
    mixer: M,
    feed_forward: LoadedFeedForward,
    input_norm: RmsNorm,
    post_attention_norm: RmsNorm,
}

impl<M: Mixer> PreNorm<M> {
    /// Takes norms and MLP or experts, all below `prefix`.
    pub fn load(
        mixer: M,
        feed_forward: FeedForward,
        norm_eps: f32,
        prefix: &str,
        loader: &mut Loader,
    ) -> Result<Self> {
        Ok(Self {
            mixer,
            feed_forward: feed_forward.load(prefix, loader)?,
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
        let output = match &self.feed_forward {
            LoadedFeedForward::Dense(mlp) => mlp.forward(&normed, adapter)?,
            LoadedFeedForward::Sparse(experts) => experts.forward(&normed.computed()?, adapter)?,
        };
        let hidden = x.add(output)?;
        Ok(Flow { hidden, carried: input.carried.clone() })
    }

    fn boxed(&self) -> Box<dyn Block> {
        Box::new(self.clone())
    }
}
