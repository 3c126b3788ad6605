//! GGUF files of a Gemma 3. What is not in their metadata is as in llama.cpp.

use gguf::Parts;

use super::Gemma3;
use crate::Result;
use crate::arch::config::Config;
use crate::arch::config_file::LayerTypes;
use crate::arch::gguf_keys::GgufKeys;
use crate::arch::gguf_layout::GgufLayout;
use crate::arch::names::{K_NORM, POST_ATTENTION_NORM, POST_MLP_NORM, PRE_MLP_NORM, Q_NORM};
use crate::arch::sliding::Kind;
use crate::checkpoint::{Store, list_gguf};
use crate::nn::Frequencies;

pub(super) const LAYOUT: GgufLayout = GgufLayout {
    architecture: "gemma3",
    interleaved: false,
    names: &[
        ("attn_q_norm", Q_NORM),
        ("attn_k_norm", K_NORM),
        ("post_attention_norm", POST_ATTENTION_NORM),
        ("ffn_norm", PRE_MLP_NORM),
        ("post_ffw_norm", POST_MLP_NORM),
    ],
};

/// Every layer of so many is full.
pub(super) const PATTERN: usize = 6;
/// The base of the rotary embedding of sliding layers.
pub(super) const SLIDING_THETA: f64 = 10_000.0;
/// The number of layers of the 27B model, whose attention scores have another scale.
const LAYERS_OF_27B: usize = 62;

pub(super) fn open(parts: &Parts, layout: GgufLayout) -> Result<(Config, Store)> {
    let config = config(parts)?;
    Ok((config, list_gguf(parts, |name| layout.safetensors_name(name))?))
}

/// The dimensions, from the metadata.
fn config(parts: &Parts) -> Result<Config> {
    let keys = GgufKeys::of(parts)?;
    let file = keys.file();
    keys.dense()?;
    let sizes = keys.sizes()?;
    let (window, pattern) = ("attention.sliding_window", "attention.sliding_window_pattern");
    let kinds = file.layer_kinds(&LayerTypes {
        count: sizes.num_layers,
        named: None,
        interval: (&keys.key(pattern), keys.size_or(pattern, PATTERN)?),
        kinds: [("sliding", Kind::Sliding), ("full", Kind::Full)],
    })?;
    let sliding = "rope.freq_base_swa";
    let theta = keys.number(sliding)?.or(Some(SLIDING_THETA));
    let theta = file.positive(&keys.key(sliding), theta)?;
    let per_query = match sizes.num_layers {
        LAYERS_OF_27B => sizes.hidden_size / sizes.num_heads,
        _ => sizes.head_dim,
    };
    let family = Gemma3 {
        kinds,
        window: file.size(&keys.key(window), keys.size(window)?)?,
        scale: (per_query as f32).sqrt().recip(),
        norm_offset: 0.0,
    };
    Ok(Config {
        norm_eps: keys.norm_eps()?,
        tied_embeddings: keys.tied(),
        soft_cap: keys.number("final_logit_softcapping")?.map(|cap| cap as f32),
        rope_frequencies: vec![
            Frequencies::plain(theta).of_pairs(sizes.head_dim),
            keys.rotary(sizes.head_dim)?.frequencies,
        ],
        ..Config::new(keys.architecture, sizes, family)
    })
}
