//! Experts beside the MLP, and the router that chooses among them (26B-A4B).

use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, ops, stop_gradient};

use super::shape::{
    EXPERT_DOWN, EXPERT_GATE, EXPERT_SCALE, EXPERT_UP, ExpertShape, POST_DENSE_NORM,
    POST_EXPERTS_NORM, PRE_EXPERTS_NORM, ROUTER, ROUTER_SCALE,
};
use crate::Result;
use crate::adapter::LayerAdapter;
use crate::checkpoint::Tensors;
use crate::arch::config::Config;
use crate::ext::fused::{self, Activation, rms_norm, softmax};
use crate::nn::experts::Gathered;
use crate::nn::linear::Linear;

#[derive(Clone)]
pub(super) struct Experts {
    router: Router,
    gate: Gathered,
    up: Gathered,
    down: Gathered,
    pre_norm: Array,
    post_norm: Array,
    /// Of the MLP's output, before the two are added.
    post_dense_norm: Array,
    norm_eps: f32,
}

#[derive(Clone)]
struct Router {
    projection: Linear,
    /// The weight of its norm, divided by the root of the hidden size.
    scale: Array,
    expert_scale: Array,
    chosen: i32,
}

impl Experts {
    /// Takes the experts' and the router's tensors of one layer, all below `prefix`.
    pub fn load(
        config: &Config,
        shape: ExpertShape,
        prefix: &str,
        tensors: &mut Tensors,
    ) -> Result<Self> {
        let path = |path: &str| format!("{prefix}.{path}");
        let scale = tensors.parameter(&path(ROUTER_SCALE))?;
        let root = Array::from_f32((config.hidden_size as f32).sqrt().recip());
        Ok(Self {
            router: Router {
                projection: tensors.linear(&path(ROUTER))?,
                scale: scale.multiply(root.as_dtype(scale.dtype())?)?,
                expert_scale: tensors.parameter(&path(EXPERT_SCALE))?,
                chosen: shape.chosen as i32,
            },
            gate: tensors.gathered(&path(EXPERT_GATE), shape.count)?,
            up: tensors.gathered(&path(EXPERT_UP), shape.count)?,
            down: tensors.gathered(&path(EXPERT_DOWN), shape.count)?,
            pre_norm: tensors.vector(&path(PRE_EXPERTS_NORM))?,
            post_norm: tensors.vector(&path(POST_EXPERTS_NORM))?,
            post_dense_norm: tensors.vector(&path(POST_DENSE_NORM))?,
            norm_eps: config.norm_eps,
        })
    }

    /// The sum of the MLP's output and the experts', each behind a norm of its own.
    pub fn join(&self, x: &Array, dense: &Array, adapter: &LayerAdapter) -> Result<Array> {
        let norm = |x: &Array, weight: &Array| rms_norm(x, Some(weight), self.norm_eps);
        let sparse = self.forward(x, adapter)?;
        Ok(norm(dense, &self.post_dense_norm)?.add(norm(&sparse, &self.post_norm)?)?)
    }

    fn forward(&self, x: &Array, adapter: &LayerAdapter) -> Result<Array> {
        let (chosen, weights) = self.router.choose(x, self.norm_eps, adapter)?;
        let normed = rms_norm(x, Some(&self.pre_norm), self.norm_eps)?;
        // [1, T, 1, 1, H]: each token is a matrix of one row, which `chosen` [1, T, k] multiplies.
        let rows = normed.expand_dims(-2)?.expand_dims(-2)?;
        let apply =
            |linear: &Gathered, path: &str, x: &Array| linear.apply(x, &chosen, adapter.get(path));
        let gate = apply(&self.gate, EXPERT_GATE, &rows)?;
        let up = apply(&self.up, EXPERT_UP, &rows)?;
        let gated = fused::gate(Activation::GeluTanh, &gate, &up)?;
        let outputs = apply(&self.down, EXPERT_DOWN, &gated)?.squeeze_axes(&[-2])?;
        Ok(outputs.multiply(weights.expand_dims(-1)?)?.sum_axis(-2, false)?)
    }

    pub fn arrays(&self) -> Vec<&Array> {
        let mut arrays = vec![
            &self.pre_norm,
            &self.post_norm,
            &self.post_dense_norm,
            &self.router.scale,
            &self.router.expert_scale,
        ];
        arrays.extend(self.router.projection.arrays());
        arrays.extend([&self.gate, &self.up, &self.down].into_iter().flat_map(Gathered::arrays));
        arrays
    }
}

impl Router {
    /// The experts of each token and their weights, both `[1, T, k]`. The choice has no gradient,
    /// the weights do.
    fn choose(&self, x: &Array, eps: f32, adapter: &LayerAdapter) -> Result<(Array, Array)> {
        let normed = rms_norm(x, Some(&self.scale), eps)?;
        let scores = self.projection.apply(&normed, adapter.get(ROUTER))?;
        let order = ops::argpartition_axis(stop_gradient(&scores)?, -self.chosen, -1)?;
        let chosen = order.try_index((.., .., -self.chosen..))?;
        let weights = softmax(&scores.take_along_axis(&chosen, -1)?, 1.0, None)?;
        let weights = weights.multiply(self.expert_scale.take_axis(&chosen, 0)?)?;
        Ok((chosen, weights))
    }
}
