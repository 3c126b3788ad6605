use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, ops, stop_gradient};

use super::{ExpertLinear, LayerAdapter, Loader, MlpPaths, Uses};
use crate::Result;
use crate::backend::Backend;
use crate::ext::fused::{self, Activation};

/// The gated MLPs of all experts of a layer, of which each token uses a few.
#[derive(Clone)]
pub(crate) struct ExpertMlps {
    gate: ExpertLinear,
    up: ExpertLinear,
    down: ExpertLinear,
    paths: MlpPaths,
    activation: Activation,
    backend: Backend,
}

impl ExpertMlps {
    /// Takes the stacked matrices of `count` experts at `paths` below `prefix`.
    pub fn load(
        paths: MlpPaths,
        count: usize,
        prefix: &str,
        activation: Activation,
        loader: &mut Loader,
    ) -> Result<Self> {
        let backend = loader.backend();
        let mut stack = |path: &str| loader.experts(&format!("{prefix}.{path}"), count);
        let [gate, up, down] = [stack(paths.gate)?, stack(paths.up)?, stack(paths.down)?];
        Ok(Self { gate, up, down, paths, activation, backend })
    }

    /// The outputs of the `chosen` experts for tokens `x` `[1, T, H]`, summed with their `weights`; both are `[1, T, k]`.
    pub fn forward(
        &self,
        x: &Array,
        [chosen, weights]: [&Array; 2],
        adapter: &LayerAdapter,
    ) -> Result<Array> {
        let uses = Uses::of(chosen)?;
        let inputs = uses.gather(x)?;
        let apply = |linear: &ExpertLinear, path: &str, x: &Array| {
            linear.apply(x, &uses, adapter.get(path))
        };
        let gate = apply(&self.gate, self.paths.gate, &inputs)?;
        let up = apply(&self.up, self.paths.up, &inputs)?;
        let gated = fused::gate(self.backend, self.activation, &gate, &up)?;
        let outputs = uses.by_token(&apply(&self.down, self.paths.down, &gated)?)?;
        Ok(outputs.multiply(weights.expand_dims(-1)?)?.sum_axis(-2, false)?)
    }
}

/// The `count` experts of each token with the highest scores, `[1, T, count]`. The choice has no gradient.
pub(crate) fn highest(scores: &Array, count: usize) -> Result<Array> {
    let count = count as i32;
    let order = ops::argpartition_axis(stop_gradient(scores)?, -count, -1)?;
    Ok(order.try_index((.., .., -count..))?)
}
