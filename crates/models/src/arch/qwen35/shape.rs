//! What each layer of a Qwen3.5 has, settled once from its configuration.

use crate::nn::cache::Memory;
use crate::checkpoint::Expected;
use crate::arch::config::Config;
use crate::nn::gated_delta::CHUNK;
use crate::nn::linear::LinearSpec;
use crate::nn::mlp::{DOWN, GATE, UP};
pub(super) use crate::arch::names::{INPUT_NORM, K, K_NORM, O, POST_ATTENTION_NORM, Q, Q_NORM, V};

pub(super) const QKV: &str = "linear_attn.in_proj_qkv";
pub(super) const Z: &str = "linear_attn.in_proj_z";
pub(super) const B: &str = "linear_attn.in_proj_b";
pub(super) const A: &str = "linear_attn.in_proj_a";
pub(super) const OUT: &str = "linear_attn.out_proj";
pub(super) const CONVOLUTION: &str = "linear_attn.conv1d";
pub(super) const A_LOG: &str = "linear_attn.A_log";
pub(super) const DT_BIAS: &str = "linear_attn.dt_bias";
pub(super) const OUTPUT_NORM: &str = "linear_attn.norm";

/// What a Qwen3.5 has beyond the dimensions that all families share.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shape {
    pub layers: Vec<Kind>,
    pub delta: DeltaShape,
}

/// How a layer remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// By keys and values of all tokens.
    Attention,
    /// By one state, which the gated delta rule changes with each token.
    Delta,
}

/// The heads of the gated delta rule and the convolution before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeltaShape {
    pub key_heads: usize,
    pub value_heads: usize,
    pub key_dim: usize,
    pub value_dim: usize,
    /// Tokens that the convolution sees, the present one included.
    pub taps: usize,
}

impl DeltaShape {
    /// Values of all keys of a token.
    pub fn keys(&self) -> usize {
        self.key_heads * self.key_dim
    }

    /// All values of a token.
    pub fn values(&self) -> usize {
        self.value_heads * self.value_dim
    }

    /// Queries, keys and values, which go through the convolution.
    pub fn channels(&self) -> usize {
        2 * self.keys() + self.values()
    }
}

impl Shape {
    /// What each layer remembers of a row.
    pub fn memories(&self, config: &Config) -> Vec<Memory> {
        let DeltaShape { value_heads, key_dim, value_dim, taps, .. } = self.delta;
        let memory = |kind: &Kind| match kind {
            Kind::Attention => {
                let (kv_heads, head_dim) = (config.num_kv_heads, config.head_dim);
                Memory::Keys { kv_heads, head_dim, window: None }
            }
            Kind::Delta => Memory::State {
                inputs: [taps - 1, self.delta.channels()],
                state: [value_heads, value_dim, key_dim],
            },
        };
        self.layers.iter().map(memory).collect()
    }

    /// Numbers that a layer of the gated delta rule leaves for its backward pass, for each token:
    /// what the convolution and the norms go through, the chunks' copies of it, and the states at
    /// the boundaries. `None` for a layer of attention.
    pub fn values_between(&self, layer: usize) -> Option<usize> {
        let DeltaShape { value_heads, key_dim, value_dim, .. } = self.delta;
        let states = value_heads * value_dim * key_dim / CHUNK;
        let delta = self.layers.get(layer)? == &Kind::Delta;
        delta.then_some(2 * self.delta.channels() + self.delta.values() + states)
    }

    /// The tensors of one layer, by their paths below it.
    pub fn expected_in_layer(&self, config: &Config, kind: Kind) -> Vec<(&'static str, Expected)> {
        let DeltaShape { value_heads, value_dim, taps, .. } = self.delta;
        let hidden = Expected::Vector(config.hidden_size);
        let mut expected = vec![(INPUT_NORM, hidden), (POST_ATTENTION_NORM, hidden)];
        match kind {
            Kind::Attention => {
                let head = Expected::Vector(config.head_dim);
                expected.extend([(Q_NORM, head), (K_NORM, head)]);
            }
            Kind::Delta => expected.extend([
                (CONVOLUTION, Expected::Convolution { channels: self.delta.channels(), taps }),
                (A_LOG, Expected::Parameter(value_heads)),
                (DT_BIAS, Expected::Parameter(value_heads)),
                (OUTPUT_NORM, Expected::Vector(value_dim)),
            ]),
        }
        expected.extend(self.linears(config, kind).into_iter().map(|spec| {
            (spec.path, Expected::Matrix { rows: spec.out_features, columns: spec.in_features })
        }));
        expected
    }

    /// The linear layers of one layer, in the order they are applied.
    pub fn linears(&self, config: &Config, kind: Kind) -> Vec<LinearSpec> {
        let hidden = config.hidden_size;
        let linear = LinearSpec::new;
        let mut linears = match kind {
            Kind::Attention => {
                let queries = config.num_heads * config.head_dim;
                let keys = config.num_kv_heads * config.head_dim;
                vec![
                    // A gate for each value beside the query.
                    linear(Q, hidden, 2 * queries),
                    linear(K, hidden, keys),
                    linear(V, hidden, keys),
                    linear(O, queries, hidden),
                ]
            }
            Kind::Delta => vec![
                linear(QKV, hidden, self.delta.channels()),
                linear(Z, hidden, self.delta.values()),
                linear(B, hidden, self.delta.value_heads),
                linear(A, hidden, self.delta.value_heads),
                linear(OUT, self.delta.values(), hidden),
            ],
        };
        linears.extend([
            linear(GATE, hidden, config.intermediate_size),
            linear(UP, hidden, config.intermediate_size),
            linear(DOWN, config.intermediate_size, hidden),
        ]);
        linears
    }
}
