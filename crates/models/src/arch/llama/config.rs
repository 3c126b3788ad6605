//! `config.json` of a Llama.

use std::path::Path;

use serde::Deserialize;

use super::Llama;
use crate::Result;
use crate::arch::config::{Config, Sizes};
use crate::arch::config_file::ConfigFile;
use crate::arch::rope_parameters::{RopeParameters, RopeSection};
use crate::checkpoint::json::parse;
use crate::nn::{Frequencies, RopeStyle};

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
        rope_frequencies: vec![reader.frequencies(sizes.head_dim)?],
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

impl ConfigFile<'_, LlamaFile> {
    /// Refuses what the layers do not support.
    fn check(&self) -> Result<()> {
        let file = self.keys;
        self.require("hidden_act", "silu", file.hidden_act.as_deref().unwrap_or("silu"))?;
        self.require("attention_bias", false, file.attention_bias)?;
        self.require("mlp_bias", false, file.mlp_bias)
    }

    /// Radians per position of each pair of a head. What the file has under two names must agree.
    fn frequencies(&self, head_dim: usize) -> Result<Vec<f64>> {
        let file = self.keys;
        let theta = self.theta()?;
        let sections =
            [("rope_parameters", &file.rope_parameters), ("rope_scaling", &file.rope_scaling)];
        let mut found = Vec::new();
        for (key, keys) in sections {
            let Some(keys) = keys else { continue };
            let share = keys.partial_rotary_factor.unwrap_or(1.0);
            self.require(&format!("{key}.partial_rotary_factor"), 1.0, share)?;
            found.push(RopeSection { path: self.path, key, keys }.frequencies(theta, head_dim)?);
        }
        match found.as_slice() {
            [newer, older] if newer != older => {
                self.refuse("rope_scaling", "the values of rope_parameters", "others")
            }
            _ => {
                let plain = || Frequencies::plain(theta).of_pairs(head_dim);
                Ok(found.into_iter().next().unwrap_or_else(plain))
            }
        }
    }

    /// `rope_theta`, wherever it stands.
    fn theta(&self) -> Result<f64> {
        let file = self.keys;
        let nested = |section: &Option<RopeParameters>| section.as_ref()?.rope_theta;
        let places = [
            ("rope_theta", file.rope_theta),
            ("rope_parameters.rope_theta", nested(&file.rope_parameters)),
            ("rope_scaling.rope_theta", nested(&file.rope_scaling)),
        ];
        let mut given = places.into_iter().filter_map(|(key, theta)| Some((key, theta?)));
        let Some((first, theta)) = given.next() else { return Ok(10_000.0) };
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
