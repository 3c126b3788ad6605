//! `config.json` of a Qwen3.5, with mlx-lm's defaults.

use std::path::Path;

use serde::Deserialize;

use super::shape::{DeltaShape, Kind, Qwen35};
use crate::Result;
use crate::arch::config::{Config, LANGUAGE_MODEL, Sizes};
use crate::arch::config_file::{ConfigFile, FULL_ATTENTION, LayerTypes};
use crate::arch::experts::ExpertKeys;
use crate::arch::rope_parameters::{RopeParameters, RopeSection};
use crate::checkpoint::json::parse;
use crate::nn::FeedForward;

/// Reads the configuration of a text model (`qwen3_5_text`), or the text part of a larger one.
pub(super) fn read(path: &Path, architecture: &str, text: &[u8]) -> Result<Config> {
    let keys = keys(path, text)?;
    ConfigFile { path, keys: &keys }.config(architecture)
}

fn keys(path: &Path, text: &[u8]) -> Result<TextFile> {
    let outer: Outer = parse(path, text)?;
    let mut keys = match outer.text_config {
        Some(keys) => keys,
        None => parse(path, text)?,
    };
    keys.tie_word_embeddings = keys.tie_word_embeddings.or(outer.tie_word_embeddings);
    Ok(keys)
}

/// A multimodal model: its text part.
#[derive(Deserialize)]
struct Outer {
    text_config: Option<TextFile>,
    tie_word_embeddings: Option<bool>,
}

/// Keys that do not change the result are ignored.
#[derive(Deserialize)]
#[serde(default)]
struct TextFile {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: usize,
    head_dim: Option<usize>,
    rms_norm_eps: f32,
    vocab_size: usize,
    linear_num_value_heads: usize,
    linear_num_key_heads: usize,
    linear_key_head_dim: usize,
    linear_value_head_dim: usize,
    linear_conv_kernel_dim: usize,
    tie_word_embeddings: Option<bool>,
    attention_bias: bool,
    attn_output_gate: bool,
    full_attention_interval: usize,
    layer_types: Option<Vec<String>>,
    #[serde(flatten)]
    experts: ExpertKeys,
    rope_parameters: RopeParameters,
    hidden_act: Option<String>,
}

/// mlx-lm's defaults.
impl Default for TextFile {
    fn default() -> Self {
        Self {
            hidden_size: 4096,
            intermediate_size: 14_336,
            num_hidden_layers: 32,
            num_attention_heads: 32,
            num_key_value_heads: 8,
            head_dim: None,
            rms_norm_eps: 1e-6,
            vocab_size: 151_936,
            linear_num_value_heads: 64,
            linear_num_key_heads: 16,
            linear_key_head_dim: 192,
            linear_value_head_dim: 128,
            linear_conv_kernel_dim: 4,
            tie_word_embeddings: None,
            attention_bias: false,
            attn_output_gate: true,
            full_attention_interval: 4,
            layer_types: None,
            experts: ExpertKeys::default(),
            rope_parameters: RopeParameters::default(),
            hidden_act: None,
        }
    }
}

impl ConfigFile<'_, TextFile> {
    fn config(&self, architecture: &str) -> Result<Config> {
        let file = self.keys;
        self.check()?;
        let sizes = Sizes {
            hidden_size: file.hidden_size,
            intermediate_size: file.intermediate_size,
            num_layers: file.num_hidden_layers,
            num_heads: file.num_attention_heads,
            num_kv_heads: file.num_key_value_heads,
            head_dim: file.head_dim.unwrap_or(file.hidden_size / file.num_attention_heads.max(1)),
            vocab_size: file.vocab_size,
        };
        let sizes = sizes.checked(self.path)?;
        Ok(Config {
            norm_eps: file.rms_norm_eps,
            tied_embeddings: file.tie_word_embeddings.unwrap_or(false),
            root: LANGUAGE_MODEL,
            rope_frequencies: vec![self.frequencies(sizes.head_dim)?],
            ..Config::new(architecture, sizes, self.shape()?)
        })
    }

    fn shape(&self) -> Result<Qwen35> {
        Ok(Qwen35 {
            layers: self.layers()?,
            delta: self.delta()?,
            feed_forward: self.feed_forward()?,
        })
    }

    /// Refuses what the layers do not support.
    fn check(&self) -> Result<()> {
        let file = self.keys;
        self.require("hidden_act", "silu", file.hidden_act.as_deref().unwrap_or("silu"))?;
        self.require("attention_bias", false, file.attention_bias)?;
        self.require("attn_output_gate", true, file.attn_output_gate)?;
        Ok(())
    }

    /// Every layer has experts, or none has.
    fn feed_forward(&self) -> Result<FeedForward> {
        let file = self.keys;
        if file.experts.num_experts == 0 {
            return Ok(FeedForward::Dense(file.intermediate_size));
        }
        for layer in 0..file.num_hidden_layers {
            if !file.experts.in_layer(self, layer)? {
                return self.refuse(
                    "decoder_sparse_step",
                    "experts in every layer",
                    format!("none in layer {layer}"),
                );
            }
        }
        Ok(FeedForward::Sparse(file.experts.shape(self, true)?))
    }

    fn layers(&self) -> Result<Vec<Kind>> {
        let file = self.keys;
        self.layer_kinds(&LayerTypes {
            count: file.num_hidden_layers,
            named: file.layer_types.as_deref(),
            interval: ("full_attention_interval", file.full_attention_interval),
            kinds: [("linear_attention", Kind::Delta), (FULL_ATTENTION, Kind::Attention)],
        })
    }

    fn delta(&self) -> Result<DeltaShape> {
        let file = self.keys;
        let delta = DeltaShape {
            key_heads: self.size("linear_num_key_heads", file.linear_num_key_heads)?,
            value_heads: self.size("linear_num_value_heads", file.linear_num_value_heads)?,
            key_dim: self.size("linear_key_head_dim", file.linear_key_head_dim)?,
            value_dim: self.size("linear_value_head_dim", file.linear_value_head_dim)?,
            taps: self.size("linear_conv_kernel_dim", file.linear_conv_kernel_dim)?,
        };
        if !delta.value_heads.is_multiple_of(delta.key_heads) {
            let expected = format!("a multiple of the {} key heads", delta.key_heads);
            return self.refuse("linear_num_value_heads", &expected, delta.value_heads);
        }
        if delta.taps < 2 {
            return self.refuse("linear_conv_kernel_dim", "at least 2", delta.taps);
        }
        Ok(delta)
    }

    /// Radians per position of the rotated pairs, the first values of each head.
    fn frequencies(&self, head_dim: usize) -> Result<Vec<f64>> {
        let keys = &self.keys.rope_parameters;
        let section = RopeSection { path: self.path, key: "rope_parameters", keys };
        let share = keys.partial_rotary_factor.unwrap_or(0.25);
        let rotated = (head_dim as f64 * share) as usize;
        if !(0.0..=1.0).contains(&share) || rotated == 0 || !rotated.is_multiple_of(2) {
            let expected = format!("a share of whole pairs of the {head_dim} values of a head");
            return section.refuse("partial_rotary_factor", &expected, share);
        }
        section.frequencies(100_000.0, rotated)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read_text(text_config: Value) -> Result<Config> {
        let file = json!({ "model_type": "qwen3_5", "text_config": text_config }).to_string();
        read(Path::new("config.json"), "qwen3_5", file.as_bytes())
    }

    fn shape(text_config: Value) -> Qwen35 {
        let (path, text) = (Path::new("config.json"), text_config.to_string());
        let keys = keys(path, text.as_bytes()).unwrap();
        ConfigFile { path, keys: &keys }.shape().unwrap()
    }

    /// The 27B, whose number of weights is known.
    fn largest() -> Value {
        json!({
            "hidden_size": 5120, "num_hidden_layers": 64, "intermediate_size": 17_408,
            "num_attention_heads": 24, "num_key_value_heads": 4, "head_dim": 256,
            "vocab_size": 248_320, "linear_num_key_heads": 16, "linear_num_value_heads": 48,
            "linear_key_head_dim": 128, "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4,
            "tie_word_embeddings": false, "rms_norm_eps": 1e-6, "attn_output_gate": true,
            "rope_parameters": {
                "rope_type": "default", "rope_theta": 1e7, "partial_rotary_factor": 0.25,
                "mrope_section": [11, 11, 10], "mrope_interleaved": true,
            },
        })
    }

    #[test]
    fn the_27b_has_as_many_weights_as_it_should() {
        let config = read_text(largest()).unwrap();
        assert_eq!(config.num_weights(), 26_895_998_464);
        assert_eq!(config.rope_frequencies[0].len(), 32);
        let shape = shape(largest());
        let full: Vec<usize> = (0..64).filter(|&i| shape.layers[i] == Kind::Attention).collect();
        assert_eq!(full, (3..64).step_by(4).collect::<Vec<_>>());
    }

    #[test]
    fn missing_keys_have_mlx_lms_defaults() {
        let config = read_text(json!({})).unwrap();
        let Qwen35 { delta, layers, .. } = shape(json!({}));
        assert_eq!((delta.key_dim, delta.value_heads, layers.len()), (192, 64, 32));
        assert_eq!((config.head_dim, config.tied_embeddings), (128, false));
    }

    /// The 35B-A3B, whose number of weights is known; its keys about experts are checked.
    #[test]
    fn a_model_with_experts_has_as_many_weights_as_it_should() {
        let mut file = largest();
        let sizes = json!({
            "hidden_size": 2048, "num_hidden_layers": 40, "num_attention_heads": 16,
            "num_key_value_heads": 2, "linear_num_value_heads": 32, "num_experts": 256,
            "num_experts_per_tok": 8, "moe_intermediate_size": 512,
            "shared_expert_intermediate_size": 512,
        });
        file.as_object_mut().unwrap().extend(sizes.as_object().unwrap().clone());
        assert_eq!(read_text(file.clone()).unwrap().num_weights(), 34_660_610_688);
        for (key, value) in [
            ("num_experts_per_tok", json!(257)),
            ("num_experts_per_tok", json!(0)),
            ("moe_intermediate_size", json!(0)),
            ("decoder_sparse_step", json!(2)),
        ] {
            let mut file = file.clone();
            file[key] = value;
            let error = read_text(file).unwrap_err().to_string();
            assert!(error.contains(key), "{key}: {error}");
        }
    }

    #[test]
    fn unsupported_values_are_refused() {
        for (key, value) in [
            ("attention_bias", json!(true)),
            ("attn_output_gate", json!(false)),
            ("hidden_act", json!("gelu")),
            ("linear_num_value_heads", json!(50)),
            ("linear_num_key_heads", json!(0)),
            ("linear_conv_kernel_dim", json!(1)),
            ("layer_types", json!(["full_attention"])),
            ("rope_parameters", json!({ "rope_type": "yarn" })),
            ("rope_parameters", json!({ "partial_rotary_factor": 0.001 })),
        ] {
            let mut file = largest();
            file[key] = value;
            let error = read_text(file).unwrap_err().to_string();
            assert!(error.contains(key), "{key}: {error}");
        }
    }
}
