//! Qwen3.5's attention: normed queries and keys with partial rotary embedding, and an output gate that
//! is projected together with the queries.

use mlx_rs::{Array, ops};

use super::shape::{K, K_NORM, O, Q, Q_NORM, V};
use crate::Result;
use crate::arch::config::Config;
use crate::backend::Backend;
use crate::ext::fused::{Activation, gate};
use crate::nn::{
    AttentionMode, AttentionSpec, Batch, KeySource, LayerAdapter, Linear, Loader, Mixer,
    Projections, Recomputed, RmsNorm, attend,
};

#[derive(Clone)]
pub(super) struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    q_norm: RmsNorm,
    k_norm: RmsNorm,
    heads: i32,
    kv_heads: i32,
    head_dim: i32,
    /// How many values of a head rotate, the first ones.
    rotated: i32,
    backend: Backend,
}

impl Attention {
    /// Takes the attention's tensors of one layer, all below `prefix`.
    pub fn load(config: &Config, prefix: &str, loader: &mut Loader) -> Result<Self> {
        let path = |path: &str| format!("{prefix}.{path}");
        Ok(Self {
            q: loader.linear(&path(Q))?,
            k: loader.linear(&path(K))?,
            v: loader.linear(&path(V))?,
            o: loader.linear(&path(O))?,
            q_norm: loader.norm(&path(Q_NORM), config.norm_eps)?,
            k_norm: loader.norm(&path(K_NORM), config.norm_eps)?,
            heads: config.num_heads as i32,
            kv_heads: config.num_kv_heads as i32,
            head_dim: config.head_dim as i32,
            rotated: config.rope_frequencies.first().map_or(0, |pairs| 2 * pairs.len() as i32),
            backend: loader.backend(),
        })
    }

    fn rotate(&self, x: &Array, batch: &Batch) -> Result<Array> {
        if self.rotated == self.head_dim {
            return batch.rotate(0, x);
        }
        let mut parts = x.split_at_indices(&[self.rotated], -1)?;
        if let Some(first) = parts.first_mut() {
            *first = batch.rotate(0, first)?;
        }
        Ok(ops::concatenate(&parts, -1)?)
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
        // Each head has its query, then its gate.
        let [both, keys, values] = x.apply([
            (&self.q, adapter.get(Q)),
            (&self.k, adapter.get(K)),
            (&self.v, adapter.get(V)),
        ])?;
        let both = both.reshape(&[1, -1, self.heads, 2 * self.head_dim])?;
        let halves = both.split_at_indices(&[self.head_dim], -1)?;
        let [queries, gates] = halves.as_slice() else { return Ok(both) };
        let keys = heads(keys, self.kv_heads)?;
        let qkv = Projections {
            queries: self.rotate(&self.q_norm.apply(queries)?, batch)?,
            keys: self.rotate(&self.k_norm.apply(&keys)?, batch)?,
            values: heads(values, self.kv_heads)?,
        };
        let scale = (self.head_dim as f32).sqrt().recip();
        let spec = AttentionSpec { scale, window: None, keys: KeySource::Own };
        let output = attend(&qkv, &batch.attention, spec, mode)?;
        let gates = gates.reshape(output.shape())?;
        let gated = gate(self.backend, Activation::Sigmoid, &gates, &output)?;
        self.o.apply(&gated, adapter.get(O))
    }
}
