//! The Llama family: full attention and a gated MLP in every layer.

mod config;
mod gguf;

use mlx_rs::Array;

use super::config::Config;
use super::gguf_layout::GgufLayout;
use super::names::{INPUT_NORM, K, O, POST_ATTENTION_NORM, Q, V};
use super::{Architecture, GgufRegistration, Registration};
use crate::Result;
use crate::checkpoint::Expected;
use crate::nn::adapter::LayerAdapter;
use crate::nn::attention::{AttentionMode, AttentionSpec, KeySource, Projections, attend};
use crate::nn::batch::Batch;
use crate::nn::block::Block;
use crate::nn::linear::Linear;
use crate::nn::linear_spec::LinearSpec;
use crate::nn::loader::Loader;
use crate::nn::mlp::{DOWN, GATE, UP};
use crate::nn::pre_norm::{Mixer, PreNorm};
use crate::nn::recompute::Recomputed;

pub(super) const REGISTRATION: Registration = Registration {
    model_types: &["llama"],
    config: config::read,
    gguf: Some(GgufRegistration { architecture: gguf::LAYOUT.architecture, open: gguf::open }),
};

#[derive(Debug)]
struct Llama;

impl Architecture for Llama {
    fn linears(&self, config: &Config, _layer: usize) -> Vec<LinearSpec> {
        linears(config).to_vec()
    }

    fn tensors(&self, config: &Config, _layer: usize) -> Vec<(&'static str, Expected)> {
        let norm = Expected::Vector(config.hidden_size);
        vec![(INPUT_NORM, norm), (POST_ATTENTION_NORM, norm)]
    }

    fn load(
        &self,
        config: &Config,
        _layer: usize,
        prefix: &str,
        loader: &mut Loader,
    ) -> Result<Box<dyn Block>> {
        let attention = Attention::load(config, prefix, loader)?;
        Ok(Box::new(PreNorm::load(attention, config.norm_eps, prefix, loader)?))
    }

    fn gguf(&self) -> Option<GgufLayout> {
        Some(gguf::LAYOUT)
    }
}

fn linears(config: &Config) -> [LinearSpec; 7] {
    let hidden = config.hidden_size;
    let queries = config.num_heads * config.head_dim;
    let keys = config.num_kv_heads * config.head_dim;
    [
        LinearSpec::new(Q, hidden, queries),
        LinearSpec::new(K, hidden, keys),
        LinearSpec::new(V, hidden, keys),
        LinearSpec::new(O, queries, hidden),
        LinearSpec::new(GATE, hidden, config.intermediate_size),
        LinearSpec::new(UP, hidden, config.intermediate_size),
        LinearSpec::new(DOWN, config.intermediate_size, hidden),
    ]
}

/// Grouped-query attention with rotary embedding.
#[derive(Clone)]
struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    heads: i32,
    kv_heads: i32,
    head_dim: i32,
}

impl Attention {
    fn load(config: &Config, prefix: &str, loader: &mut Loader) -> Result<Self> {
        let mut linear = |path: &str| loader.linear(&format!("{prefix}.{path}"));
        Ok(Self {
            q: linear(Q)?,
            k: linear(K)?,
            v: linear(V)?,
            o: linear(O)?,
            heads: config.num_heads as i32,
            kv_heads: config.num_kv_heads as i32,
            head_dim: config.head_dim as i32,
        })
    }
}

impl Mixer for Attention {
    fn forward(
        &self,
        x: &Recomputed,
        batch: &Batch,
        adapter: &LayerAdapter,
        mode: AttentionMode<'_>,
    ) -> Result<Array> {
        let heads = |y: Array, count: i32| y.reshape(&[1, -1, count, self.head_dim]);
        let [queries, keys, values] = x.apply([
            (&self.q, adapter.get(Q)),
            (&self.k, adapter.get(K)),
            (&self.v, adapter.get(V)),
        ])?;
        let qkv = Projections {
            queries: batch.rotate(0, &heads(queries, self.heads)?)?,
            keys: batch.rotate(0, &heads(keys, self.kv_heads)?)?,
            values: heads(values, self.kv_heads)?,
        };
        let scale = (self.head_dim as f32).sqrt().recip();
        let spec = AttentionSpec { scale, window: None, keys: KeySource::Own };
        let output = attend(&qkv, &batch.attention, spec, mode)?;
        self.o.apply(&output, adapter.get(O))
    }

    fn arrays(&self) -> Vec<&Array> {
        let Self { q, k, v, o, .. } = self;
        [q, k, v, o].into_iter().flat_map(Linear::arrays).collect()
    }
}
