//! `config.json` of a Llama, a Mistral, a Qwen2, a Qwen3 or a Qwen3 MoE.

use std::path::Path;

use serde::Deserialize;

use super::{Llama, gguf};
use crate::Result;
use crate::arch::attention::AttentionShape;
use crate::arch::config::{Config, Sizes};
use crate::arch::config_file::{ConfigFile, FULL_ATTENTION};
use crate::arch::experts::ExpertKeys;
use crate::arch::rope_parameters::{RopeParameters, RopeSection, Rotary};
use crate::arch::sliding::SLIDING_ATTENTION;
use crate::checkpoint::json::parse;
use crate::nn::{FeedForward, RopeStyle};

pub(super) fn read(path: &Path, architecture: &str, text: &[u8]) -> Result<Config> {
    let file: LlamaFile = parse(path, text)?;
    let reader = ConfigFile { path, keys: &file };
    reader.check(architecture)?;
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
    let rotary = reader.rotary(architecture, sizes.head_dim)?;
    let family = Llama {
        attention: AttentionShape {
            biases: architecture == QWEN2,
            norms: [QWEN3, QWEN3_MOE].contains(&architecture),
            rope: 0,
            scale: rotary.of_scores / (sizes.head_dim as f32).sqrt(),
            window: reader.window(architecture)?,
        },
        feed_forwards: reader.feed_forwards(architecture)?,
        gguf: match architecture {
            QWEN2 => gguf::QWEN2,
            QWEN3 => gguf::QWEN3,
            QWEN3_MOE => gguf::QWEN3_MOE,
            _ => gguf::LLAMA,
        },
    };
    Ok(Config {
        norm_eps: file.rms_norm_eps,
        tied_embeddings: file.tie_word_embeddings,
        rope_style: match file.rope_traditional {
            true => RopeStyle::Interleaved,
            false => RopeStyle::Halves,
        },
        rope_frequencies: vec![rotary.frequencies],
        max_positions: rotary.max_positions,
        ..Config::new(architecture, sizes, family)
    })
}

const MISTRAL: &str = "mistral";
const QWEN2: &str = "qwen2";
const QWEN3: &str = "qwen3";
const QWEN3_MOE: &str = "qwen3_moe";

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
    max_position_embeddings: Option<usize>,
    sliding_window: Option<usize>,
    layer_types: Option<Vec<String>>,
    /// Of Qwen's files, which name a window that they do not use.
    #[serde(default)]
    use_sliding_window: bool,
    /// Of a Qwen3 MoE's file.
    #[serde(flatten)]
    experts: ExpertKeys,
}

fn yes() -> bool {
    true
}

impl ConfigFile<'_, LlamaFile> {
    /// Refuses what the layers do not support.
    fn check(&self, architecture: &str) -> Result<()> {
        let file = self.keys;
        self.require("hidden_act", "silu", file.hidden_act.as_deref().unwrap_or("silu"))?;
        // A Qwen2 has biases whatever its file says.
        if architecture != QWEN2 {
            self.require("attention_bias", false, file.attention_bias)?;
        }
        self.require("use_sliding_window", false, file.use_sliding_window)?;
        self.require("mlp_bias", false, file.mlp_bias)
    }

    /// The attention window, which all layers of a Mistral have if the file names one.
    fn window(&self, architecture: &str) -> Result<Option<usize>> {
        let window = self.keys.sliding_window.filter(|_| architecture == MISTRAL);
        let kind = if window.is_some() { SLIDING_ATTENTION } else { FULL_ATTENTION };
        for layer in self.keys.layer_types.iter().flatten() {
            self.require("layer_types", kind, layer)?;
        }
        window.map(|window| self.size("sliding_window", window)).transpose()
    }

    /// What follows the attention of each layer.
    fn feed_forwards(&self, architecture: &str) -> Result<Vec<FeedForward>> {
        let file = self.keys;
        let dense = FeedForward::Dense(file.intermediate_size);
        if architecture != QWEN3_MOE {
            return Ok(vec![dense; file.num_hidden_layers]);
        }
        let sparse = FeedForward::Sparse(file.experts.shape(self, false)?);
        let of_layer = |layer| Ok(if file.experts.in_layer(self, layer)? { sparse } else { dense });
        (0..file.num_hidden_layers).map(of_layer).collect()
    }

    /// The rotary embedding. What the file has under two names must agree.
    fn rotary(&self, architecture: &str, head_dim: usize) -> Result<Rotary> {
        let file = self.keys;
        let theta = self.theta(architecture)?;
        let sections =
            [("rope_parameters", &file.rope_parameters), ("rope_scaling", &file.rope_scaling)];
        let mut found = Vec::new();
        for (key, keys) in sections {
            let Some(keys) = keys else { continue };
            let share = keys.partial_rotary_factor.unwrap_or(1.0);
            self.require(&format!("{key}.partial_rotary_factor"), 1.0, share)?;
            let section = RopeSection { path: self.path, key, keys };
            found.push(section.rotary(theta, head_dim, file.max_position_embeddings)?);
        }
        match found.as_slice() {
            [newer, older] if newer != older => {
                self.refuse("rope_scaling", "the values of rope_parameters", "others")
            }
            _ => {
                let plain = || Rotary::plain(theta, head_dim);
                Ok(found.into_iter().next().unwrap_or_else(plain))
            }
        }
    }

    /// `rope_theta`, wherever it stands.
    fn theta(&self, architecture: &str) -> Result<f64> {
        let file = self.keys;
        let nested = |section: &Option<RopeParameters>| section.as_ref()?.rope_theta;
        let places = [
            ("rope_theta", file.rope_theta),
            ("rope_parameters.rope_theta", nested(&file.rope_parameters)),
            ("rope_scaling.rope_theta", nested(&file.rope_scaling)),
        ];
        let mut given = places.into_iter().filter_map(|(key, theta)| Some((key, theta?)));
        let Some((first, theta)) = given.next() else {
            return match architecture {
                // transformers and mlx-lm have different defaults.
                QWEN2 | QWEN3 | QWEN3_MOE => self.positive("rope_theta", None),
                _ => Ok(10_000.0),
            };
        };
        if let Some((key, other)) = given.find(|(_, other)| *other != theta) {
            return self.refuse(key, &format!("{theta}, as in {first}"), other);
        }
        self.positive(first, Some(theta))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn frequencies(keys: Value) -> std::result::Result<Vec<f64>, String> {
        let mut file = json!({
            "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
            "num_attention_heads": 4, "vocab_size": 320, "rms_norm_eps": 1e-5,
        });
        file.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        let config = read(Path::new("config.json"), "llama", file.to_string().as_bytes());
        config.map(|config| config.rope_frequencies[0].clone()).map_err(|error| error.to_string())
    }

    /// transformers 5 writes `rope_parameters`, older versions and mlx-lm the other two keys.
    #[test]
    fn either_layout_of_the_rotary_embedding_is_read() {
        let scaling = json!({ "rope_type": "linear", "factor": 2.0 });
        let parameters = json!({ "rope_type": "linear", "factor": 2.0, "rope_theta": 5e5 });
        let expected = frequencies(json!({ "rope_theta": 5e5, "rope_scaling": scaling })).unwrap();
        for file in [
            json!({ "rope_parameters": parameters }),
            json!({ "rope_parameters": parameters, "rope_scaling": scaling }),
            json!({ "rope_parameters": parameters, "rope_scaling": null, "rope_theta": 5e5 }),
        ] {
            assert_eq!(frequencies(file.clone()).unwrap(), expected, "{file}");
        }
    }

    #[test]
    fn layouts_that_disagree_are_refused() {
        let parameters = json!({ "rope_type": "linear", "factor": 2.0, "rope_theta": 5e5 });
        for (file, message) in [
            (
                json!({ "rope_parameters": parameters, "rope_theta": 1e4 }),
                "rope_parameters.rope_theta: expected 10000, as in rope_theta, found 500000",
            ),
            (
                json!({ "rope_parameters": parameters, "rope_scaling": { "type": "default" } }),
                "rope_scaling: expected the values of rope_parameters, found others",
            ),
            (
                json!({ "rope_scaling": { "type": "default", "partial_rotary_factor": 0.5 } }),
                "rope_scaling.partial_rotary_factor: expected 1, found 0.5",
            ),
            (json!({ "rope_theta": 0 }), "rope_theta: expected a positive number, found 0"),
        ] {
            let error = frequencies(file).unwrap_err();
            assert!(error.ends_with(message), "{error}");
        }
    }
}
