//! `config.json`: which family it is of, and that of a Llama.

use std::path::Path;

use serde::Deserialize;

use crate::config::{Config, Family, SUPPORTED_ARCHITECTURES, check_architecture};
use crate::floats::FloatFormat;
use crate::rope::{Frequencies, RopeStyle, Stretch};
use crate::{Error, Result, gemma4, qwen35};

pub(crate) fn read(path: &Path) -> Result<Config> {
    let text =
        std::fs::read(path).map_err(|source| Error::Read { path: path.to_path_buf(), source })?;
    let json = |source| Error::Json { path: path.to_path_buf(), source };
    let Named { model_type, quantization } = serde_json::from_slice(&text).map_err(json)?;
    check_architecture(path, &model_type, SUPPORTED_ARCHITECTURES)?;
    check_quantization(path, &quantization)?;
    if model_type.starts_with("gemma4") {
        return gemma4::read_config(path, &model_type, &text);
    }
    if model_type.starts_with("qwen3_5") {
        return qwen35::read_config(path, &model_type, &text);
    }
    let file: LlamaFile = serde_json::from_slice(&text).map_err(json)?;
    file.check(path)?;
    let head_dim = file.head_dim.unwrap_or(file.hidden_size / file.num_attention_heads.max(1));
    let rope = file.rope(path)?;
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

/// Refuses weights that are quantized in an unknown way. Which way, how many bits and how large the
/// groups are is read off the tensors: the entries of single modules need not be.
fn check_quantization(path: &Path, quantization: &serde_json::Value) -> Result<()> {
    let modules = quantization.as_object().into_iter().flat_map(|object| object.iter());
    let nested = modules
        .filter_map(|(key, value)| Some((format!("quantization.{key}.mode"), value.get("mode")?)));
    let own = quantization.get("mode").map(|mode| ("quantization.mode".to_owned(), mode));
    match nested
        .chain(own)
        .find(|(_, mode)| mode.as_str().is_none_or(|mode| !FloatFormat::MODES.contains(&mode)))
    {
        None => Ok(()),
        Some((key, found)) => Err(Error::Config {
            path: path.to_path_buf(),
            key,
            expected: format!("one of {}", FloatFormat::MODES.join(", ")),
            found: found.to_string(),
        }),
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

#[derive(Clone, Deserialize)]
struct Scaling {
    rope_theta: Option<f64>,
    #[serde(alias = "type")]
    rope_type: Option<String>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
}

impl LlamaFile {
    /// Refuses what the layers here do not compute.
    fn check(&self, path: &Path) -> Result<()> {
        let act = self.hidden_act.as_deref().unwrap_or("silu");
        let cases = [
            ("hidden_act", "silu", act != "silu", act.to_owned()),
            ("attention_bias", "false", self.attention_bias, "true".to_owned()),
            ("mlp_bias", "false", self.mlp_bias, "true".to_owned()),
        ];
        match cases.into_iter().find(|&(_, _, refused, _)| refused) {
            None => Ok(()),
            Some((key, expected, _, found)) => Err(Error::Config {
                path: path.to_path_buf(),
                key: key.into(),
                expected: expected.into(),
                found,
            }),
        }
    }

    fn rope(&self, path: &Path) -> Result<Frequencies> {
        let scaling = self.rope_parameters.clone().or(self.rope_scaling.clone());
        let nested = scaling.as_ref().and_then(|scaling| scaling.rope_theta);
        let theta = nested.or(self.rope_theta).unwrap_or(10_000.0);
        let Some(scaling) = scaling else { return Ok(Frequencies::plain(theta)) };
        let missing = |key: &str| Error::Config {
            path: path.to_path_buf(),
            key: format!("rope_scaling.{key}"),
            expected: "a number".into(),
            found: "nothing".into(),
        };
        let number = |value: Option<f64>, key: &str| value.ok_or_else(|| missing(key));
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
                return Err(Error::Config {
                    path: path.to_path_buf(),
                    key: "rope_scaling.rope_type".into(),
                    expected: "default, linear or llama3".into(),
                    found: other.into(),
                });
            }
        };
        Ok(Frequencies { theta, stretch })
    }
}
