//! The Gemma 4 family: dense models, those with per-layer inputs and shared keys (E2B, E4B), and those
//! with experts (26B-A4B).
//!
//! Most layers attend through a window ("sliding"); every fifth or sixth attends to everything before
//! it ("full"), with wider heads and its own rotary frequencies. Attention and MLP have a norm before
//! and one after them; the output of each layer is multiplied by a scalar.

mod attention;
mod block;
mod config;
mod experts;
mod names;
mod per_layer;
mod shape;

use super::config::Config;
use super::{Architecture, Registration};
use crate::Result;
use crate::checkpoint::{Expected, Store};
use crate::nn::{Block, CacheShape, LinearSpec, Loader, TokenInputs};
use block::GemmaBlock;
use per_layer::PerLayer;
use shape::{Gemma4, Source};

pub(super) const REGISTRATION: Registration = Registration {
    model_types: &["gemma4", "gemma4_text", "gemma4_unified"],
    config: config::read,
    gguf: &[],
};

impl Architecture for Gemma4 {
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
        Ok(Box::new(GemmaBlock::load(config, self, layer, prefix, loader)?))
    }

    fn outer_tensors(&self, config: &Config) -> Vec<(&'static str, Expected)> {
        self.outer(config)
    }

    fn load_token_inputs(
        &self,
        config: &Config,
        loader: &mut Loader,
    ) -> Result<Option<Box<dyn TokenInputs>>> {
        let Some(shape) = self.per_layer else { return Ok(None) };
        Ok(Some(Box::new(PerLayer::load(config, shape, loader)?)))
    }

    fn normalize(&self, config: &Config, store: &mut Store) {
        names::normalize(store, config, self);
    }

    fn embedding_scale(&self, config: &Config) -> Option<f32> {
        Some((config.hidden_size as f32).sqrt())
    }

    fn window(&self) -> Option<usize> {
        Some(self.window)
    }

    fn layer_window(&self, layer: usize) -> Option<usize> {
        self.window_of(self.layers[layer].kind)
    }

    fn caches(&self, _config: &Config) -> Vec<CacheShape> {
        self.cache_shapes()
    }

    fn cache_of(&self, layer: usize) -> usize {
        match self.layers[layer].keys {
            Source::Shared { layer } => layer,
            Source::Projected | Source::KeysAreValues => layer,
        }
    }
}
