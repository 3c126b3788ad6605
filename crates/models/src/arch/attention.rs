//! Grouped-query attention with rotary embedding, as most families have it.

use mlx_rs::Array;

use super::config::Config;
use super::names::{K, K_BIAS, K_NORM, O, Q, Q_BIAS, Q_NORM, V, V_BIAS};
use crate::Result;
use crate::checkpoint::Expected;
use crate::nn::{
    AttentionMode, AttentionSpec, Batch, KeySource, LayerAdapter, Linear, LinearSpec, Loader,
    Mixer, Projections, Recomputed, RmsNorm, attend,
};

/// What distinguishes the attention of a layer from that of other layers and families. The sizes are
/// those of [`Config`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct AttentionShape {
    /// Whether the projections of queries, keys and values have biases.
    pub biases: bool,
    /// Whether each head of queries and keys is normed.
    pub norms: bool,
    /// The index of its rotary frequencies.
    pub rope: usize,
    /// Scores are multiplied by this.
    pub scale: f32,
    /// How many tokens each one attends to, itself included; without a window, all before it.
    pub window: Option<usize>,
}

impl AttentionShape {
    /// The projections.
    pub fn linears(config: &Config) -> [LinearSpec; 4] {
        let hidden = config.hidden_size;
        let queries = config.num_heads * config.head_dim;
        let keys = config.num_kv_heads * config.head_dim;
        [
            LinearSpec::new(Q, hidden, queries),
            LinearSpec::new(K, hidden, keys),
            LinearSpec::new(V, hidden, keys),
            LinearSpec::new(O, queries, hidden),
        ]
    }

    /// The other tensors, by path.
    pub fn tensors(self, config: &Config) -> Vec<(&'static str, Expected)> {
        let mut tensors = Vec::new();
        if self.biases {
            let [queries, keys, values, _] = Self::linears(config).map(|spec| spec.out_features);
            let biases = [(Q_BIAS, queries), (K_BIAS, keys), (V_BIAS, values)];
            tensors.extend(biases.map(|(path, length)| (path, Expected::Parameter(length))));
        }
        if self.norms {
            tensors.extend([Q_NORM, K_NORM].map(|path| (path, Expected::Vector(config.head_dim))));
        }
        tensors
    }
}

/// The attention of one layer.
#[derive(Clone)]
pub(super) struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    /// Of queries, keys and values.
    biases: Option<[Array; 3]>,
    /// Of queries and keys.
    norms: Option<[RmsNorm; 2]>,
    shape: AttentionShape,
    heads: i32,
    kv_heads: i32,
    head_dim: i32,
}

impl Attention {
    /// Takes its tensors, all below `prefix`.
    pub fn load(
        config: &Config,
        shape: AttentionShape,
        prefix: &str,
        loader: &mut Loader,
    ) -> Result<Self> {
        let path = |path: &str| format!("{prefix}.{path}");
        let norm = |name, loader: &mut Loader| loader.norm(&path(name), config.norm_eps);
        Ok(Self {
            q: loader.linear(&path(Q))?,
            k: loader.linear(&path(K))?,
            v: loader.linear(&path(V))?,
            o: loader.linear(&path(O))?,
            biases: match shape.biases {
                true => Some([
                    loader.parameter(&path(Q_BIAS))?,
                    loader.parameter(&path(K_BIAS))?,
                    loader.parameter(&path(V_BIAS))?,
                ]),
                false => None,
            },
            norms: match shape.norms {
                true => Some([norm(Q_NORM, loader)?, norm(K_NORM, loader)?]),
                false => None,
            },
            shape,
            heads: config.num_heads as i32,
            kv_heads: config.num_kv_heads as i32,
            head_dim: config.head_dim as i32,
        })
    }

    /// Queries, keys and values, `[1, T, heads, d]`, before norms and rotation.
    fn projected(&self, x: &Recomputed, adapter: &LayerAdapter) -> Result<[Array; 3]> {
        let [queries, keys, values] = x.apply([
            (&self.q, adapter.get(Q)),
            (&self.k, adapter.get(K)),
            (&self.v, adapter.get(V)),
        ])?;
        let [queries, keys, values] = match &self.biases {
            Some([q, k, v]) => [queries.add(q)?, keys.add(k)?, values.add(v)?],
            None => [queries, keys, values],
        };
        let heads = |y: Array, count: i32| y.reshape(&[1, -1, count, self.head_dim]);
        Ok([
            heads(queries, self.heads)?,
            heads(keys, self.kv_heads)?,
            heads(values, self.kv_heads)?,
        ])
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
        let [queries, keys, values] = self.projected(x, adapter)?;
        let [queries, keys] = match &self.norms {
            Some([q, k]) => [q.apply(&queries)?, k.apply(&keys)?],
            None => [queries, keys],
        };
        let AttentionShape { rope, scale, window, .. } = self.shape;
        let qkv = Projections {
            queries: batch.rotate(rope, &queries)?,
            keys: batch.rotate(rope, &keys)?,
            values,
        };
        let spec = AttentionSpec { scale, window, keys: KeySource::Own };
        let output = attend(&qkv, &batch.attention, spec, mode)?;
        self.o.apply(&output, adapter.get(O))
    }
}
