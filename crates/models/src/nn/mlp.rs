use mlx_rs::Array;

use super::{LayerAdapter, Linear, LinearSpec, Loader, Recomputed};
use crate::Result;
use crate::backend::Backend;
use crate::ext::fused::Activation;

pub(crate) const GATE: &str = "mlp.gate_proj";
pub(crate) const UP: &str = "mlp.up_proj";
pub(crate) const DOWN: &str = "mlp.down_proj";

/// Where the three matrices of a gated MLP are below a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MlpPaths {
    pub gate: &'static str,
    pub up: &'static str,
    pub down: &'static str,
}

impl MlpPaths {
    /// Those of a dense layer.
    const DENSE: Self = Self { gate: GATE, up: UP, down: DOWN };

    /// The three matrices.
    pub fn linears(self, hidden: usize, intermediate: usize) -> [LinearSpec; 3] {
        [
            LinearSpec::new(self.gate, hidden, intermediate),
            LinearSpec::new(self.up, hidden, intermediate),
            LinearSpec::new(self.down, intermediate, hidden),
        ]
    }
}

/// The gated MLP of a dense layer: `down(activation(gate(x)) * up(x))` (Shazeer, 2020).
#[derive(Clone)]
pub(crate) struct Mlp {
    gate: Linear,
    up: Linear,
    down: Linear,
    paths: MlpPaths,
    activation: Activation,
    backend: Backend,
}

impl Mlp {
    /// The three matrices of a dense layer.
    pub fn linears(hidden: usize, intermediate: usize) -> [LinearSpec; 3] {
        MlpPaths::DENSE.linears(hidden, intermediate)
    }

    /// Takes the three matrices of a dense layer below `prefix`.
    pub fn load(prefix: &str, activation: Activation, loader: &mut Loader) -> Result<Self> {
        Self::load_at(MlpPaths::DENSE, prefix, activation, loader)
    }

    /// Takes the three matrices at `paths` below `prefix`.
    pub fn load_at(
        paths: MlpPaths,
        prefix: &str,
        activation: Activation,
        loader: &mut Loader,
    ) -> Result<Self> {
        let backend = loader.backend();
        let mut linear = |path: &str| loader.linear(&format!("{prefix}.{path}"));
        let [gate, up, down] = [linear(paths.gate)?, linear(paths.up)?, linear(paths.down)?];
        Ok(Self { gate, up, down, paths, activation, backend })
    }

    pub fn forward(&self, x: &Recomputed, adapter: &LayerAdapter) -> Result<Array> {
        let paths = self.paths;
        let inner = [(&self.gate, adapter.get(paths.gate)), (&self.up, adapter.get(paths.up))];
        let [gate, up] = x.apply(inner)?;
        let gated = Recomputed::gate(self.backend, self.activation, &gate, &up);
        let [output] = gated.apply([(&self.down, adapter.get(paths.down))])?;
        Ok(output)
    }
}
