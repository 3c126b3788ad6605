use mlx_rs::Array;

use super::attention::Attention;
use super::experts::Experts;
use super::per_layer::InputGate;
use super::shape::{self, Gemma4, LayerShape};
use crate::Result;
use crate::arch::config::Config;
use crate::ext::fused::Activation;
use crate::nn::adapter::LayerAdapter;
use crate::nn::attention::AttentionMode;
use crate::nn::batch::{Batch, Flow};
use crate::nn::block::Block;
use crate::nn::loader::Loader;
use crate::nn::mlp::Mlp;
use crate::nn::norm::RmsNorm;
use crate::nn::recompute::Recomputed;

/// One decoder layer of a Gemma 4: attention, MLP and, in some models, experts beside the MLP and an
/// input gate.
#[derive(Clone)]
pub(super) struct GemmaBlock {
    attention: Attention,
    mlp: Mlp,
    experts: Option<Experts>,
    input_gate: Option<InputGate>,
    input_norm: RmsNorm,
    post_attention_norm: RmsNorm,
    pre_mlp_norm: RmsNorm,
    post_mlp_norm: RmsNorm,
    scalar: Array,
}

impl GemmaBlock {
    /// Takes the tensors of layer `index`, all below `prefix`.
    pub fn load(
        config: &Config,
        model: &Gemma4,
        index: usize,
        layer: LayerShape,
        prefix: &str,
        loader: &mut Loader,
    ) -> Result<Self> {
        let path = |path: &str| format!("{prefix}.{path}");
        let norm = |name, loader: &mut Loader| loader.norm(&path(name), config.norm_eps);
        Ok(Self {
            attention: Attention::load(config, model, index, layer, prefix, loader)?,
            mlp: Mlp::load(prefix, Activation::GeluTanh, loader)?,
            experts: match model.experts {
                Some(experts) => Some(Experts::load(config, experts, prefix, loader)?),
                None => None,
            },
            input_gate: match model.per_layer {
                Some(_) => Some(InputGate::load(config, index, prefix, loader)?),
                None => None,
            },
            input_norm: norm(shape::INPUT_NORM, loader)?,
            post_attention_norm: norm(shape::POST_ATTENTION_NORM, loader)?,
            pre_mlp_norm: norm(shape::PRE_MLP_NORM, loader)?,
            post_mlp_norm: norm(shape::POST_MLP_NORM, loader)?,
            scalar: loader.parameter(&path(shape::SCALAR))?,
        })
    }
}

impl Block for GemmaBlock {
    fn forward(
        &self,
        input: &Flow,
        batch: &Batch,
        adapter: &LayerAdapter,
        mode: AttentionMode<'_>,
    ) -> Result<Flow> {
        let x = &input.hidden;
        let mut carried = input.carried.clone();
        let normed = Recomputed::norm(x, &self.input_norm);
        let attended = self.attention.forward(&normed, &mut carried, batch, adapter, mode)?;
        let x = x.add(self.post_attention_norm.apply(&attended)?)?;

        let normed = Recomputed::norm(&x, &self.pre_mlp_norm);
        let inner = self.mlp.forward(&normed, adapter)?;
        let inner = match &self.experts {
            Some(experts) => experts.join(&x, &inner, adapter)?,
            None => inner,
        };
        let mut x = x.add(self.post_mlp_norm.apply(&inner)?)?;
        if let (Some(gate), Some(inputs)) = (&self.input_gate, &batch.token_inputs) {
            x = x.add(gate.forward(&x, inputs, adapter)?)?;
        }
        Ok(Flow { hidden: x.multiply(&self.scalar)?, carried })
    }

    fn arrays(&self) -> Vec<&Array> {
        let norms =
            [&self.input_norm, &self.post_attention_norm, &self.pre_mlp_norm, &self.post_mlp_norm];
        let norms = norms.into_iter().flat_map(RmsNorm::arrays);
        let mut arrays: Vec<&Array> = norms.chain([&self.scalar]).collect();
        arrays.extend(self.attention.arrays());
        arrays.extend(self.mlp.arrays());
        arrays.extend(self.experts.iter().flat_map(Experts::arrays));
        arrays.extend(self.input_gate.iter().flat_map(InputGate::arrays));
        arrays
    }

    fn boxed(&self) -> Box<dyn Block> {
        Box::new(self.clone())
    }
}
