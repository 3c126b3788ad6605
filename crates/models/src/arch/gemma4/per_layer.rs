//! Inputs that each layer gets beside the hidden states (E2B, E4B).

use mlx_rs::Array;

use super::shape::{
    INPUT_EMBEDDING, INPUT_GATE, INPUT_PROJECTION, MODEL_PROJECTION, MODEL_PROJECTION_NORM,
    POST_INPUT_NORM, PerLayerShape,
};
use crate::Result;
use crate::adapter::LayerAdapter;
use crate::checkpoint::Tensors;
use crate::arch::config::Config;
use crate::ext::fused::{self, Activation, rms_norm};
use crate::nn::linear::Linear;

/// What makes the inputs of all layers from the tokens. No adapter reaches this, so the inputs are
/// constants of a micro-batch.
#[derive(Clone, Debug)]
pub(crate) struct PerLayer {
    embedding: Linear,
    projection: Linear,
    norm: Array,
    layers: usize,
    width: usize,
    hidden_size: usize,
    norm_eps: f32,
}

impl PerLayer {
    /// Takes the tensors that the inputs of all layers are made with.
    pub fn load(config: &Config, shape: PerLayerShape, tensors: &mut Tensors) -> Result<Self> {
        Ok(Self {
            embedding: tensors.linear(&config.name(INPUT_EMBEDDING))?,
            projection: tensors.linear(&config.name(MODEL_PROJECTION))?,
            norm: tensors.vector(&config.name(MODEL_PROJECTION_NORM))?,
            layers: config.num_layers,
            width: shape.width,
            hidden_size: config.hidden_size,
            norm_eps: config.norm_eps,
        })
    }

    /// `[1, T, layers, width]`: a table's row for each token, and a projection of its embedding.
    pub fn inputs(&self, tokens: &[u32], hidden: &Array) -> Result<Array> {
        let shape = [1, -1, self.layers as i32, self.width as i32];
        let scalar = |value: f32| Array::from_f32(value).as_dtype(hidden.dtype());
        let rows = self.embedding.gather(tokens)?.reshape(&shape)?;
        let rows = rows.multiply(scalar((self.width as f32).sqrt())?)?;
        let projected = self.projection.apply(hidden, None)?;
        let projected = projected.multiply(scalar((self.hidden_size as f32).sqrt().recip())?)?;
        let projected = rms_norm(&projected.reshape(&shape)?, Some(&self.norm), self.norm_eps)?;
        Ok(projected.add(rows)?.multiply(scalar(std::f32::consts::FRAC_1_SQRT_2)?)?)
    }

    pub fn arrays(&self) -> Vec<&Array> {
        let mut arrays = self.embedding.arrays();
        arrays.extend(self.projection.arrays());
        arrays.push(&self.norm);
        arrays
    }
}

/// How one layer takes its input in.
#[derive(Clone)]
pub(super) struct InputGate {
    gate: Linear,
    projection: Linear,
    norm: Array,
    norm_eps: f32,
    layer: i32,
}

impl InputGate {
    /// Takes the tensors of the layer of this number, all below `prefix`.
    pub fn load(
        config: &Config,
        index: usize,
        prefix: &str,
        tensors: &mut Tensors,
    ) -> Result<Self> {
        let path = |path: &str| format!("{prefix}.{path}");
        Ok(Self {
            gate: tensors.linear(&path(INPUT_GATE))?,
            projection: tensors.linear(&path(INPUT_PROJECTION))?,
            norm: tensors.vector(&path(POST_INPUT_NORM))?,
            norm_eps: config.norm_eps,
            layer: index as i32,
        })
    }

    /// What the layer adds to `x`, given the inputs of all layers.
    pub fn forward(&self, x: &Array, inputs: &Array, adapter: &LayerAdapter) -> Result<Array> {
        let layer = Array::from_slice(&[self.layer], &[]);
        let input = inputs.take_axis(layer, 2)?;
        let gate = self.gate.apply(x, adapter.get(INPUT_GATE))?;
        let gated = fused::gate(Activation::GeluTanh, &gate, &input)?;
        let added = self.projection.apply(&gated, adapter.get(INPUT_PROJECTION))?;
        rms_norm(&added, Some(&self.norm), self.norm_eps)
    }

    pub fn arrays(&self) -> Vec<&Array> {
        let mut arrays = self.gate.arrays();
        arrays.extend(self.projection.arrays());
        arrays.push(&self.norm);
        arrays
    }
}
