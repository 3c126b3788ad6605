//! Per-layer inputs beside the hidden states (E2B, E4B).

use mlx_rs::Array;

use super::shape::{
    INPUT_EMBEDDING, INPUT_GATE, INPUT_PROJECTION, MODEL_PROJECTION, MODEL_PROJECTION_NORM,
    POST_INPUT_NORM, PerLayerShape,
};
use crate::Result;
use crate::arch::config::Config;
use crate::backend::Backend;
use crate::ext::fused::{self, Activation};
use crate::nn::adapter::LayerAdapter;
use crate::nn::block::TokenInputs;
use crate::nn::linear::Linear;
use crate::nn::loader::Loader;
use crate::nn::norm::RmsNorm;

/// Computes the inputs of all layers from the tokens. No adapter applies here, so the inputs are
/// constants of a micro-batch unless the embedding is adapted.
#[derive(Clone, Debug)]
pub(super) struct PerLayer {
    embedding: Linear,
    projection: Linear,
    norm: RmsNorm,
    layers: usize,
    width: usize,
    hidden_size: usize,
}

impl PerLayer {
    /// Takes the tensors, which are outside the layers.
    pub fn load(config: &Config, shape: PerLayerShape, loader: &mut Loader) -> Result<Self> {
        Ok(Self {
            embedding: loader.linear(&config.name(INPUT_EMBEDDING))?,
            projection: loader.linear(&config.name(MODEL_PROJECTION))?,
            norm: loader.norm(&config.name(MODEL_PROJECTION_NORM), config.norm_eps)?,
            layers: config.num_layers,
            width: shape.width,
            hidden_size: config.hidden_size,
        })
    }
}

impl TokenInputs for PerLayer {
    /// `(row + projection) / sqrt(2)`: a table's row of each token, and a projection of its embedding.
    fn inputs(&self, tokens: &[u32], hidden: &Array) -> Result<Array> {
        let shape = [1, -1, self.layers as i32, self.width as i32];
        let scalar = |value: f32| Array::from_f32(value).as_dtype(hidden.dtype());
        let rows = self.embedding.gather(tokens)?.reshape(&shape)?;
        let rows = rows.multiply(scalar((self.width as f32).sqrt())?)?;
        let projected = self.projection.apply(hidden, None)?;
        let projected = projected.multiply(scalar((self.hidden_size as f32).sqrt().recip())?)?;
        let projected = self.norm.apply(&projected.reshape(&shape)?)?;
        Ok(projected.add(rows)?.multiply(scalar(std::f32::consts::FRAC_1_SQRT_2)?)?)
    }

    fn arrays(&self) -> Vec<&Array> {
        let mut arrays = self.embedding.arrays();
        arrays.extend(self.projection.arrays());
        arrays.extend(self.norm.arrays());
        arrays
    }

    fn boxed(&self) -> Box<dyn TokenInputs> {
        Box::new(self.clone())
    }
}

/// Adds a layer's input to its hidden states, through a gate.
#[derive(Clone)]
pub(super) struct InputGate {
    gate: Linear,
    projection: Linear,
    norm: RmsNorm,
    layer: i32,
    backend: Backend,
}

impl InputGate {
    /// Takes the tensors of layer `index`, all below `prefix`.
    pub fn load(config: &Config, index: usize, prefix: &str, loader: &mut Loader) -> Result<Self> {
        let path = |path: &str| format!("{prefix}.{path}");
        Ok(Self {
            gate: loader.linear(&path(INPUT_GATE))?,
            projection: loader.linear(&path(INPUT_PROJECTION))?,
            norm: loader.norm(&path(POST_INPUT_NORM), config.norm_eps)?,
            layer: index as i32,
            backend: loader.backend(),
        })
    }

    /// What the layer adds to `x`, given the inputs of all layers.
    pub fn forward(&self, x: &Array, inputs: &Array, adapter: &LayerAdapter) -> Result<Array> {
        let layer = Array::from_slice(&[self.layer], &[]);
        let input = inputs.take_axis(layer, 2)?;
        let gate = self.gate.apply(x, adapter.get(INPUT_GATE))?;
        let gated = fused::gate(self.backend, Activation::GeluTanh, &gate, &input)?;
        let added = self.projection.apply(&gated, adapter.get(INPUT_PROJECTION))?;
        self.norm.apply(&added)
    }

    pub fn arrays(&self) -> Vec<&Array> {
        let mut arrays = self.gate.arrays();
        arrays.extend(self.projection.arrays());
        arrays.extend(self.norm.arrays());
        arrays
    }
}
