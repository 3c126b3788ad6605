use mlx_rs::{Array, ops};

use super::{
    ExpertMlps, LayerAdapter, Linear, LinearSpec, Loader, Mlp, MlpPaths, Recomputed, highest,
};
use crate::Result;
use crate::backend::Backend;
use crate::ext::fused::{Activation, softmax};

pub(crate) const ROUTER: &str = "mlp.gate";
/// The matrices of all experts, each stacked.
pub(crate) const EXPERTS: MlpPaths = MlpPaths {
    gate: "mlp.switch_mlp.gate_proj",
    up: "mlp.switch_mlp.up_proj",
    down: "mlp.switch_mlp.down_proj",
};
const SHARED: MlpPaths = MlpPaths {
    gate: "mlp.shared_expert.gate_proj",
    up: "mlp.shared_expert.up_proj",
    down: "mlp.shared_expert.down_proj",
};
const SHARED_GATE: &str = "mlp.shared_expert_gate";

/// Sizes of a mixture of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SparseShape {
    /// Number of experts.
    pub count: usize,
    /// Experts of each token.
    pub chosen: usize,
    /// Width of each expert.
    pub intermediate: usize,
    /// Whether the weights of a token's experts sum to 1, or are shares of all experts' (`norm_topk_prob`).
    pub normalized: bool,
    /// Width of the expert that every token uses beside the chosen ones, if there is one.
    pub shared: Option<usize>,
}

impl SparseShape {
    /// The linear layers, in the order they are applied.
    pub fn linears(self, hidden: usize) -> Vec<LinearSpec> {
        let experts = EXPERTS.linears(hidden, self.intermediate);
        let experts = experts.map(|spec| spec.stacked(self.count, self.chosen));
        let mut linears = vec![LinearSpec::new(ROUTER, hidden, self.count)];
        linears.extend(experts);
        if let Some(width) = self.shared {
            linears.extend(SHARED.linears(hidden, width));
            linears.push(LinearSpec::new(SHARED_GATE, hidden, 1));
        }
        linears
    }
}

/// A mixture of experts in place of the MLP (Shazeer et al., 2017): a router chooses a few gated MLPs for each token, whose
/// outputs are summed with the router's weights. The sum of one more, which every token uses, is scaled by a gate.
#[derive(Clone)]
pub(crate) struct SparseMlp {
    router: Linear,
    experts: ExpertMlps,
    shared: Option<Shared>,
    shape: SparseShape,
    backend: Backend,
}

#[derive(Clone)]
struct Shared {
    mlp: Mlp,
    gate: Linear,
}

impl SparseMlp {
    /// Takes the matrices below `prefix`.
    pub fn load(shape: SparseShape, prefix: &str, loader: &mut Loader) -> Result<Self> {
        let path = |path: &str| format!("{prefix}.{path}");
        Ok(Self {
            router: loader.linear(&path(ROUTER))?,
            experts: ExpertMlps::load(EXPERTS, shape.count, prefix, Activation::Silu, loader)?,
            shared: match shape.shared {
                Some(_) => Some(Shared {
                    mlp: Mlp::load_at(SHARED, prefix, Activation::Silu, loader)?,
                    gate: loader.linear(&path(SHARED_GATE))?,
                }),
                None => None,
            },
            shape,
            backend: loader.backend(),
        })
    }

    /// Applied to the normed hidden states `[1, T, H]`.
    pub fn forward(&self, x: &Array, adapter: &LayerAdapter) -> Result<Array> {
        let (chosen, weights) = self.choose(x, adapter)?;
        let mixed = self.experts.forward(x, [&chosen, &weights], adapter)?;
        let Some(shared) = &self.shared else { return Ok(mixed) };
        let gate = ops::sigmoid(shared.gate.apply(x, adapter.get(SHARED_GATE))?)?;
        let output = shared.mlp.forward(&Recomputed::kept(x), adapter)?;
        Ok(mixed.add(gate.multiply(output)?)?)
    }

    /// The experts of each token and their weights, both `[1, T, k]`. The weights have a gradient.
    fn choose(&self, x: &Array, adapter: &LayerAdapter) -> Result<(Array, Array)> {
        let scores = self.router.apply(x, adapter.get(ROUTER))?;
        let chosen = highest(&scores, self.shape.chosen)?;
        let share = |scores: &Array| softmax(self.backend, scores, 1.0, None);
        let weights = match self.shape.normalized {
            // Shares of all, divided by their sum over the chosen, are the softmax over the chosen.
            true => share(&scores.take_along_axis(&chosen, -1)?)?,
            false => share(&scores)?.take_along_axis(&chosen, -1)?,
        };
        Ok((chosen, weights))
    }
}
