//! Adapters in mlx-lm's layout, with mlx-lm's defaults for keys that other programs leave out.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::TENSORS;
use super::stored::{ConfigKeys, Stored, Strength};
use crate::Result;
use crate::checkpoint::{json, list_safetensors};
use crate::nn::AdapterKind;

/// The key that every configuration of mlx-lm has.
pub(super) const PARAMETERS: &str = "lora_parameters";

/// The keys that say how to apply the tensors.
#[derive(Deserialize)]
struct Keys {
    fine_tune_type: Option<AdapterKind>,
    lora_parameters: Parameters,
    /// As [`Adapter::save`](crate::Adapter::save) writes it.
    #[serde(default)]
    rank_pattern: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct Parameters {
    rank: usize,
    scale: Option<f32>,
    alpha: Option<f32>,
}

pub(super) fn read(folder: &Path, config: ConfigKeys<'_>, text: &[u8]) -> Result<Stored> {
    let Keys { fine_tune_type, lora_parameters, rank_pattern } = json::parse(config.path, text)?;
    let Parameters { rank, scale, alpha } = lora_parameters;
    let Some(scale) = scale else {
        let found = match alpha {
            Some(alpha) => format!("only alpha {alpha}, which mlx-lm does not read"),
            None => "nothing".to_owned(),
        };
        return config.refuse("lora_parameters.scale", "a number", found);
    };
    let path = folder.join(TENSORS);
    let arrays = list_safetensors(&path)?.read_all()?;
    let strength = move |_: &str, path: &str| {
        let rank = rank_pattern.get(path).copied().unwrap_or(rank);
        Strength { rank, scale }
    };
    let kind = fine_tune_type.unwrap_or(AdapterKind::Lora);
    Ok(Stored { path, kind, arrays, strength: Box::new(strength) })
}
