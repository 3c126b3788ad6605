//! The Qwen3.5 family (dense): three of four layers use gated-delta linear attention, whose state does
//! not grow with the row, the fourth full attention with an output gate.

mod attention;
mod block;
mod config;
mod convolution;
mod delta_net;
mod names;
mod shape;

use super::config::Config;
use super::{Architecture, Registration};
use crate::checkpoint::{Expected, Store};
use crate::nn::attention::scores;
use crate::nn::block::Block;
use crate::nn::cache::CacheShape;
use crate::nn::footprint::Activations;
use crate::nn::linear_spec::LinearSpec;
use crate::nn::loader::Loader;
use crate::{Error, Result};
use shape::{Kind, Qwen35};

pub(super) const REGISTRATION: Registration =
    Registration { model_types: &["qwen3_5", "qwen3_5_text"], config: config::read, gguf: None };

impl Architecture for Qwen35 {
    fn linears(&self, config: &Config, layer: usize) -> Vec<LinearSpec> {
        let kind = self.layers.get(layer);
        kind.map_or_else(Vec::new, |&kind| self.linears_of(config, kind))
    }

    fn tensors(&self, config: &Config, layer: usize) -> Vec<(&'static str, Expected)> {
        let kind = self.layers.get(layer);
        kind.map_or_else(Vec::new, |&kind| self.tensors_of(config, kind))
    }

    fn load(
        &self,
        config: &Config,
        layer: usize,
        prefix: &str,
        loader: &mut Loader,
    ) -> Result<Box<dyn Block>> {
        let Some(&kind) = self.layers.get(layer) else {
            return Err(Error::Argument {
                name: "layer",
                expected: format!("below {}", self.layers.len()),
                found: layer.to_string(),
            });
        };
        Ok(Box::new(block::load(config, self.delta, kind, prefix, loader)?))
    }

    fn normalize(&self, config: &Config, store: &mut Store) {
        names::normalize(store, config);
    }

    fn caches(&self, config: &Config) -> Vec<CacheShape> {
        let (kv_heads, head_dim) = (config.num_kv_heads, config.head_dim);
        let shape = |kind: &Kind| match kind {
            Kind::Attention => CacheShape::Keys { kv_heads, head_dim, window: None },
            Kind::Delta => self.delta.cache(),
        };
        self.layers.iter().map(shape).collect()
    }

    fn activations(&self, config: &Config, layer: usize, length: usize) -> Activations {
        match self.layers.get(layer) {
            Some(Kind::Delta) => self.delta.activations(),
            Some(Kind::Attention) | None => scores(config.num_heads, length, None),
        }
    }
}
