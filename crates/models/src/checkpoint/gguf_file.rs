//! Llama checkpoints in one GGUF file.

use std::path::Path;
use std::sync::Arc;

use gguf::{Gguf, Tensor, TensorType};
use mlx_rs::Dtype;

use super::Checkpoint;
use super::blocks::{Block, GROUP, Part};
use super::store::{Encoding, Entry, Store};
use crate::arch::config::{Config, Family, check_architecture};
use crate::arch::config_file::ConfigFile;
use crate::error::Differences;
use crate::nn::rope::{Frequencies, RopeStyle};
use crate::{Error, Result};

/// Factors by which the rotary frequencies of each pair are lowered.
const ROPE_FACTORS: &str = "rope_freqs.weight";

pub(super) fn open(path: &Path) -> Result<(Config, Checkpoint)> {
    // The reader checks every count, length and offset against the file's size.
    let header = Gguf::open(path)?;
    let mut config = config(&header)?;
    let mut store = list(&header)?;
    if store.get(ROPE_FACTORS).is_some() {
        let factors: Vec<f32> = store.read(ROPE_FACTORS)?.to_vec_cast().unwrap_or_default();
        for (frequency, factor) in config.rope_frequencies.iter_mut().flatten().zip(factors) {
            *frequency /= f64::from(factor);
        }
        store.retain(|name| name != ROPE_FACTORS);
    }
    for layer in 0..config.num_layers {
        for (path, heads) in [("q_proj", config.num_heads), ("k_proj", config.num_kv_heads)] {
            let order = halves_from_interleaved(heads, config.head_dim);
            for part in ["weight", "scales", "biases"] {
                store.reorder(&format!("model.layers.{layer}.self_attn.{path}.{part}"), &order);
            }
        }
    }
    Ok((config, Checkpoint::new(path, store)?))
}

/// All tensors under the names of the original checkpoint; a quantized one as three.
fn list(header: &Gguf) -> Result<Store> {
    let mut store = Store::default();
    let mut unreadable = Vec::new();
    let file: Arc<Path> = header.path().into();
    for tensor in header.tensors() {
        let name = module_name(&tensor.name);
        let shape: Vec<usize> = tensor.dims.iter().rev().map(|&n| n as usize).collect();
        let entry = |encoding, shape: Vec<usize>| {
            let rows = shape.first().copied().unwrap_or(1).max(1);
            let bytes = (tensor.range.end - tensor.range.start) as usize;
            let (file, start) = (Arc::clone(&file), tensor.range.start);
            Entry {
                file,
                start,
                row_bytes: bytes / rows,
                shape,
                encoding,
                order: None,
                less_one: false,
            }
        };
        match storage(tensor) {
            Some(Storage::Plain(dtype)) => {
                store.insert(name, entry(Encoding::Plain(dtype), shape));
            }
            Some(Storage::Blocks(block)) => {
                let [rows @ .., columns] = shape.as_slice() else { continue };
                let stem = name.strip_suffix(".weight").unwrap_or(&name);
                let groups = columns / GROUP;
                for (part, suffix, width) in [
                    (Part::Packed, "weight", columns * block.bits() / 32),
                    (Part::Scales, "scales", groups),
                    (Part::Biases, "biases", groups),
                ] {
                    let shape = [rows, &[width]].concat();
                    let encoding = Encoding::Blocks(block, part);
                    store.insert(format!("{stem}.{suffix}"), entry(encoding, shape));
                }
            }
            None => {
                let expected = "F32, F16, BF16, Q4_0, Q4_1 or Q8_0".to_owned();
                unreadable.push((tensor.name.clone(), expected, tensor.kind.to_string()));
            }
        }
    }
    let differences = Differences { mismatched: unreadable, ..Default::default() };
    differences.into_result(header.path()).map(|()| store)
}

/// How a tensor that is read here lies in the file.
enum Storage {
    Plain(Dtype),
    Blocks(Block),
}

fn storage(tensor: &Tensor) -> Option<Storage> {
    Some(match tensor.kind {
        TensorType::F32 => Storage::Plain(Dtype::Float32),
        TensorType::F16 => Storage::Plain(Dtype::Float16),
        TensorType::BF16 => Storage::Plain(Dtype::Bfloat16),
        TensorType::Q4_0 => Storage::Blocks(Block::Q4_0),
        TensorType::Q4_1 => Storage::Blocks(Block::Q4_1),
        TensorType::Q8_0 => Storage::Blocks(Block::Q8_0),
        _ => return None,
    })
}

/// The dimensions, from the header's metadata.
fn config(header: &Gguf) -> Result<Config> {
    let (path, metadata) = (header.path(), header.metadata());
    let architecture = metadata.str("general.architecture")?.to_owned();
    check_architecture(path, &architecture, &["llama"])?;
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
    let experts = optional("expert_count", 0)?;
    if experts > 0 {
        return file.refuse(&key("expert_count"), "0", experts);
    }
    let rotated = optional("rope.dimension_count", head_dim)?;
    if rotated != head_dim {
        return file.refuse(&key("rope.dimension_count"), &head_dim.to_string(), rotated);
    }
    let theta = match metadata.has(&key("rope.freq_base")) {
        true => f64::from(metadata.f32(&key("rope.freq_base"))?),
        false => 10_000.0,
    };
    if metadata.has(&key("rope.scaling.type")) {
        let scaling = metadata.str(&key("rope.scaling.type"))?;
        if scaling != "none" {
            return file.refuse(&key("rope.scaling.type"), "none", scaling);
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
        rope_frequencies: vec![Frequencies::plain(theta).of_pairs(head_dim)],
        soft_cap: None,
        root: "",
        family: Family::Llama,
    }
    .checked(path)
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
        assert_eq!(*order, [0, 2, 1, 3, 4, 6, 5, 7]);
    }
}
