//! Mixture of experts beside the MLP (26B-A4B): the experts and their router.

use mlx_rs::Array;

use super::shape::{
    EXPERT_SCALE, EXPERTS, ExpertShape, POST_DENSE_NORM, POST_EXPERTS_NORM, PRE_EXPERTS_NORM,
    ROUTER, ROUTER_SCALE,
};
use crate::Result;
use crate::arch::config::Config;
use crate::backend::Backend;
use crate::ext::fused::{Activation, softmax};
use crate::nn::{ExpertMlps, LayerAdapter, Linear, Loader, RmsNorm, highest};

#[derive(Clone)]
pub(super) struct Experts {
    router: Router,
    experts: ExpertMlps,
    pre_norm: RmsNorm,
    post_norm: RmsNorm,
    /// Of the MLP's output, before the two are added.
    post_dense_norm: RmsNorm,
    backend: Backend,
}

#[derive(Clone)]
struct Router {
    projection: Linear,
    /// Its weight is divided by the root of the hidden size.
    norm: RmsNorm,
    expert_scale: Array,
    /// Experts per token.
    chosen: usize,
}

impl Experts {
    /// Takes the tensors of experts and router of one layer, all below `prefix`.
    pub fn load(
        config: &Config,
        shape: ExpertShape,
        prefix: &str,
        loader: &mut Loader,
    ) -> Result<Self> {
        let path = |path: &str| format!("{prefix}.{path}");
        let (backend, eps) = (loader.backend(), config.norm_eps);
        let scale = loader.parameter(&path(ROUTER_SCALE))?;
        let root = Array::from_f32((config.hidden_size as f32).sqrt().recip());
        let scale = scale.multiply(root.as_dtype(scale.dtype())?)?;
        Ok(Self {
            router: Router {
                projection: loader.linear(&path(ROUTER))?,
                norm: RmsNorm::new(backend, Some(loader.keep(scale)), eps),
                expert_scale: loader.parameter(&path(EXPERT_SCALE))?,
                chosen: shape.chosen,
            },
            experts: ExpertMlps::load(EXPERTS, shape.count, prefix, Activation::GeluTanh, loader)?,
            pre_norm: loader.norm(&path(PRE_EXPERTS_NORM), eps)?,
            post_norm: loader.norm(&path(POST_EXPERTS_NORM), eps)?,
            post_dense_norm: loader.norm(&path(POST_DENSE_NORM), eps)?,
            backend,
        })
    }

    /// The sum of the MLP's output `dense` and the experts', each normed.
    pub fn join(&self, x: &Array, dense: &Array, adapter: &LayerAdapter) -> Result<Array> {
        let sparse = self.forward(x, adapter)?;
        Ok(self.post_dense_norm.apply(dense)?.add(self.post_norm.apply(&sparse)?)?)
    }

    fn forward(&self, x: &Array, adapter: &LayerAdapter) -> Result<Array> {
        let (chosen, weights) = self.router.choose(x, self.backend, adapter)?;
        self.experts.forward(&self.pre_norm.apply(x)?, [&chosen, &weights], adapter)
    }
}

impl Router {
    /// The experts of each token and their weights, both `[1, T, k]`. The choice has no gradient,
    /// the weights do.
    fn choose(
        &self,
        x: &Array,
        backend: Backend,
        adapter: &LayerAdapter,
    ) -> Result<(Array, Array)> {
        let normed = self.norm.apply(x)?;
        let scores = self.projection.apply(&normed, adapter.get(ROUTER))?;
        let chosen = highest(&scores, self.chosen)?;
        let weights = softmax(backend, &scores.take_along_axis(&chosen, -1)?, 1.0, None)?;
        let weights = weights.multiply(self.expert_scale.take_axis(&chosen, 0)?)?;
        Ok((chosen, weights))
    }
}
