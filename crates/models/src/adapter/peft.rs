//! Adapters in PEFT's layout: LoRA and DoRA of linear layers and of the embedding.
//!
//! Invariant: a key that changes the result is applied or refused. Tensors that are not understood keep
//! their names and are reported as unexpected.

use std::collections::BTreeMap;
use std::path::Path;

use mlx_rs::Array;
use regex::Regex;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::stored::{ConfigKeys, Stored, Strength};
use crate::arch::config::{Config, OUTPUT};
use crate::checkpoint::list_safetensors;
use crate::nn::AdapterKind;
use crate::nn::lora::{A, B, MAGNITUDE};
use crate::{Error, Model, Result};

/// The key that every configuration of PEFT has.
pub(super) const TYPE: &str = "peft_type";

pub(super) const TENSORS: &str = "adapter_model.safetensors";
/// What older versions wrote instead, with pickle.
const PICKLED: &str = "adapter_model.bin";
/// Where the names of all tensors start.
const PREFIX: &str = "base_model.model.";

/// Keys of variants that compute something else than LoRA and DoRA, or that train other tensors.
const VARIANTS: [&str; 12] = [
    "alora_invocation_tokens",
    "arrow_config",
    "fan_in_fan_out",
    "kasa_config",
    "layer_replication",
    "lora_bias",
    "modules_to_save",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_qalora",
];

/// Initializations that leave the base model's weights as they are. Others (PiSSA, OLoRA, CorDA, LoftQ)
/// change them, so that the factors do not fit the original weights.
const INITIALIZATIONS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// PEFT's endings of tensor names, and ours.
const PARTS: [(&str, &str); 6] = [
    (".lora_A.weight", A),
    (".lora_B.weight", B),
    (".lora_embedding_A", A),
    (".lora_embedding_B", B),
    (".lora_magnitude_vector", MAGNITUDE),
    (".lora_magnitude_vector.weight", MAGNITUDE),
];

/// The keys that say how to apply the tensors, with PEFT's defaults.
#[derive(Deserialize)]
#[serde(default)]
struct Keys {
    r: usize,
    lora_alpha: f64,
    use_rslora: bool,
    use_dora: bool,
    rank_pattern: Option<Map<String, Value>>,
    alpha_pattern: Option<Map<String, Value>>,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            r: 8,
            lora_alpha: 8.0,
            use_rslora: false,
            use_dora: false,
            rank_pattern: None,
            alpha_pattern: None,
        }
    }
}

pub(super) fn read(folder: &Path, config: ConfigKeys<'_>, model: &Model) -> Result<Stored> {
    check(config)?;
    let keys = Keys::deserialize(config.keys)
        .map_err(|source| Error::Json { path: config.path.to_path_buf(), source })?;
    let path = folder.join(TENSORS);
    if !path.exists() && folder.join(PICKLED).exists() {
        let expected = format!("{TENSORS} (PEFT's save_pretrained writes it)");
        let found = format!("only {PICKLED}");
        return ConfigKeys { path: folder, ..config }.refuse("tensors", &expected, found);
    }
    let (mut arrays, mut names) = (BTreeMap::new(), BTreeMap::new());
    for (name, array) in list_safetensors(&path)?.read_all()? {
        let Some((original, module, part)) = split(&name, model.config()) else {
            arrays.insert(name, array);
            continue;
        };
        arrays.insert(format!("{module}.{part}"), array.transpose()?.contiguous()?);
        names.insert(module, original.to_owned());
    }
    tie(&mut arrays, model.config())?;
    let ranks = patterns(config, "rank_pattern", keys.rank_pattern.as_ref())?;
    let alphas = patterns(config, "alpha_pattern", keys.alpha_pattern.as_ref())?;
    let strength = move |module: &str, _: &str| {
        let name = names.get(module).map_or(module, String::as_str);
        let rank = first_match(&ranks, name).map_or(keys.r, |rank| rank as usize);
        let alpha = first_match(&alphas, name).unwrap_or(keys.lora_alpha);
        let divisor = if keys.use_rslora { (rank as f64).sqrt() } else { rank as f64 };
        Strength { rank, scale: (alpha / divisor) as f32 }
    };
    let kind = if keys.use_dora { AdapterKind::Dora } else { AdapterKind::Lora };
    Ok(Stored { path, kind, arrays, strength: Box::new(strength) })
}

/// Refuses what this reader does not compute.
fn check(config: ConfigKeys<'_>) -> Result<()> {
    let value = |key: &str| config.keys.get(key).unwrap_or(&Value::Null);
    if value(TYPE) != "LORA" {
        return config.refuse(TYPE, "LORA", value(TYPE));
    }
    let is_off = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(keys) => keys.is_empty(),
        _ => false,
    };
    if let Some(key) = VARIANTS.into_iter().find(|key| !is_off(value(key))) {
        return config.refuse(key, "nothing, as in plain LoRA", value(key));
    }
    if !matches!(value("bias").as_str(), None | Some("none")) {
        return config.refuse("bias", "none", value("bias"));
    }
    match value("init_lora_weights").as_str() {
        Some(name) if !INITIALIZATIONS.contains(&name) => {
            let expected = format!(
                "true, false or one of {} (others change the base model)",
                INITIALIZATIONS.join(", ")
            );
            config.refuse("init_lora_weights", &expected, name)
        }
        _ => Ok(()),
    }
}

/// PEFT's name of a tensor's module, ours, and our name of the part.
fn split<'a>(name: &'a str, config: &Config) -> Option<(&'a str, String, &'static str)> {
    let name = name.strip_prefix(PREFIX)?;
    let (original, part) =
        PARTS.iter().find_map(|(ending, part)| Some((name.strip_suffix(ending)?, *part)))?;
    // The text part of a larger model has one of the first two.
    const ROOTS: [&str; 3] = ["model.language_model.", "language_model.model.", "model."];
    let module = match ROOTS.iter().find_map(|root| original.strip_prefix(root)) {
        Some(path) => config.name(&format!("model.{path}")),
        None if original.rsplit('.').next() == Some(OUTPUT) => config.name(OUTPUT),
        None => return None,
    };
    Some((original, module, part))
}

/// Removes the update of an output matrix that is tied to the embedding, if it is the embedding's update
/// transposed. PEFT has two updates there, which may differ.
fn tie(arrays: &mut BTreeMap<String, Array>, config: &Config) -> Result<()> {
    let [embedding, output] = config.embedding_names();
    if !config.tied_embeddings || !arrays.contains_key(&format!("{output}.{A}")) {
        return Ok(());
    }
    for (of_output, of_embedding) in [(A, B), (B, A)] {
        let found = arrays.remove(&format!("{output}.{of_output}"));
        let expected = arrays.get(&format!("{embedding}.{of_embedding}"));
        let same = match (found, expected) {
            (Some(found), Some(expected)) => found.eq_values(expected.transpose()?)?,
            _ => false,
        };
        if !same {
            let reason = format!(
                "{output}: expected the update of {embedding}, to which it is tied, found another"
            );
            return Err(Error::Adapter { reason });
        }
    }
    Ok(())
}

/// The numbers of a pattern key, in order, with what their keys match: the end of a module's name, from
/// a dot on.
fn patterns(
    config: ConfigKeys<'_>,
    key: &str,
    entries: Option<&Map<String, Value>>,
) -> Result<Vec<(Regex, f64)>> {
    let entries = entries.into_iter().flatten().map(|(pattern, value)| {
        let key = format!("{key}.{pattern}");
        let Ok(matched) = Regex::new(&format!(r"^(?:.*\.)?(?:{pattern})$")) else {
            return config.refuse(&key, "a regular expression as key", "none");
        };
        match value.as_f64().filter(|number| *number > 0.0) {
            Some(number) => Ok((matched, number)),
            None => config.refuse(&key, "a positive number", value),
        }
    });
    entries.collect()
}

fn first_match(patterns: &[(Regex, f64)], name: &str) -> Option<f64> {
    patterns.iter().find(|(pattern, _)| pattern.is_match(name)).map(|&(_, number)| number)
}
