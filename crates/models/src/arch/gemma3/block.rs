use crate::Result;
use crate::arch::attention::{Attention, AttentionShape};
use crate::arch::config::Config;
use crate::arch::names::{INPUT_NORM, POST_ATTENTION_NORM, POST_MLP_NORM, PRE_MLP_NORM};
use crate::ext::fused::Activation;
use crate::nn::{
    AttentionMode, Batch, Block, Flow, LayerAdapter, Loader, Mixer, Mlp, Recomputed, RmsNorm,
};

/// A decoder layer whose attention and MLP each have a norm before and one after them, inside the residual
/// connection.
#[derive(Clone)]
pub(super) struct SandwichNorm {
    attention: Attention,
    mlp: Mlp,
    input_norm: RmsNorm,
    post_attention_norm: RmsNorm,
    pre_mlp_norm: RmsNorm,
    post_mlp_norm: RmsNorm,
}

impl SandwichNorm {
    /// Takes the tensors of a layer, all below `prefix`.
    pub fn load(
        config: &Config,
        attention: AttentionShape,
        prefix: &str,
        loader: &mut Loader,
    ) -> Result<Self> {
        let norm = |name: &str, loader: &mut Loader| {
            loader.norm(&format!("{prefix}.{name}"), config.norm_eps)
        };
        Ok(Self {
            attention: Attention::load(config, attention, prefix, loader)?,
            mlp: Mlp::load(prefix, Activation::GeluTanh, loader)?,
            input_norm: norm(INPUT_NORM, loader)?,
            post_attention_norm: norm(POST_ATTENTION_NORM, loader)?,
            pre_mlp_norm: norm(PRE_MLP_NORM, loader)?,
            post_mlp_norm: norm(POST_MLP_NORM, loader)?,
        })
    }
}

impl Block for SandwichNorm {
    fn forward(
        &self,
        input: &Flow,
        batch: &Batch,
        adapter: &LayerAdapter,
        mode: AttentionMode<'_>,
    ) -> Result<Flow> {
        let x = &input.hidden;
        let normed = Recomputed::norm(x, &self.input_norm);
        let attended = self.attention.forward(&normed, batch, adapter, mode)?;
        let x = x.add(self.post_attention_norm.apply(&attended)?)?;
        let normed = Recomputed::norm(&x, &self.pre_mlp_norm);
        let inner = self.mlp.forward(&normed, adapter)?;
        let hidden = x.add(self.post_mlp_norm.apply(&inner)?)?;
        Ok(Flow { hidden, carried: input.carried.clone() })
    }

    fn boxed(&self) -> Box<dyn Block> {
        Box::new(self.clone())
    }
}
