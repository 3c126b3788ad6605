use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use mlx_rs::Array;
use safetensors::tensor::Dtype;
use serde_json::json;

use crate::adapter::Strength;
use crate::nn::adapter_parts::AdapterKind;
use crate::checkpoint::writer::{Planned, SafetensorsWriter, bytes_of};
use crate::arch::config::{EMBEDDING, OUTPUT};
use crate::nn::lora::Lora;
use crate::nn::rope::RopeStyle;
use crate::{Adapter, Config, Error, Model, Result};

/// Writes `adapter` into `folder`, which is made if need be, as PEFT has it: `adapter_config.json`
/// and `adapter_model.safetensors`. `base` is what the configuration calls the model.
///
/// # Errors
/// An adapter that does not fit the model, that updates nothing, or has updates of several
/// strengths, or of stacked experts.
pub fn export_peft(adapter: &Adapter, model: &Model, folder: &Path, base: &str) -> Result<()> {
    let mut updates = updates(adapter, model)?;
    if model.config().tied_embeddings
        && let Some(lora) = model.head().update(adapter.ends())?
    {
        // Of a table and a matrix that are one, PEFT adapts each by itself.
        updates.push(Update { layer: None, path: OUTPUT.into(), lora });
    }
    let Strength { rank, scale, kind, .. } = adapter.strength()?;
    let mut planned = Vec::new();
    let mut arrays = Vec::new();
    for update in &updates {
        let (module, lora) = (update.module(), &update.lora);
        if lora.a.ndim() > 2 {
            let reason = format!("{module}: PEFT has no layer of that name for stacked experts");
            return Err(Error::Adapter { reason });
        }
        let factors = match update.path.as_str() {
            EMBEDDING => [("lora_embedding_A", &lora.a), ("lora_embedding_B", &lora.b)],
            _ => [("lora_A.weight", &lora.a), ("lora_B.weight", &lora.b)],
        };
        let magnitude = lora.magnitude.iter().map(|m| ("lora_magnitude_vector", m));
        for (part, array) in factors.into_iter().chain(magnitude) {
            // PEFT's factors are the transposes of ours, as a vector is of itself.
            let array = array.transpose()?;
            let shape = array.shape().iter().map(|&n| n as usize).collect();
            let name = format!("base_model.model.{module}.{part}");
            planned.push(Planned { name, dtype: Dtype::F32, shape });
            arrays.push(array);
        }
    }
    // PEFT divides by each rank what it multiplies with.
    let alpha = |rank: usize| f64::from(scale) * rank as f64;
    let ranks = updates.iter().map(|update| (update.path.as_str(), update.lora.rank()));
    let rank_pattern: BTreeMap<_, _> = ranks.filter(|(_, other)| *other != rank).collect();
    let alpha_pattern: BTreeMap<_, _> =
        rank_pattern.iter().map(|(path, &rank)| (path, alpha(rank))).collect();
    let modules: BTreeSet<&str> = updates.iter().filter_map(Update::target).collect();
    let layers: BTreeSet<usize> = updates.iter().filter_map(|update| update.layer).collect();
    let config = json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": alpha(rank),
        "rank_pattern": rank_pattern,
        "alpha_pattern": alpha_pattern,
        "use_rslora": false,
        "use_dora": kind == AdapterKind::Dora,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "target_modules": modules,
        "layers_to_transform": layers,
        "layers_pattern": "layers",
    });
    fs::create_dir_all(folder)
        .map_err(|source| Error::Create { path: folder.to_path_buf(), source })?;
    let mut file = SafetensorsWriter::create(&folder.join("adapter_model.safetensors"), &planned)?;
    for array in &arrays {
        file.write(&bytes_of(array)?)?;
    }
    durable::write_json(folder.join("adapter_config.json"), &config)?;
    file.commit()
}

/// Writes `adapter` as a GGUF file of type `adapter`, which llama.cpp and its relatives load beside
/// the model's own GGUF file.
///
/// # Errors
/// As [`export_peft`]; a model that is no Llama; DoRA, which the format has no place for; an update
/// of the embedding, which its readers take only in part.
pub fn export_gguf(adapter: &Adapter, model: &Model, path: &Path) -> Result<()> {
    let config = model.config();
    if config.architecture != "llama" {
        return Err(Error::UnsupportedArchitecture {
            path: path.to_path_buf(),
            found: config.architecture.clone(),
            supported: "llama".into(),
        });
    }
    let Strength { rank, scale, kind, .. } = adapter.strength()?;
    if kind == AdapterKind::Dora {
        return Err(Error::Adapter { reason: "GGUF has no place for DoRA's magnitudes".into() });
    }
    let mut file = GgufFile::default();
    file.string("general.type", "adapter");
    file.string("general.architecture", "llama");
    file.string("adapter.type", "lora");
    file.number("adapter.lora.alpha", scale * rank as f32);
    for Update { layer, path: module, lora } in updates(adapter, model)? {
        let Some(stem) = gguf_module(&module) else {
            let reason =
                format!("{module}: a GGUF adapter has no update of it that every reader applies");
            return Err(Error::Adapter { reason });
        };
        let stem = layer.map_or(stem.into(), |layer| format!("blk.{layer}.{stem}"));
        // The format's strength is alpha over the rank of the tensor at hand.
        let share = Array::from_f32(lora.rank() as f32 / rank as f32);
        let b = gguf_rows(&lora.b.multiply(share)?.transpose()?, &module, config)?;
        for (part, factor) in [("lora_a", lora.a.transpose()?), ("lora_b", b)] {
            file.tensor(&format!("{stem}.weight.{part}"), &factor)?;
        }
    }
    Ok(durable::write(path, file.into_bytes())?)
}

/// An update of a module of one layer, or of one outside the layers.
struct Update {
    layer: Option<usize>,
    path: String,
    lora: Lora,
}

impl Update {
    /// The module's whole name.
    fn module(&self) -> String {
        let path = &self.path;
        self.layer.map_or(path.clone(), |layer| format!("model.layers.{layer}.{path}"))
    }

    /// What PEFT finds it by. Whole names it finds whatever `layers_to_transform` says.
    fn target(&self) -> Option<&str> {
        match self.layer {
            Some(_) => self.path.rsplit('.').next(),
            None => Some(&self.path),
        }
    }
}

fn updates(adapter: &Adapter, model: &Model) -> Result<Vec<Update>> {
    let update =
        |layer, path: &str, lora: &Lora| Update { layer, path: path.into(), lora: lora.clone() };
    let layers = adapter.for_model(model)?.iter().enumerate();
    let layers = layers.flat_map(|(layer, updates)| {
        updates.iter().map(move |(path, lora)| update(Some(layer), path, lora))
    });
    let root = model.config().root;
    let ends = adapter.ends().iter();
    let ends = ends.map(|(path, lora)| update(None, path.strip_prefix(root).unwrap_or(path), lora));
    Ok(layers.chain(ends).collect())
}

fn gguf_module(path: &str) -> Option<&'static str> {
    Some(match path {
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        OUTPUT => "output",
        _ => return None,
    })
}

/// The rows of a module's output in the order that Llama's GGUF files have: those of queries and
/// keys alternate between the two halves of each head.
fn gguf_rows(b: &Array, module: &str, config: &Config) -> Result<Array> {
    let heads = match (module, config.rope_style) {
        ("self_attn.q_proj", RopeStyle::Halves) => config.num_heads,
        ("self_attn.k_proj", RopeStyle::Halves) => config.num_kv_heads,
        _ => return Ok(b.clone()),
    };
    let (half, rank) = (config.head_dim as i32 / 2, b.dim(-1));
    let halves = b.reshape(&[heads as i32, 2, half, rank])?;
    Ok(halves.swap_axes(1, 2)?.reshape(&[-1, rank])?)
}

/// A GGUF file in the making: metadata, a table of tensors, their numbers.
#[derive(Default)]
struct GgufFile {
    metadata: Vec<u8>,
    keys: u64,
    table: Vec<u8>,
    tensors: u64,
    data: Vec<u8>,
}

impl GgufFile {
    /// Everything begins at a multiple of this.
    const ALIGNMENT: usize = 32;
    const FLOAT: u32 = 6;
    const STRING: u32 = 8;
    /// The tensor type of plain f32 numbers.
    const F32: u32 = 0;

    fn string(&mut self, key: &str, value: &str) {
        self.key(key, Self::STRING);
        put_text(&mut self.metadata, value);
    }

    fn number(&mut self, key: &str, value: f32) {
        self.key(key, Self::FLOAT);
        self.metadata.extend(value.to_le_bytes());
    }

    fn key(&mut self, key: &str, kind: u32) {
        self.keys += 1;
        put_text(&mut self.metadata, key);
        self.metadata.extend(kind.to_le_bytes());
    }

    fn tensor(&mut self, name: &str, array: &Array) -> Result<()> {
        self.tensors += 1;
        put_text(&mut self.table, name);
        self.table.extend((array.ndim() as u32).to_le_bytes());
        // The dimension whose neighbours lie side by side comes first.
        for &size in array.shape().iter().rev() {
            self.table.extend((size as u64).to_le_bytes());
        }
        self.table.extend(Self::F32.to_le_bytes());
        self.table.extend((self.data.len() as u64).to_le_bytes());
        self.data.extend(bytes_of(array)?);
        self.data.resize(self.data.len().next_multiple_of(Self::ALIGNMENT), 0);
        Ok(())
    }

    fn into_bytes(self) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(3u32.to_le_bytes());
        file.extend(self.tensors.to_le_bytes());
        file.extend(self.keys.to_le_bytes());
        file.extend(self.metadata);
        file.extend(self.table);
        file.resize(file.len().next_multiple_of(Self::ALIGNMENT), 0);
        file.extend(self.data);
        file
    }
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}
