//! `config.json` of a Llama.

use std::path::Path;

use serde::Deserialize;

use super::Llama;
use crate::Result;
use crate::arch::config::{Config, Sizes};
use crate::arch::config_file::ConfigFile;
use crate::checkpoint::json::parse;
use crate::nn::{Frequencies, RopeStyle, Scaling};

pub(super) fn read(path: &Path, architecture: &str, text: &[u8]) -> Result<Config> {
    let file: LlamaFile = parse(path, text)?;
    let reader = ConfigFile { path, keys: &file };
    reader.check()?;
    let sizes = Sizes {
        hidden_size: file.hidden_size,
        intermediate_size: file.intermediate_size,
        num_layers: file.num_hidden_layers,
        num_heads: file.num_attention_heads,
        num_kv_heads: file.num_key_value_heads.unwrap_or(file.num_attention_heads),
        head_dim: file.head_dim.unwrap_or(file.hidden_size / file.num_attention_heads.max(1)),
        vocab_size: file.vocab_size,
    };
    let sizes = sizes.checked(path)?;
    Ok(Config {
        norm_eps: file.rms_norm_eps,
        tied_embeddings: file.tie_word_embeddings,
        rope_style: match file.rope_traditional {
            true => RopeStyle::Interleaved,
            false => RopeStyle::Halves,
        },
        rope_frequencies: vec![reader.rope()?.of_pairs(sizes.head_dim)],
        ..Config::new(architecture, sizes, Llama)
    })
}

/// Keys that do not change the result are ignored.
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
    /// mlx-lm's default; Hugging Face writes the key if it is false.
    #[serde(default = "yes")]
    tie_word_embeddings: bool,
    rope_theta: Option<f64>,
    #[serde(default)]
    rope_traditional: bool,
    rope_scaling: Option<RopeParameters>,
    /// In newer files, instead of `rope_theta` and `rope_scaling`.
    rope_parameters: Option<RopeParameters>,
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
struct RopeParameters {
    rope_theta: Option<f64>,
    #[serde(alias = "type")]
    rope_type: Option<String>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
}

impl ConfigFile<'_, LlamaFile> {
    /// Refuses what the layers do not support.
    fn check(&self) -> Result<()> {
        let file = self.keys;
        self.require("hidden_act", "silu", file.hidden_act.as_deref().unwrap_or("silu"))?;
        self.require("attention_bias", false, file.attention_bias)?;
        self.require("mlp_bias", false, file.mlp_bias)
    }

    fn rope(&self) -> Result<Frequencies> {
        let file = self.keys;
        let parameters = file.rope_parameters.as_ref().or(file.rope_scaling.as_ref());
        let nested = parameters.and_then(|parameters| parameters.rope_theta);
        let theta = nested.or(file.rope_theta).unwrap_or(10_000.0);
        let Some(parameters) = parameters else { return Ok(Frequencies::plain(theta)) };
        let number = |value: Option<f64>, key: &str| match value {
            Some(number) => Ok(number),
            None => self.refuse(&format!("rope_scaling.{key}"), "a number", "nothing"),
        };
        let scaling = match parameters.rope_type.as_deref().unwrap_or("default") {
            "default" => Scaling::None,
            "linear" => Scaling::Linear(number(parameters.factor, "factor")?),
            "llama3" => Scaling::Llama3 {
                factor: number(parameters.factor, "factor")?,
                low: number(parameters.low_freq_factor, "low_freq_factor")?,
                high: number(parameters.high_freq_factor, "high_freq_factor")?,
                original_context: number(
                    parameters.original_max_position_embeddings,
                    "original_max_position_embeddings",
                )?,
            },
            other => {
                let expected = "default, linear or llama3";
                return self.refuse("rope_scaling.rope_type", expected, other);
            }
        };
        Ok(Frequencies { theta, scaling })
    }
}
