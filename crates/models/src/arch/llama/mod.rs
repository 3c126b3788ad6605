//! The Llama family: attention and gated MLP, each behind an RMS norm and a residual sum.

use mlx_rs::Array;

use crate::Result;
use crate::adapter::LayerAdapter;
use crate::nn::attention::{Attend, Keys, Look, Projections, attend};
use crate::checkpoint::{Expected, Tensors};
use crate::arch::config::Config;
use crate::model::layer::Batch;
use crate::nn::linear::{Linear, LinearSpec};
use crate::nn::recompute::Made;
use crate::nn::mlp::{DOWN, GATE, UP};
use crate::arch::names::{INPUT_NORM, K, O, POST_ATTENTION_NORM, Q, V};
use crate::nn::pre_norm::{Mixer, PreNorm};

/// Every tensor of a layer, by its path below the layer.
pub(crate) fn expected(config: &Config) -> Vec<(&'static str, Expected)> {
    let norm = Expected::Vector(config.hidden_size);
    let mut expected = vec![(INPUT_NORM, norm), (POST_ATTENTION_NORM, norm)];
    expected.extend(linears(config).map(|spec| {
        (spec.path, Expected::Matrix { rows: spec.out_features, columns: spec.in_features })
    }));
    expected
}

/// The linear layers of a layer, in the order they are applied.
pub(crate) fn linears(config: &Config) -> [LinearSpec; 7] {
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

/// One decoder layer.
pub(crate) type Block = PreNorm<Attention>;

/// Every query sees all keys before it.
#[derive(Clone)]
pub(crate) struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    heads: i32,
    kv_heads: i32,
    head_dim: i32,
}

/// Takes the tensors of a layer, all below `prefix`.
pub(crate) fn load(config: &Config, prefix: &str, tensors: &mut Tensors) -> Result<Block> {
    let mut linear = |path: &str| tensors.linear(&format!("{prefix}.{path}"));
    let attention = Attention {
        q: linear(Q)?,
        k: linear(K)?,
        v: linear(V)?,
        o: linear(O)?,
        heads: config.num_heads as i32,
        kv_heads: config.num_kv_heads as i32,
        head_dim: config.head_dim as i32,
    };
    PreNorm::load(attention, config, prefix, tensors)
}

impl Mixer for Attention {
    fn forward(
        &self,
        x: &Made,
        batch: &Batch,
        adapter: &LayerAdapter,
        mode: Attend<'_>,
    ) -> Result<Array> {
        let heads = |y: Array, count: i32| y.reshape(&[1, -1, count, self.head_dim]);
        let [queries, keys, values] = x.through([
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
        let look = Look { scale, window: None, keys: Keys::Own };
        let output = attend(&qkv, batch, look, mode)?;
        self.o.apply(&output, adapter.get(O))
    }

    fn arrays(&self) -> Vec<&Array> {
        let Self { q, k, v, o, .. } = self;
        [q, k, v, o].into_iter().flat_map(Linear::arrays).collect()
    }
}
