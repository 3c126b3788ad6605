//! The Gemma 3 family, text part.
//!
//! Five of six layers attend through a window ("sliding"), the sixth to everything before it ("full"), each
//! kind with its own rotary frequencies. Queries and keys are normed; attention and MLP have a norm before
//! and one after them. safetensors files store `weight - 1` of every norm, GGUF files the weight.

mod block;
mod config;
mod gguf;

use half::bf16;

use super::attention::AttentionShape;
use super::config::Config;
use super::gguf_layout::GgufLayout;
use super::names::{INPUT_NORM, POST_ATTENTION_NORM, POST_MLP_NORM, PRE_MLP_NORM, text_name};
use super::sliding::Kind;
use super::{Architecture, GgufRegistration, Registration};
use crate::Result;
use crate::checkpoint::{Expected, Store};
use crate::nn::{Block, CacheShape, LinearSpec, Loader, Mlp};
use block::SandwichNorm;

pub(super) const REGISTRATION: Registration = Registration {
    model_types: &["gemma3", "gemma3_text"],
    config: config::read,
    gguf: &[GgufRegistration { layout: gguf::LAYOUT, open: gguf::open }],
};

/// A Gemma 3 model, beside the dimensions that all families have.
#[derive(Clone, Debug, PartialEq)]
struct Gemma3 {
    /// The kind of each layer.
    kinds: Vec<Kind>,
    /// How many tokens a sliding layer attends to, the current one included.
    window: usize,
    /// Attention scores are multiplied by this.
    scale: f32,
    /// Added to the stored weights of norms.
    norm_offset: f32,
}

impl Gemma3 {
    fn attention(&self, layer: usize) -> AttentionShape {
        let kind = self.kinds[layer];
        AttentionShape {
            biases: false,
            norms: true,
            rope: kind as usize,
            scale: self.scale,
            window: kind.window(self.window),
        }
    }
}

impl Architecture for Gemma3 {
    fn linears(&self, config: &Config, _layer: usize) -> Vec<LinearSpec> {
        let attention = AttentionShape::linears(config).into_iter();
        attention.chain(Mlp::linears(config.hidden_size, config.intermediate_size)).collect()
    }

    fn tensors(&self, config: &Config, layer: usize) -> Vec<(&'static str, Expected)> {
        let norms = [INPUT_NORM, POST_ATTENTION_NORM, PRE_MLP_NORM, POST_MLP_NORM].into_iter();
        let norms = norms.map(|path| (path, Expected::Vector(config.hidden_size)));
        norms.chain(self.attention(layer).tensors(config)).collect()
    }

    fn load(
        &self,
        config: &Config,
        layer: usize,
        prefix: &str,
        loader: &mut Loader,
    ) -> Result<Box<dyn Block>> {
        Ok(Box::new(SandwichNorm::load(config, self.attention(layer), prefix, loader)?))
    }

    fn normalize(&self, config: &Config, store: &mut Store) {
        store.rename(|name| text_name(name, config.root));
    }

    /// In bf16 whatever the checkpoint's type, as in training.
    fn embedding_scale(&self, config: &Config) -> Option<f32> {
        Some(bf16::from_f32((config.hidden_size as f32).sqrt()).to_f32())
    }

    fn norm_offset(&self) -> f32 {
        self.norm_offset
    }

    fn exceeds_f16(&self) -> bool {
        true
    }

    fn window(&self) -> Option<usize> {
        Some(self.window)
    }

    fn layer_window(&self, layer: usize) -> Option<usize> {
        self.kinds[layer].window(self.window)
    }

    fn caches(&self, config: &Config) -> Vec<CacheShape> {
        let Config { num_kv_heads: kv_heads, head_dim, .. } = *config;
        let cache =
            |kind: &Kind| CacheShape::Keys { kv_heads, head_dim, window: kind.window(self.window) };
        self.kinds.iter().map(cache).collect()
    }

    fn gguf(&self) -> Option<GgufLayout> {
        Some(gguf::LAYOUT)
    }
}
