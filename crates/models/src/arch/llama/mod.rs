//! Llama and the families that differ from it in details: full attention in every layer, and a gated MLP or experts.
//!
//! Mistral may attend through a window. Qwen2 has biases on queries, keys and values, Qwen3 norms of the
//! heads of queries and keys.

mod config;
mod gguf;

use super::attention::{Attention, AttentionShape};
use super::config::Config;
use super::gguf_layout::GgufLayout;
use super::names::{INPUT_NORM, POST_ATTENTION_NORM};
use super::{Architecture, Registration, experts};
use crate::Result;
use crate::checkpoint::{Expected, Store};
use crate::nn::{Block, CacheShape, FeedForward, LinearSpec, Loader, PreNorm};

pub(super) const REGISTRATION: Registration = Registration {
    model_types: &["llama", "mistral", "qwen2", "qwen3", "qwen3_moe"],
    config: config::read,
    gguf: &gguf::REGISTRATIONS,
};

#[derive(Clone, Debug)]
struct Llama {
    attention: AttentionShape,
    /// What follows the attention of each layer.
    feed_forwards: Vec<FeedForward>,
    gguf: GgufLayout,
}

impl Architecture for Llama {
    fn linears(&self, config: &Config, layer: usize) -> Vec<LinearSpec> {
        let attention = AttentionShape::linears(config).into_iter();
        attention.chain(self.feed_forwards[layer].linears(config.hidden_size)).collect()
    }

    fn tensors(&self, config: &Config, _layer: usize) -> Vec<(&'static str, Expected)> {
        let norms = [INPUT_NORM, POST_ATTENTION_NORM].into_iter();
        let norms = norms.map(|path| (path, Expected::Vector(config.hidden_size)));
        norms.chain(self.attention.tensors(config)).collect()
    }

    fn load(
        &self,
        config: &Config,
        layer: usize,
        prefix: &str,
        loader: &mut Loader,
    ) -> Result<Box<dyn Block>> {
        let attention = Attention::load(config, self.attention, prefix, loader)?;
        let feed_forward = self.feed_forwards[layer];
        Ok(Box::new(PreNorm::load(attention, feed_forward, config.norm_eps, prefix, loader)?))
    }

    fn normalize(&self, config: &Config, store: &mut Store) {
        for (layer, feed_forward) in self.feed_forwards.iter().enumerate() {
            experts::normalize_sparse(store, &config.layer_prefix(layer), *feed_forward);
        }
    }

    fn window(&self) -> Option<usize> {
        self.attention.window
    }

    fn layer_window(&self, _layer: usize) -> Option<usize> {
        self.attention.window
    }

    fn caches(&self, config: &Config) -> Vec<CacheShape> {
        let Config { num_kv_heads: kv_heads, head_dim, num_layers, .. } = *config;
        let window = self.attention.window;
        vec![CacheShape::Keys { kv_heads, head_dim, window }; num_layers]
    }

    fn gguf(&self) -> Option<GgufLayout> {
        Some(self.gguf)
    }
}
