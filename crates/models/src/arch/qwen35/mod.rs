//! The Qwen3.5 family, dense and with experts: three of four layers use gated-delta linear attention, whose state does
//! not grow with the row, the fourth full attention with an output gate.

mod attention;
mod config;
mod convolution;
mod delta_net;
mod names;
mod shape;

use super::config::Config;
use super::{Architecture, Registration};
use crate::Result;
use crate::checkpoint::{Expected, Store};
use crate::nn::{Activations, Block, CacheShape, LinearSpec, Loader, PreNorm, scores};
use attention::Attention;
use delta_net::DeltaNet;
use shape::{Kind, Qwen35};

pub(super) const REGISTRATION: Registration = Registration {
    model_types: &["qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text"],
    config: config::read,
    gguf: &[],
};

impl Architecture for Qwen35 {
    fn linears(&self, config: &Config, layer: usize) -> Vec<LinearSpec> {
        self.linears_of(config, self.layers[layer])
    }

    fn tensors(&self, config: &Config, layer: usize) -> Vec<(&'static str, Expected)> {
        self.tensors_of(config, self.layers[layer])
    }

    fn load(
        &self,
        config: &Config,
        layer: usize,
        prefix: &str,
        loader: &mut Loader,
    ) -> Result<Box<dyn Block>> {
        let eps = config.norm_eps;
        Ok(match self.layers[layer] {
            Kind::Attention => {
                let attention = Attention::load(config, prefix, loader)?;
                Box::new(PreNorm::load(attention, self.feed_forward, eps, prefix, loader)?)
            }
            Kind::Delta => {
                let delta = DeltaNet::load(config, self.delta, prefix, loader)?;
                Box::new(PreNorm::load(delta, self.feed_forward, eps, prefix, loader)?)
            }
        })
    }

    fn normalize(&self, config: &Config, store: &mut Store) {
        names::normalize(store, config, self);
    }

    fn caches(&self, config: &Config) -> Vec<CacheShape> {
        let (kv_heads, head_dim) = (config.num_kv_heads, config.head_dim);
        let shape = |kind: &Kind| match kind {
            Kind::Attention => CacheShape::Keys { kv_heads, head_dim, window: None },
            Kind::Delta => CacheShape::State(self.delta.state()),
        };
        self.layers.iter().map(shape).collect()
    }

    fn activations(&self, config: &Config, layer: usize, length: usize) -> Activations {
        match self.layers[layer] {
            Kind::Delta => self.delta.activations(),
            Kind::Attention => scores(config.num_heads, length, None),
        }
    }
}
