//! The gated MLP that every family's dense layers have; what differs is the activation.

use mlx_rs::Array;

use crate::Result;
use crate::adapter::LayerAdapter;
use crate::checkpoint::Tensors;
use crate::ext::fused::Activation;
use crate::nn::linear::Linear;
use crate::nn::recompute::Made;

pub(crate) const GATE: &str = "mlp.gate_proj";
pub(crate) const UP: &str = "mlp.up_proj";
pub(crate) const DOWN: &str = "mlp.down_proj";

/// `down(activation(gate(x)) * up(x))`.
#[derive(Clone)]
pub(crate) struct Mlp {
    gate: Linear,
    up: Linear,
    down: Linear,
    activation: Activation,
}

impl Mlp {
    /// Takes the three matrices below `prefix`.
    pub fn load(prefix: &str, activation: Activation, tensors: &mut Tensors) -> Result<Self> {
        let mut linear = |path: &str| tensors.linear(&format!("{prefix}.{path}"));
        Ok(Self { gate: linear(GATE)?, up: linear(UP)?, down: linear(DOWN)?, activation })
    }

    pub fn forward(&self, x: &Made, adapter: &LayerAdapter) -> Result<Array> {
        let [gate, up] =
            x.through([(&self.gate, adapter.get(GATE)), (&self.up, adapter.get(UP))])?;
        let gated = Made::gate(self.activation, &gate, &up);
        let [output] = gated.through([(&self.down, adapter.get(DOWN))])?;
        Ok(output)
    }

    pub fn arrays(&self) -> impl Iterator<Item = &Array> {
        [&self.gate, &self.up, &self.down].into_iter().flat_map(Linear::arrays)
    }
}
