use mlx_rs::Array;

use super::{LayerAdapter, Linear, LinearSpec, Loader, Recomputed};
use crate::Result;
use crate::backend::Backend;
use crate::ext::fused::Activation;

pub(crate) const GATE: &str = "mlp.gate_proj";
pub(crate) const UP: &str = "mlp.up_proj";
pub(crate) const DOWN: &str = "mlp.down_proj";

/// The gated MLP of a dense layer: `down(activation(gate(x)) * up(x))` (Shazeer, 2020).
#[derive(Clone)]
pub(crate) struct Mlp {
    gate: Linear,
    up: Linear,
    down: Linear,
    activation: Activation,
    backend: Backend,
}

impl Mlp {
    /// The three matrices, by path.
    pub fn linears(hidden: usize, intermediate: usize) -> [LinearSpec; 3] {
        [
            LinearSpec::new(GATE, hidden, intermediate),
            LinearSpec::new(UP, hidden, intermediate),
            LinearSpec::new(DOWN, intermediate, hidden),
        ]
    }

    /// Takes the three matrices below `prefix`.
    pub fn load(prefix: &str, activation: Activation, loader: &mut Loader) -> Result<Self> {
        let backend = loader.backend();
        let mut linear = |path: &str| loader.linear(&format!("{prefix}.{path}"));
        Ok(Self { gate: linear(GATE)?, up: linear(UP)?, down: linear(DOWN)?, activation, backend })
    }

    pub fn forward(&self, x: &Recomputed, adapter: &LayerAdapter) -> Result<Array> {
        let [gate, up] = x.apply([(&self.gate, adapter.get(GATE)), (&self.up, adapter.get(UP))])?;
        let gated = Recomputed::gate(self.backend, self.activation, &gate, &up);
        let [output] = gated.apply([(&self.down, adapter.get(DOWN))])?;
        Ok(output)
    }
}
