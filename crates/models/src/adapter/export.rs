use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use mlx_rs::Array;
use serde_json::json;

use super::Shared;
use crate::arch::config::{Config, EMBEDDING, OUTPUT};
use crate::arch::gguf_layout::GgufLayout;
use crate::arch::registry::{gguf_architectures, unsupported};
use crate::checkpoint::{MLX_FORMAT, bytes_of, write_safetensors};
use crate::nn::{AdapterKind, Lora, RopeStyle};
use crate::{Adapter, Error, Model, Result};

/// Writes `adapter` in PEFT's layout into `folder`, which is created if it does not exist:
/// `adapter_config.json` and `adapter_model.safetensors`. `base` is the name of the model in the
/// configuration.
///
/// # Errors
/// [`Error::Adapter`] if the adapter does not fit the model, updates nothing, or has updates of several
/// scales or of stacked experts.
pub fn export_peft(adapter: &Adapter, model: &Model, folder: &Path, base: &str) -> Result<()> {
    let mut updates = updates(adapter, model)?;
    if model.config().tied_embeddings
        && let Some(lora) = model.head().update(adapter.embeddings())?
    {
        // PEFT has two updates where embedding and output matrix are tied.
        updates.push(Update { layer: None, path: OUTPUT.into(), lora });
    }
    let Shared { rank, scale, kind, .. } = adapter.shared()?;
    let mut arrays = Vec::new();
    for update in &updates {
        let (module, lora) = (update.module(), &update.lora);
        if lora.a.ndim() > 2 {
            let reason = format!("{module}: PEFT has no layer for stacked experts");
            return Err(Error::Adapter { reason });
        }
        let factors = match update.path.as_str() {
            EMBEDDING => [("lora_embedding_A", &lora.a), ("lora_embedding_B", &lora.b)],
            _ => [("lora_A.weight", &lora.a), ("lora_B.weight", &lora.b)],
        };
        let magnitude = lora.magnitude.iter().map(|m| ("lora_magnitude_vector", m));
        for (part, array) in factors.into_iter().chain(magnitude) {
            // PEFT's factors are transposed; a magnitude is its own transpose.
            arrays.push((format!("base_model.model.{module}.{part}"), array.transpose()?));
        }
    }
    // PEFT's scale is alpha divided by the rank.
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
    durable::write_json(folder.join("adapter_config.json"), &config)?;
    write_safetensors(&folder.join("adapter_model.safetensors"), MLX_FORMAT, &arrays)
}

/// Writes `adapter` as a GGUF file of type `adapter`, which llama.cpp and other programs load together
/// with the model's GGUF file.
///
/// # Errors
/// As [`export_peft`]; [`Error::UnsupportedArchitecture`] for a family without GGUF files;
/// [`Error::Adapter`] for DoRA, which the format cannot express, and for an update of the embedding or
/// of stacked experts, which its readers apply only in part.
pub fn export_gguf(adapter: &Adapter, model: &Model, path: &Path) -> Result<()> {
    let config = model.config();
    let Some(layout) = config.family().gguf() else {
        return Err(unsupported(path, &config.architecture, gguf_architectures()));
    };
    let Shared { rank, scale, kind, .. } = adapter.shared()?;
    if kind == AdapterKind::Dora {
        return Err(Error::Adapter { reason: "GGUF has no place for DoRA's magnitudes".into() });
    }
    let mut file = GgufFile::default();
    file.string("general.type", "adapter");
    file.string("general.architecture", layout.architecture);
    file.string("adapter.type", "lora");
    file.number("adapter.lora.alpha", scale * rank as f32);
    for Update { layer, path: module, lora } in updates(adapter, model)? {
        let of_experts = lora.a.ndim() > 2;
        let stem = layout.stem(layer, &module).filter(|_| module != EMBEDDING && !of_experts);
        let Some(stem) = stem else {
            let reason =
                format!("{module}: not all readers of GGUF adapters apply an update of it");
            return Err(Error::Adapter { reason });
        };
        // The format's scale is alpha divided by the rank of each tensor.
        let share = Array::from_f32(lora.rank() as f32 / rank as f32);
        let b = gguf_rows(&lora.b.multiply(share)?.transpose()?, &module, config, layout)?;
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
    /// The module's name in safetensors files of a text model.
    fn module(&self) -> String {
        let path = &self.path;
        self.layer.map_or(path.clone(), |layer| format!("model.layers.{layer}.{path}"))
    }

    /// Its entry in `target_modules`. Whole names match whatever `layers_to_transform` says.
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
    let embeddings = adapter.embeddings().iter();
    let embeddings = embeddings.map(|(name, lora)| update(None, model.config().path(name), lora));
    Ok(layers.chain(embeddings).collect())
}

/// The rows `b` of a module's output in GGUF's order, which may alternate between the two halves of
/// each head.
fn gguf_rows(b: &Array, module: &str, config: &Config, layout: GgufLayout) -> Result<Array> {
    let heads = layout.interleaved_heads(config, module);
    let Some(heads) = heads.filter(|_| config.rope_style == RopeStyle::Halves) else {
        return Ok(b.clone());
    };
    let (half, rank) = (config.head_dim as i32 / 2, b.dim(-1));
    let halves = b.reshape(&[heads as i32, 2, half, rank])?;
    Ok(halves.swap_axes(1, 2)?.reshape(&[-1, rank])?)
}

/// Builds a GGUF file: metadata, table of tensors, tensor data.
#[derive(Default)]
struct GgufFile {
    metadata: Vec<u8>,
    keys: u64,
    table: Vec<u8>,
    tensors: u64,
    data: Vec<u8>,
}

impl GgufFile {
    /// Tensor data is aligned to this many bytes.
    const ALIGNMENT: usize = 32;
    const FLOAT: u32 = 6;
    const STRING: u32 = 8;
    /// The tensor type of f32.
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
        // The innermost dimension comes first.
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
