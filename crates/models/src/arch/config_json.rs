//! `config.json`: which family it is of, and that of a Llama.

use std::path::Path;

use serde::Deserialize;

use crate::arch::config::{Config, Family, SUPPORTED_ARCHITECTURES, check_architecture};
use crate::arch::config_file::{ConfigFile, parse};
use crate::ext::float_format::FloatFormat;
use crate::nn::rope::{Frequencies, RopeStyle, Stretch};
use crate::arch::{gemma4, qwen35};
use crate::{Error, Result};

pub(crate) fn read(path: &Path) -> Result<Config> {
    let text =
        std::fs::read(path).map_err(|source| Error::Read { path: path.to_path_buf(), source })?;
    let named: Named = parse(path, &text)?;
    check_architecture(path, &named.model_type, SUPPORTED_ARCHITECTURES)?;
    ConfigFile { path, keys: &named }.check_quantization()?;
    let model_type = named.model_type;
    if model_type.starts_with("gemma4") {
        return gemma4::read_config(path, &model_type, &text);
    }
    if model_type.starts_with("qwen3_5") {
        return qwen35::read_config(path, &model_type, &text);
    }
    let file: LlamaFile = parse(path, &text)?;
    let reader = ConfigFile { path, keys: &file };
    reader.check()?;
    let head_dim = file.head_dim.unwrap_or(file.hidden_size / file.num_attention_heads.max(1));
    let rope = reader.rope()?;
    Config {
        architecture: model_type,
        hidden_size: file.hidden_size,
        intermediate_size: file.intermediate_size,
        num_layers: file.num_hidden_layers,
        num_heads: file.num_attention_heads,
        num_kv_heads: file.num_key_value_heads.unwrap_or(file.num_attention_heads),
        head_dim,
        vocab_size: file.vocab_size,
        norm_eps: file.rms_norm_eps,
        tied_embeddings: file.tie_word_embeddings,
        rope_style: match file.rope_traditional {
            true => RopeStyle::Interleaved,
            false => RopeStyle::Halves,
        },
        rope_frequencies: vec![rope.of_pairs(head_dim)],
        soft_cap: None,
        root: "",
        family: Family::Llama,
    }
    .checked(path)
}

/// The one key that decides how the rest is read.
#[derive(Deserialize)]
struct Named {
    model_type: String,
    #[serde(default)]
    quantization: serde_json::Value,
}

impl ConfigFile<'_, Named> {
    /// Refuses weights that are quantized in an unknown way. Which way, how many bits and how large
    /// the groups are is read off the tensors: the entries of single modules need not be.
    fn check_quantization(&self) -> Result<()> {
        let quantization = &self.keys.quantization;
        let modules = quantization.as_object().into_iter().flatten();
        let nested = modules.filter_map(|(key, value)| {
            Some((format!("quantization.{key}.mode"), value.get("mode")?))
        });
        let own = quantization.get("mode").map(|mode| ("quantization.mode".to_owned(), mode));
        let known = |mode: &str| FloatFormat::MODES.contains(&mode);
        match nested.chain(own).find(|(_, mode)| !mode.as_str().is_some_and(known)) {
            None => Ok(()),
            Some((key, found)) => {
                self.refuse(&key, &format!("one of {}", FloatFormat::MODES.join(", ")), found)
            }
        }
    }
}

/// `config.json` of a Llama; keys that do not change the arithmetic are ignored.
#[derive(Deserialize)]
struct LlamaFile {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    vocab_size: usize,
    rms_norm_eps: f32,
    /// mlx-lm's default; Hugging Face writes the key whenever it is not.
    #[serde(default = "yes")]
    tie_word_embeddings: bool,
    rope_theta: Option<f64>,
    #[serde(default)]
    rope_traditional: bool,
    rope_scaling: Option<Scaling>,
    /// Newer files have one object for both.
    rope_parameters: Option<Scaling>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    hidden_act: Option<String>,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
struct Scaling {
    rope_theta: Option<f64>,
    #[serde(alias = "type")]
    rope_type: Option<String>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
}

impl ConfigFile<'_, LlamaFile> {
    /// Refuses what the layers here do not compute.
    fn check(&self) -> Result<()> {
        let file = self.keys;
        let act = file.hidden_act.as_deref().unwrap_or("silu");
        let cases = [
            ("hidden_act", "silu", act != "silu", act.to_owned()),
            ("attention_bias", "false", file.attention_bias, "true".to_owned()),
            ("mlp_bias", "false", file.mlp_bias, "true".to_owned()),
        ];
        match cases.into_iter().find(|&(_, _, refused, _)| refused) {
            None => Ok(()),
            Some((key, expected, _, found)) => self.refuse(key, expected, found),
        }
    }

    fn rope(&self) -> Result<Frequencies> {
        let file = self.keys;
        let scaling = file.rope_parameters.as_ref().or(file.rope_scaling.as_ref());
        let nested = scaling.and_then(|scaling| scaling.rope_theta);
        let theta = nested.or(file.rope_theta).unwrap_or(10_000.0);
        let Some(scaling) = scaling else { return Ok(Frequencies::plain(theta)) };
        let number = |value: Option<f64>, key: &str| match value {
            Some(number) => Ok(number),
            None => self.refuse(&format!("rope_scaling.{key}"), "a number", "nothing"),
        };
        let stretch = match scaling.rope_type.as_deref().unwrap_or("default") {
            "default" => Stretch::None,
            "linear" => Stretch::Linear(number(scaling.factor, "factor")?),
            "llama3" => Stretch::Llama3 {
                factor: number(scaling.factor, "factor")?,
                low: number(scaling.low_freq_factor, "low_freq_factor")?,
                high: number(scaling.high_freq_factor, "high_freq_factor")?,
                trained: number(
                    scaling.original_max_position_embeddings,
                    "original_max_position_embeddings",
                )?,
            },
            other => {
                let expected = "default, linear or llama3";
                return self.refuse("rope_scaling.rope_type", expected, other);
            }
        };
        Ok(Frequencies { theta, stretch })
    }
}
