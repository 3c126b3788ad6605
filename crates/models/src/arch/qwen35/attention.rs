//! Qwen3.5's attention: normed queries and keys of which some values rotate, and a gate on the
//! output that comes with the queries.

use mlx_rs::{Array, ops};

use super::shape::{K, K_NORM, O, Q, Q_NORM, V};
use crate::Result;
use crate::adapter::LayerAdapter;
use crate::nn::attention::{Attend, Keys, Look, Projections, attend};
use crate::checkpoint::Tensors;
use crate::arch::config::Config;
use crate::ext::fused::{Activation, gate, rms_norm};
use crate::model::layer::Batch;
use crate::nn::linear::Linear;
use crate::nn::recompute::Made;

#[derive(Clone)]
pub(crate) struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    q_norm: Array,
    k_norm: Array,
    heads: i32,
    kv_heads: i32,
    head_dim: i32,
    /// So many first values of a head rotate.
    rotated: i32,
    norm_eps: f32,
}

impl Attention {
    /// Takes the attention's tensors of one layer, all below `prefix`.
    pub fn load(config: &Config, prefix: &str, tensors: &mut Tensors) -> Result<Self> {
        let path = |path: &str| format!("{prefix}.{path}");
        Ok(Self {
            q: tensors.linear(&path(Q))?,
            k: tensors.linear(&path(K))?,
            v: tensors.linear(&path(V))?,
            o: tensors.linear(&path(O))?,
            q_norm: tensors.vector(&path(Q_NORM))?,
            k_norm: tensors.vector(&path(K_NORM))?,
            heads: config.num_heads as i32,
            kv_heads: config.num_kv_heads as i32,
            head_dim: config.head_dim as i32,
            rotated: config.rope_frequencies.first().map_or(0, |pairs| 2 * pairs.len() as i32),
            norm_eps: config.norm_eps,
        })
    }

    pub fn forward(
        &self,
        x: &Made,
        batch: &Batch,
        adapter: &LayerAdapter,
        mode: Attend<'_>,
    ) -> Result<Array> {
        let heads = |y: Array, count: i32| y.reshape(&[1, -1, count, self.head_dim]);
        // Of each head first the query, then the gate.
        let [both, keys, values] = x.through([
            (&self.q, adapter.get(Q)),
            (&self.k, adapter.get(K)),
            (&self.v, adapter.get(V)),
        ])?;
        let both = both.reshape(&[1, -1, self.heads, 2 * self.head_dim])?;
        let halves = both.split_at_indices(&[self.head_dim], -1)?;
        let [queries, gates] = halves.as_slice() else { return Ok(both) };
        let keys = heads(keys, self.kv_heads)?;
        let qkv = Projections {
            queries: self.rotate(&rms_norm(queries, Some(&self.q_norm), self.norm_eps)?, batch)?,
            keys: self.rotate(&rms_norm(&keys, Some(&self.k_norm), self.norm_eps)?, batch)?,
            values: heads(values, self.kv_heads)?,
        };
        let scale = (self.head_dim as f32).sqrt().recip();
        let look = Look { scale, window: None, keys: Keys::Own };
        let output = attend(&qkv, batch, look, mode)?;
        let gated = gate(Activation::Sigmoid, &gates.reshape(output.shape())?, &output)?;
        self.o.apply(&gated, adapter.get(O))
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

    pub fn arrays(&self) -> Vec<&Array> {
        let Self { q, k, v, o, q_norm, k_norm, .. } = self;
        let linears = [q, k, v, o].into_iter().flat_map(Linear::arrays);
        linears.chain([q_norm, k_norm]).collect()
    }
}
