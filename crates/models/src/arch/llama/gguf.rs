//! GGUF files of a Llama.

use std::sync::Arc;

use gguf::Parts;

use super::Llama;
use crate::arch::config::{Config, Sizes};
use crate::arch::config_file::ConfigFile;
use crate::arch::gguf_layout::GgufLayout;
use crate::checkpoint::{Store, list_gguf};
use crate::nn::{Frequencies, Scaling};
use crate::{Error, Result};

pub(super) const LAYOUT: GgufLayout = GgufLayout { architecture: "llama", interleaved: true };

/// The rotary frequency of each pair is divided by these.
const ROPE_FACTORS: &str = "rope_freqs.weight";

pub(super) fn open(parts: &Parts) -> Result<(Config, Store)> {
    let mut config = config(parts)?;
    let mut store = list_gguf(parts, |name| LAYOUT.safetensors_name(name))?;
    if store.get(ROPE_FACTORS).is_some() {
        let factors: Vec<f32> = store.read(ROPE_FACTORS)?.to_vec_cast().unwrap_or_default();
        for (frequency, factor) in config.rope_frequencies.iter_mut().flatten().zip(factors) {
            *frequency /= f64::from(factor);
        }
        store.retain(|name| name != ROPE_FACTORS);
    }
    for layer in 0..config.num_layers {
        let prefix = config.layer_prefix(layer);
        for spec in super::linears(&config) {
            let Some(heads) = LAYOUT.interleaved_heads(&config, spec.path) else { continue };
            let order = halves_from_interleaved(heads, config.head_dim);
            for part in ["weight", "scales", "biases"] {
                store.reorder(&format!("{prefix}.{}.{part}", spec.path), &order);
            }
        }
    }
    Ok((config, store))
}

/// The dimensions, from the metadata.
fn config(parts: &Parts) -> Result<Config> {
    let (path, metadata) = (parts.path(), parts.metadata());
    let architecture = metadata.str("general.architecture")?.to_owned();
    let key = |name: &str| format!("{architecture}.{name}");
    let size = |name: &str| Ok::<_, Error>(metadata.u32(&key(name))? as usize);
    let optional = |name: &str, default: usize| match metadata.has(&key(name)) {
        true => size(name),
        false => Ok(default),
    };
    let hidden_size = size("embedding_length")?;
    let num_heads = size("attention.head_count")?;
    let head_dim = optional("attention.key_length", hidden_size / num_heads.max(1))?;
    let file = ConfigFile { path, keys: metadata };
    file.require(&key("expert_count"), 0, optional("expert_count", 0)?)?;
    let rotated = optional("rope.dimension_count", head_dim)?;
    file.require(&key("rope.dimension_count"), head_dim, rotated)?;
    let number = |name: &str| match metadata.has(&key(name)) {
        true => Ok::<_, Error>(Some(f64::from(metadata.f32(&key(name))?))),
        false => Ok(None),
    };
    let theta = number("rope.freq_base")?.or(Some(10_000.0));
    let theta = file.positive(&key("rope.freq_base"), theta)?;
    // As in llama.cpp: a factor without a type is linear, and 0 is none. The second key is older.
    let factor = number("rope.scaling.factor")?.or(number("rope.scale_linear")?);
    let kind = match metadata.has(&key("rope.scaling.type")) {
        true => metadata.str(&key("rope.scaling.type"))?,
        false => "linear",
    };
    let scaling = match (kind, factor.filter(|&factor| factor != 0.0)) {
        ("none", _) | ("linear", None) => Scaling::None,
        ("linear", factor) => Scaling::Linear(file.positive(&key("rope.scaling.factor"), factor)?),
        (other, _) => return file.refuse(&key("rope.scaling.type"), "none or linear", other),
    };
    let rows = |name: &str| parts.tensor(name).and_then(|tensor| tensor.dims.get(1).copied());
    let vocab_size = rows("token_embd.weight").unwrap_or_default() as usize;
    let sizes = Sizes {
        hidden_size,
        intermediate_size: size("feed_forward_length")?,
        num_layers: size("block_count")?,
        num_heads,
        num_kv_heads: optional("attention.head_count_kv", num_heads)?,
        head_dim,
        vocab_size,
    };
    let sizes = sizes.checked(path)?;
    Ok(Config {
        norm_eps: metadata.f32(&key("attention.layer_norm_rms_epsilon"))?,
        tied_embeddings: parts.tensor("output.weight").is_none(),
        rope_frequencies: vec![Frequencies { theta, scaling }.of_pairs(head_dim)],
        ..Config::new(&architecture, sizes, Llama)
    })
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
