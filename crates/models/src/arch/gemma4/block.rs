//! One decoder layer of a Gemma 4.

use mlx_rs::Array;

use super::attention::Attention;
use super::experts::Experts;
use super::per_layer::InputGate;
use super::shape::{self, Shape};
use crate::adapter::LayerAdapter;
use crate::nn::attention::Attend;
use crate::checkpoint::Tensors;
use crate::arch::config::Config;
use crate::ext::fused::{Activation, rms_norm};
use crate::model::layer::{Batch, Flow};
use crate::nn::recompute::Made;
use crate::nn::mlp::Mlp;
use crate::{Error, Result};

#[derive(Clone)]
pub(crate) struct Block {
    attention: Attention,
    mlp: Mlp,
    experts: Option<Experts>,
    input_gate: Option<InputGate>,
    input_norm: Array,
    post_attention_norm: Array,
    pre_mlp_norm: Array,
    post_mlp_norm: Array,
    scalar: Array,
    norm_eps: f32,
}

impl Block {
    /// Takes the tensors of the layer of this number, all below `prefix`.
    pub fn load(
        config: &Config,
        shape: &Shape,
        index: usize,
        prefix: &str,
        tensors: &mut Tensors,
    ) -> Result<Self> {
        let Some(&layer) = shape.layers.get(index) else {
            return Err(Error::Argument {
                name: "layer",
                expected: format!("below {}", shape.layers.len()),
                found: index.to_string(),
            });
        };
        let path = |path: &str| format!("{prefix}.{path}");
        Ok(Self {
            attention: Attention::load(config, shape, index, layer, prefix, tensors)?,
            mlp: Mlp::load(prefix, Activation::GeluTanh, tensors)?,
            experts: match shape.experts {
                Some(experts) => Some(Experts::load(config, experts, prefix, tensors)?),
                None => None,
            },
            input_gate: match shape.per_layer {
                Some(_) => Some(InputGate::load(config, index, prefix, tensors)?),
                None => None,
            },
            input_norm: tensors.vector(&path(shape::INPUT_NORM))?,
            post_attention_norm: tensors.vector(&path(shape::POST_ATTENTION_NORM))?,
            pre_mlp_norm: tensors.vector(&path(shape::PRE_MLP_NORM))?,
            post_mlp_norm: tensors.vector(&path(shape::POST_MLP_NORM))?,
            scalar: tensors.parameter(&path(shape::SCALAR))?,
            norm_eps: config.norm_eps,
        })
    }

    pub fn forward(
        &self,
        input: &Flow,
        batch: &Batch,
        adapter: &LayerAdapter,
        attend: Attend<'_>,
    ) -> Result<Flow> {
        let x = &input.hidden;
        let mut carried = input.carried.clone();
        let normed = Made::norm(x, &self.input_norm, self.norm_eps);
        let attended = self.attention.forward(&normed, &mut carried, batch, adapter, attend)?;
        let x = x.add(self.norm(&attended, &self.post_attention_norm)?)?;

        let normed = Made::norm(&x, &self.pre_mlp_norm, self.norm_eps);
        let inner = self.mlp.forward(&normed, adapter)?;
        let inner = match &self.experts {
            Some(experts) => experts.join(&x, &inner, adapter)?,
            None => inner,
        };
        let mut x = x.add(self.norm(&inner, &self.post_mlp_norm)?)?;
        if let (Some(gate), Some(inputs)) = (&self.input_gate, &batch.per_layer) {
            x = x.add(gate.forward(&x, inputs, adapter)?)?;
        }
        Ok(Flow { hidden: x.multiply(&self.scalar)?, carried })
    }

    fn norm(&self, x: &Array, weight: &Array) -> Result<Array> {
        rms_norm(x, Some(weight), self.norm_eps)
    }

    pub fn arrays(&self) -> Vec<&Array> {
        let mut arrays = vec![
            &self.input_norm,
            &self.post_attention_norm,
            &self.pre_mlp_norm,
            &self.post_mlp_norm,
            &self.scalar,
        ];
        arrays.extend(self.attention.arrays());
        arrays.extend(self.mlp.arrays());
        arrays.extend(self.experts.iter().flat_map(Experts::arrays));
        arrays.extend(self.input_gate.iter().flat_map(InputGate::arrays));
        arrays
    }
}
