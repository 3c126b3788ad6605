//! The layers of a Qwen3.5 and their tensors.

use crate::arch::config::Config;
pub(super) use crate::arch::names::{INPUT_NORM, K, K_NORM, O, POST_ATTENTION_NORM, Q, Q_NORM, V};
use crate::checkpoint::Expected;
use crate::nn::{Activations, CHUNK, FeedForward, LinearSpec, StateShape};

pub(super) const QKV: &str = "linear_attn.in_proj_qkv";
pub(super) const Z: &str = "linear_attn.in_proj_z";
pub(super) const B: &str = "linear_attn.in_proj_b";
pub(super) const A: &str = "linear_attn.in_proj_a";
pub(super) const OUT: &str = "linear_attn.out_proj";
pub(super) const CONVOLUTION: &str = "linear_attn.conv1d";
pub(super) const A_LOG: &str = "linear_attn.A_log";
pub(super) const DT_BIAS: &str = "linear_attn.dt_bias";
pub(super) const OUTPUT_NORM: &str = "linear_attn.norm";

/// A Qwen3.5 model, beside the dimensions that all families have.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Qwen35 {
    pub layers: Vec<Kind>,
    pub delta: DeltaShape,
    /// What follows the attention of each layer.
    pub feed_forward: FeedForward,
}

/// The attention of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Full attention.
    Attention,
    /// Gated-delta linear attention: one state, updated by each token.
    Delta,
}

/// Sizes of gated-delta linear attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DeltaShape {
    pub key_heads: usize,
    pub value_heads: usize,
    pub key_dim: usize,
    pub value_dim: usize,
    /// Tokens that the convolution covers, the current one included.
    pub taps: usize,
}

impl DeltaShape {
    /// Width of all keys of a token.
    pub fn keys(&self) -> usize {
        self.key_heads * self.key_dim
    }

    /// Width of all values of a token.
    pub fn values(&self) -> usize {
        self.value_heads * self.value_dim
    }

    /// Width of queries, keys and values, which go through the convolution.
    pub fn channels(&self) -> usize {
        2 * self.keys() + self.values()
    }

    /// What a layer caches of each row.
    pub fn state(&self) -> StateShape {
        StateShape {
            inputs: [self.taps - 1, self.channels()],
            state: [self.value_heads, self.value_dim, self.key_dim],
        }
    }

    /// Values kept for the backward pass, per token: inputs of convolution and norms, their copies in
    /// chunks, and the states at the boundaries of chunks.
    pub fn activations(&self) -> Activations {
        let states = self.value_heads * self.value_dim * self.key_dim / CHUNK;
        let kept_per_token = 2 * self.channels() + self.values() + states;
        Activations { kept_per_token, at_once: 0 }
    }
}

impl Qwen35 {
    /// The tensors of a layer of this kind beside its linear layers, by path.
    pub fn tensors_of(&self, config: &Config, kind: Kind) -> Vec<(&'static str, Expected)> {
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
        expected
    }

    /// The linear layers of a layer of this kind, in the order they are applied.
    pub fn linears_of(&self, config: &Config, kind: Kind) -> Vec<LinearSpec> {
        let hidden = config.hidden_size;
        let linear = LinearSpec::new;
        let mut linears = match kind {
            Kind::Attention => {
                let queries = config.num_heads * config.head_dim;
                let keys = config.num_kv_heads * config.head_dim;
                vec![
                    // A gate for each value of a query.
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
        linears.extend(self.feed_forward.linears(hidden));
        linears
    }
}
