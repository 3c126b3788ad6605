//! GGUF files of a Llama (which a Mistral's are too), a Qwen2, a Qwen3 or a Qwen3 MoE.

use std::sync::Arc;

use gguf::Parts;

use super::Llama;
use crate::Result;
use crate::arch::GgufRegistration;
use crate::arch::attention::AttentionShape;
use crate::arch::config::{Config, Sizes};
use crate::arch::gguf_keys::GgufKeys;
use crate::arch::gguf_layout::GgufLayout;
use crate::arch::names::{K_NORM, Q_NORM};
use crate::checkpoint::{Store, list_gguf};
use crate::nn::sparse_mlp::{EXPERTS, ROUTER};
use crate::nn::{FeedForward, SparseShape};

pub(super) const LLAMA: GgufLayout =
    GgufLayout { architecture: "llama", interleaved: true, names: &[] };
pub(super) const QWEN2: GgufLayout =
    GgufLayout { architecture: "qwen2", interleaved: false, names: &[] };
pub(super) const QWEN3: GgufLayout = GgufLayout {
    architecture: "qwen3",
    interleaved: false,
    names: &[("attn_q_norm", Q_NORM), ("attn_k_norm", K_NORM)],
};

pub(super) const QWEN3_MOE: GgufLayout = GgufLayout {
    architecture: "qwen3moe",
    interleaved: false,
    names: &[
        ("attn_q_norm", Q_NORM),
        ("attn_k_norm", K_NORM),
        ("ffn_gate_inp", ROUTER),
        ("ffn_gate_exps", EXPERTS.gate),
        ("ffn_up_exps", EXPERTS.up),
        ("ffn_down_exps", EXPERTS.down),
    ],
};

pub(super) const REGISTRATIONS: [GgufRegistration; 4] = [
    GgufRegistration { layout: LLAMA, open },
    GgufRegistration { layout: QWEN2, open },
    GgufRegistration { layout: QWEN3, open },
    GgufRegistration { layout: QWEN3_MOE, open },
];

/// The rotary frequency of each pair is divided by these.
const ROPE_FACTORS: &str = "rope_freqs.weight";

fn open(parts: &Parts, layout: GgufLayout) -> Result<(Config, Store)> {
    let mut config = config(parts, layout)?;
    let mut store = list_gguf(parts, |name| layout.safetensors_name(name))?;
    if store.get(ROPE_FACTORS).is_some() {
        let factors: Vec<f32> = store.read(ROPE_FACTORS)?.to_vec_cast().unwrap_or_default();
        for (frequency, factor) in config.rope_frequencies.iter_mut().flatten().zip(factors) {
            *frequency /= f64::from(factor);
        }
        store.retain(|name| name != ROPE_FACTORS);
    }
    config.family().normalize(&config, &mut store);
    for layer in 0..config.num_layers {
        let prefix = config.layer_prefix(layer);
        for spec in AttentionShape::linears(&config) {
            let Some(heads) = layout.interleaved_heads(&config, spec.path) else { continue };
            let order = halves_from_interleaved(heads, config.head_dim);
            for part in ["weight", "scales", "biases"] {
                store.reorder(&format!("{prefix}.{}.{part}", spec.path), &order);
            }
        }
    }
    Ok((config, store))
}

/// The dimensions, from the metadata.
fn config(parts: &Parts, layout: GgufLayout) -> Result<Config> {
    let keys = GgufKeys::of(parts)?;
    let sizes = keys.sizes()?;
    let rotary = keys.rotary(sizes.head_dim)?;
    let family = Llama {
        attention: AttentionShape {
            biases: layout == QWEN2,
            norms: [QWEN3, QWEN3_MOE].contains(&layout),
            rope: 0,
            scale: rotary.of_scores / (sizes.head_dim as f32).sqrt(),
            // Not in the metadata: llama.cpp attends to everything before.
            window: None,
        },
        feed_forwards: vec![feed_forward(keys, layout, sizes)?; sizes.num_layers],
        gguf: layout,
    };
    Ok(Config {
        norm_eps: keys.norm_eps()?,
        tied_embeddings: keys.tied(),
        rope_frequencies: vec![rotary.frequencies],
        ..Config::new(keys.architecture, sizes, family)
    })
}

/// What follows the attention of each layer: llama.cpp knows no model in which only some have experts.
fn feed_forward(keys: GgufKeys<'_>, layout: GgufLayout, sizes: Sizes) -> Result<FeedForward> {
    if layout != QWEN3_MOE {
        keys.dense()?;
        return Ok(FeedForward::Dense(sizes.intermediate_size));
    }
    let size = |name: &str| keys.file().size(&keys.key(name), keys.size(name)?);
    let count = size("expert_count")?;
    let used = "expert_used_count";
    Ok(FeedForward::Sparse(SparseShape {
        count,
        chosen: keys.file().size_to(count, &keys.key(used), keys.size(used)?)?,
        intermediate: size("expert_feed_forward_length")?,
        // As llama.cpp computes every one.
        normalized: true,
        shared: None,
    }))
}

/// The original checkpoint's order of the rows of Q and K, which GGUF files interleave within each head.
/// With it, an adapter trained on the GGUF file fits the original checkpoint too.
fn halves_from_interleaved(heads: usize, head_dim: usize) -> Arc<[u32]> {
    let half = head_dim / 2;
    (0..heads)
        .flat_map(|head| (0..2).map(move |part| (head, part)))
        .flat_map(|(head, part)| (0..half).map(move |i| (head * head_dim + 2 * i + part) as u32))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_return_to_halves() {
        let order = halves_from_interleaved(2, 4);
        assert_eq!(*order, [0, 2, 1, 3, 4, 6, 5, 7]);
    }
}
