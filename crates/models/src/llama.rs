//! The Llama family: attention and gated MLP, each behind an RMS norm and a residual sum.

use mlx_rs::Array;

use crate::Result;
use crate::adapter::LayerAdapter;
use crate::attention::{Attend, Keys, Look, Projections, attend};
use crate::checkpoint::{Expected, Tensors};
use crate::config::Config;
use crate::fused::Activation;
use crate::layer::{Batch, Flow};
use crate::linear::{Linear, LinearSpec};
use crate::made::Made;
use crate::mlp::{DOWN, GATE, Mlp, UP};
use crate::names::{INPUT_NORM, K, O, POST_ATTENTION_NORM, Q, V};

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
    let spec = |path, in_features, out_features| LinearSpec {
        path,
        in_features,
        out_features,
        experts: None,
    };
    [
        spec(Q, hidden, queries),
        spec(K, hidden, keys),
        spec(V, hidden, keys),
        spec(O, queries, hidden),
        spec(GATE, hidden, config.intermediate_size),
        spec(UP, hidden, config.intermediate_size),
        spec(DOWN, config.intermediate_size, hidden),
    ]
}

/// One decoder layer.
#[derive(Clone)]
pub(crate) struct Block {
    attention: Attention,
    mlp: Mlp,
    input_norm: Array,
    post_attention_norm: Array,
    norm_eps: f32,
}

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

impl Block {
    /// Takes the layer's tensors, all below `prefix`.
    pub fn load(config: &Config, prefix: &str, tensors: &mut Tensors) -> Result<Self> {
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
        Ok(Self {
            attention,
            mlp: Mlp::load(prefix, Activation::Silu, tensors)?,
            input_norm: tensors.vector(&format!("{prefix}.{INPUT_NORM}"))?,
            post_attention_norm: tensors.vector(&format!("{prefix}.{POST_ATTENTION_NORM}"))?,
            norm_eps: config.norm_eps,
        })
    }

    pub fn forward(
        &self,
        input: &Flow,
        batch: &Batch,
        adapter: &LayerAdapter,
        attend: Attend<'_>,
    ) -> Result<Flow> {
        let x = &input.hidden;
        let normed = Made::norm(x, &self.input_norm, self.norm_eps);
        let x = x.add(self.attention.forward(&normed, batch, adapter, attend)?)?;
        let normed = Made::norm(&x, &self.post_attention_norm, self.norm_eps);
        let hidden = x.add(self.mlp.forward(&normed, adapter)?)?;
        Ok(Flow { hidden, carried: input.carried.clone() })
    }

    pub fn arrays(&self) -> Vec<&Array> {
        let Attention { q, k, v, o, .. } = &self.attention;
        let mut arrays = vec![&self.input_norm, &self.post_attention_norm];
        arrays.extend([q, k, v, o].into_iter().flat_map(Linear::arrays));
        arrays.extend(self.mlp.arrays());
        arrays
    }
}

impl Attention {
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
}
