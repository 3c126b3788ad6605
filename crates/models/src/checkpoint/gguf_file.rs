//! Llama checkpoints in one GGUF file.

use std::collections::BTreeMap;
use std::path::Path;

use gguf::{Gguf, TensorType};
use mlx_rs::Array;
use mlx_rs::io::GgufFile;

use super::Tensors;
use crate::config::{Config, check_architecture};
use crate::error::Differences;
use crate::rope::{Frequencies, RopeStyle};
use crate::{Error, Result};

/// What MLX reads without converting; the quantized ones become its own packed form.
const READABLE: [TensorType; 6] = [
    TensorType::F32,
    TensorType::F16,
    TensorType::BF16,
    TensorType::Q4_0,
    TensorType::Q4_1,
    TensorType::Q8_0,
];
/// Factors by which the rotary frequencies of each pair are lowered.
const ROPE_FACTORS: &str = "rope_freqs.weight";

pub(super) fn open(path: &Path) -> Result<(Config, Tensors)> {
    // Our own reader checks every count, length and offset against the file's size first: MLX
    // maps the file and trusts its header.
    let header = Gguf::open(path)?;
    let mut config = config(&header)?;
    check_types(&header)?;
    let file = GgufFile::load(path).and_then(|file| file.arrays()).map_err(|error| {
        let source = std::io::Error::other(error);
        Error::Read { path: path.to_path_buf(), source }
    })?;
    let mut arrays: BTreeMap<String, Array> =
        file.into_iter().map(|(name, array)| (module_name(&name), array)).collect();
    if let Some(factors) = arrays.remove(ROPE_FACTORS) {
        let factors: Vec<f32> = factors.to_vec_cast().unwrap_or_default();
        for (frequency, factor) in config.rope_frequencies.iter_mut().zip(factors) {
            *frequency /= f64::from(factor);
        }
    }
    let mut tensors = Tensors::new(path, arrays)?;
    for layer in 0..config.num_layers {
        for (path, heads) in [("q_proj", config.num_heads), ("k_proj", config.num_kv_heads)] {
            let order = halves_from_interleaved(heads, config.head_dim);
            tensors.reorder(format!("model.layers.{layer}.self_attn.{path}"), order);
        }
    }
    Ok((config, tensors))
}

/// The dimensions, from the header's metadata.
fn config(header: &Gguf) -> Result<Config> {
    let (path, metadata) = (header.path(), header.metadata());
    let architecture = metadata.str("general.architecture")?.to_owned();
    check_architecture(path, &architecture)?;
    let key = |name: &str| format!("{architecture}.{name}");
    let size = |name: &str| Ok::<_, Error>(metadata.u32(&key(name))? as usize);
    let optional = |name: &str, default: usize| match metadata.has(&key(name)) {
        true => size(name),
        false => Ok(default),
    };
    let hidden_size = size("embedding_length")?;
    let num_heads = size("attention.head_count")?;
    let head_dim = optional("attention.key_length", hidden_size / num_heads.max(1))?;
    let refused = |name: &str, expected: String, found: String| Error::Config {
        path: path.to_path_buf(),
        key: key(name),
        expected,
        found,
    };
    let experts = optional("expert_count", 0)?;
    if experts > 0 {
        return Err(refused("expert_count", "0".into(), experts.to_string()));
    }
    let rotated = optional("rope.dimension_count", head_dim)?;
    if rotated != head_dim {
        return Err(refused("rope.dimension_count", head_dim.to_string(), rotated.to_string()));
    }
    let theta = match metadata.has(&key("rope.freq_base")) {
        true => f64::from(metadata.f32(&key("rope.freq_base"))?),
        false => 10_000.0,
    };
    if metadata.has(&key("rope.scaling.type")) {
        let scaling = metadata.str(&key("rope.scaling.type"))?;
        if scaling != "none" {
            return Err(refused("rope.scaling.type", "none".into(), scaling.into()));
        }
    }
    let rows = |name: &str| header.tensor(name).and_then(|tensor| tensor.dims.get(1).copied());
    let vocab_size = rows("token_embd.weight").unwrap_or_default() as usize;
    Config {
        architecture: architecture.clone(),
        hidden_size,
        intermediate_size: size("feed_forward_length")?,
        num_layers: size("block_count")?,
        num_heads,
        num_kv_heads: optional("attention.head_count_kv", num_heads)?,
        head_dim,
        vocab_size,
        norm_eps: metadata.f32(&key("attention.layer_norm_rms_epsilon"))?,
        tied_embeddings: header.tensor("output.weight").is_none(),
        rope_style: RopeStyle::Halves,
        rope_frequencies: Frequencies::plain(theta).of_pairs(head_dim),
    }
    .checked(path)
}

fn check_types(header: &Gguf) -> Result<()> {
    let unreadable = header.tensors().iter().filter(|tensor| !READABLE.contains(&tensor.kind));
    let expected = READABLE.map(|kind| kind.to_string()).join(", ");
    let mismatched = unreadable
        .map(|tensor| (tensor.name.clone(), expected.clone(), tensor.kind.to_string()))
        .collect();
    Differences { mismatched, ..Default::default() }.into_result(header.path())
}

/// `blk.3.attn_q.weight` is `model.layers.3.self_attn.q_proj.weight` elsewhere. A name without a
/// counterpart stays as it is, and is reported as unexpected.
fn module_name(name: &str) -> String {
    let Some((stem, part)) = name.rsplit_once('.') else { return name.to_owned() };
    let module = match stem {
        "token_embd" => "model.embed_tokens".to_owned(),
        "output_norm" => "model.norm".to_owned(),
        "output" => "lm_head".to_owned(),
        _ => match stem.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
            Some((layer, module)) => match layer_module(module) {
                Some(module) => format!("model.layers.{layer}.{module}"),
                None => stem.to_owned(),
            },
            None => stem.to_owned(),
        },
    };
    format!("{module}.{part}")
}

fn layer_module(module: &str) -> Option<&'static str> {
    Some(match module {
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_output" => "self_attn.o_proj",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        "attn_norm" => "input_layernorm",
        "ffn_norm" => "post_attention_layernorm",
        _ => return None,
    })
}

/// GGUF files of this family have the rows of Q and K interleaved within each head. They are put
/// back into the order of the original checkpoint, so that an adapter trained on the GGUF file fits
/// that checkpoint too: with the rows permuted it would load there, and answer nonsense.
fn halves_from_interleaved(heads: usize, head_dim: usize) -> Array {
    let half = head_dim / 2;
    let order: Vec<u32> = (0..heads)
        .flat_map(|head| (0..2).map(move |part| (head, part)))
        .flat_map(|(head, part)| (0..half).map(move |i| (head * head_dim + 2 * i + part) as u32))
        .collect();
    Array::from_slice(&order, &[order.len() as i32])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_original_checkpoint() {
        for (gguf, module) in [
            ("token_embd.scales", "model.embed_tokens.scales"),
            ("output_norm.weight", "model.norm.weight"),
            ("blk.12.ffn_norm.weight", "model.layers.12.post_attention_layernorm.weight"),
            ("blk.0.attn_k.biases", "model.layers.0.self_attn.k_proj.biases"),
            ("blk.0.attn_sinks.weight", "blk.0.attn_sinks.weight"),
            ("nameless", "nameless"),
        ] {
            assert_eq!(module_name(gguf), module);
        }
    }

    #[test]
    fn rows_return_to_halves() {
        let order = halves_from_interleaved(2, 4);
        assert_eq!(order.as_slice::<u32>(), [0, 2, 1, 3, 4, 6, 5, 7]);
    }
}
