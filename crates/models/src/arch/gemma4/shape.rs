//! The layers of a Gemma 4 and their tensors.

use std::collections::BTreeSet;

use crate::arch::config::Config;
pub(super) use crate::arch::names::{
    INPUT_NORM, K, K_NORM, O, POST_ATTENTION_NORM, POST_MLP_NORM, PRE_MLP_NORM, Q, Q_NORM, V,
};
pub(super) use crate::arch::sliding::Kind;
use crate::checkpoint::Expected;
use crate::nn::{CacheShape, LinearSpec, Mlp, MlpPaths};

pub(super) const SCALAR: &str = "layer_scalar";

pub(super) const ROUTER: &str = "router.proj";
pub(super) const ROUTER_SCALE: &str = "router.scale";
pub(super) const EXPERT_SCALE: &str = "router.per_expert_scale";
/// The matrices of all experts, each stacked.
pub(super) const EXPERTS: MlpPaths = MlpPaths {
    gate: "experts.switch_glu.gate_proj",
    up: "experts.switch_glu.up_proj",
    down: "experts.switch_glu.down_proj",
};
pub(super) const PRE_EXPERTS_NORM: &str = "pre_feedforward_layernorm_2";
pub(super) const POST_DENSE_NORM: &str = "post_feedforward_layernorm_1";
pub(super) const POST_EXPERTS_NORM: &str = "post_feedforward_layernorm_2";

pub(super) const INPUT_GATE: &str = "per_layer_input_gate";
pub(super) const INPUT_PROJECTION: &str = "per_layer_projection";
pub(super) const POST_INPUT_NORM: &str = "post_per_layer_input_norm";
pub(super) const INPUT_EMBEDDING: &str = "model.embed_tokens_per_layer";
pub(super) const MODEL_PROJECTION: &str = "model.per_layer_model_projection";
pub(super) const MODEL_PROJECTION_NORM: &str = "model.per_layer_projection_norm";

/// A Gemma 4 model, beside the dimensions that all families have.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Gemma4 {
    pub layers: Vec<LayerShape>,
    /// How many tokens a sliding layer attends to, the current one included.
    pub window: usize,
    pub experts: Option<ExpertShape>,
    pub per_layer: Option<PerLayerShape>,
}

/// One decoder layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LayerShape {
    pub kind: Kind,
    pub keys: Source,
    pub head_dim: usize,
    pub kv_heads: usize,
    pub intermediate: usize,
}

/// Where a layer's keys and values come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Its own projections of each.
    Projected,
    /// One projection of its own for both.
    KeysAreValues,
    /// Those of an earlier layer.
    Shared { layer: usize },
}

/// The experts beside the MLP of each layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ExpertShape {
    pub count: usize,
    /// Experts per token.
    pub chosen: usize,
    pub intermediate: usize,
}

/// The inputs of each layer beside the hidden states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PerLayerShape {
    pub vocab_size: usize,
    pub width: usize,
}

impl Gemma4 {
    /// The attention window of layers of this kind.
    pub fn window_of(&self, kind: Kind) -> Option<usize> {
        kind.window(self.window)
    }

    /// The caches of the layers that have keys of their own, which come first.
    pub fn cache_shapes(&self) -> Vec<CacheShape> {
        let own = self.layers.iter().filter(|layer| layer.owns_keys());
        let keys = |&LayerShape { kv_heads, head_dim, kind, .. }: &LayerShape| {
            let window = self.window_of(kind);
            CacheShape::Keys { kv_heads, head_dim, window }
        };
        own.map(keys).collect()
    }

    /// The layers whose keys and values later ones share, first to last.
    pub fn sources(&self) -> BTreeSet<usize> {
        let source = |layer: &LayerShape| match layer.keys {
            Source::Shared { layer } => Some(layer),
            Source::Projected | Source::KeysAreValues => None,
        };
        self.layers.iter().filter_map(source).collect()
    }

    /// The tensors outside the layers that only this family has.
    pub fn outer(&self, config: &Config) -> Vec<(&'static str, Expected)> {
        let Some(PerLayerShape { vocab_size, width }) = self.per_layer else { return Vec::new() };
        let all = config.num_layers * width;
        vec![
            (INPUT_EMBEDDING, Expected::Matrix { rows: vocab_size, columns: all }),
            (MODEL_PROJECTION, Expected::Matrix { rows: all, columns: config.hidden_size }),
            (MODEL_PROJECTION_NORM, Expected::Vector(width)),
        ]
    }

    /// The tensors of a layer beside its linear layers, by path.
    pub fn tensors_of(&self, config: &Config, layer: LayerShape) -> Vec<(&'static str, Expected)> {
        let vector = |path| (path, Expected::Vector(config.hidden_size));
        let mut expected = vec![
            vector(INPUT_NORM),
            vector(POST_ATTENTION_NORM),
            vector(PRE_MLP_NORM),
            vector(POST_MLP_NORM),
            (Q_NORM, Expected::Vector(layer.head_dim)),
            (SCALAR, Expected::Parameter(1)),
        ];
        if layer.owns_keys() {
            expected.push((K_NORM, Expected::Vector(layer.head_dim)));
        }
        if let Some(experts) = self.experts {
            expected.extend([PRE_EXPERTS_NORM, POST_DENSE_NORM, POST_EXPERTS_NORM].map(vector));
            expected.push((ROUTER_SCALE, Expected::Parameter(config.hidden_size)));
            expected.push((EXPERT_SCALE, Expected::Parameter(experts.count)));
        }
        if self.per_layer.is_some() {
            expected.push(vector(POST_INPUT_NORM));
        }
        expected
    }

    /// The linear layers of a layer, in the order they are applied.
    pub fn linears_of(&self, config: &Config, layer: LayerShape) -> Vec<LinearSpec> {
        let hidden = config.hidden_size;
        let queries = config.num_heads * layer.head_dim;
        let keys = layer.kv_heads * layer.head_dim;
        let linear = LinearSpec::new;
        let mut linears = vec![linear(Q, hidden, queries)];
        if layer.owns_keys() {
            linears.push(linear(K, hidden, keys));
        }
        if layer.keys == Source::Projected {
            linears.push(linear(V, hidden, keys));
        }
        linears.push(linear(O, queries, hidden));
        linears.extend(Mlp::linears(hidden, layer.intermediate));
        if let Some(ExpertShape { count, chosen, intermediate }) = self.experts {
            linears.push(linear(ROUTER, hidden, count));
            let experts = EXPERTS.linears(hidden, intermediate);
            linears.extend(experts.map(|spec| spec.stacked(count, chosen)));
        }
        if let Some(PerLayerShape { width, .. }) = self.per_layer {
            linears.push(linear(INPUT_GATE, hidden, width));
            linears.push(linear(INPUT_PROJECTION, width, hidden));
        }
        linears
    }
}

impl LayerShape {
    /// Whether it has keys of its own.
    pub fn owns_keys(&self) -> bool {
        !matches!(self.keys, Source::Shared { .. })
    }
}
