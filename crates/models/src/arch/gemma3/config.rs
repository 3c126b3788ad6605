//! `config.json` of a Gemma 3, with mlx-lm's defaults.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::Gemma3;
use crate::Result;
use crate::arch::config::{Config, LANGUAGE_MODEL, Sizes};
use crate::arch::config_file::{ConfigFile, FULL_ATTENTION, LayerTypes};
use crate::arch::rope_parameters::{RopeParameters, RopeSection};
use crate::arch::sliding::{Kind, SLIDING_ATTENTION};
use crate::checkpoint::json::parse;
use crate::nn::Frequencies;

/// Reads the configuration of a text model (`gemma3_text`), or the text part of a larger one.
pub(super) fn read(path: &Path, architecture: &str, text: &[u8]) -> Result<Config> {
    if architecture == "gemma3_text" {
        let keys: TextFile = parse(path, text)?;
        let reader = ConfigFile { path, keys: &keys };
        return reader.config(architecture, "", Heads { queries: 4, keys: 1 }, 262_144);
    }
    let Outer { vocab_size, text_config: keys } = parse(path, text)?;
    let vocab_size = vocab_size.or(keys.vocab_size).unwrap_or(262_208);
    let keys = TextFile { vocab_size: Some(vocab_size), ..keys };
    let reader = ConfigFile { path, keys: &keys };
    reader.config(architecture, LANGUAGE_MODEL, Heads { queries: 8, keys: 4 }, vocab_size)
}

/// The default numbers of heads.
struct Heads {
    queries: usize,
    keys: usize,
}

/// A multimodal model: its text part.
#[derive(Deserialize)]
struct Outer {
    vocab_size: Option<usize>,
    #[serde(default)]
    text_config: TextFile,
}

/// Keys that do not change the result are ignored.
#[derive(Default, Deserialize)]
#[serde(default)]
struct TextFile {
    hidden_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    intermediate_size: Option<usize>,
    num_attention_heads: Option<usize>,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    vocab_size: Option<usize>,
    rms_norm_eps: Option<f32>,
    rope_theta: Option<f64>,
    rope_local_base_freq: Option<f64>,
    rope_scaling: Option<RopeParameters>,
    /// In newer files, instead of the three: by kind of layer.
    rope_parameters: Option<BTreeMap<String, RopeParameters>>,
    query_pre_attn_scalar: Option<f64>,
    sliding_window: Option<usize>,
    #[serde(alias = "_sliding_window_pattern")]
    sliding_window_pattern: Option<usize>,
    layer_types: Option<Vec<String>>,
    tie_word_embeddings: Option<bool>,
    hidden_activation: Option<String>,
    attn_logit_softcapping: Option<f32>,
    final_logit_softcapping: Option<f32>,
    use_bidirectional_attention: Option<bool>,
}

impl ConfigFile<'_, TextFile> {
    fn config(
        &self,
        architecture: &str,
        root: &'static str,
        heads: Heads,
        vocab_size: usize,
    ) -> Result<Config> {
        let file = self.keys;
        self.check()?;
        let sizes = Sizes {
            hidden_size: file.hidden_size.unwrap_or(1152),
            intermediate_size: file.intermediate_size.unwrap_or(6912),
            num_layers: file.num_hidden_layers.unwrap_or(26),
            num_heads: file.num_attention_heads.unwrap_or(heads.queries),
            num_kv_heads: file.num_key_value_heads.unwrap_or(heads.keys),
            head_dim: file.head_dim.unwrap_or(256),
            vocab_size: file.vocab_size.unwrap_or(vocab_size),
        };
        let sizes = sizes.checked(self.path)?;
        let per_query = file.query_pre_attn_scalar.or(Some(256.0));
        let per_query = self.positive("query_pre_attn_scalar", per_query)?;
        let family = Gemma3 {
            kinds: self.kinds(sizes.num_layers)?,
            window: self.size("sliding_window", file.sliding_window.unwrap_or(512))?,
            scale: per_query.sqrt().recip() as f32,
            norm_offset: 1.0,
        };
        Ok(Config {
            norm_eps: file.rms_norm_eps.unwrap_or(1e-6),
            tied_embeddings: file.tie_word_embeddings.unwrap_or(true),
            soft_cap: file.final_logit_softcapping,
            rope_frequencies: vec![
                self.frequencies(Kind::Sliding, sizes.head_dim)?,
                self.frequencies(Kind::Full, sizes.head_dim)?,
            ],
            root,
            ..Config::new(architecture, sizes, family)
        })
    }

    /// Refuses what the layers do not support.
    fn check(&self) -> Result<()> {
        let file = self.keys;
        let act = file.hidden_activation.as_deref().unwrap_or("gelu_pytorch_tanh");
        self.require("hidden_activation", "gelu_pytorch_tanh", act)?;
        if let Some(cap) = file.attn_logit_softcapping {
            return self.refuse("attn_logit_softcapping", "null", cap);
        }
        let both_ways = file.use_bidirectional_attention.unwrap_or(false);
        self.require("use_bidirectional_attention", false, both_ways)
    }

    fn kinds(&self, count: usize) -> Result<Vec<Kind>> {
        let interval = self.keys.sliding_window_pattern.unwrap_or(super::gguf::PATTERN);
        self.layer_kinds(&LayerTypes {
            count,
            named: self.keys.layer_types.as_deref(),
            interval: ("sliding_window_pattern", interval),
            kinds: [(SLIDING_ATTENTION, Kind::Sliding), (FULL_ATTENTION, Kind::Full)],
        })
    }

    /// Radians per position of each pair of a head.
    fn frequencies(&self, kind: Kind, head_dim: usize) -> Result<Vec<f64>> {
        let file = self.keys;
        let (name, key, theta) = match kind {
            Kind::Sliding => (
                SLIDING_ATTENTION,
                "rope_local_base_freq",
                file.rope_local_base_freq.or(Some(super::gguf::SLIDING_THETA)),
            ),
            Kind::Full => (FULL_ATTENTION, "rope_theta", file.rope_theta.or(Some(1e6))),
        };
        let theta = self.positive(key, theta)?;
        let (key, keys) = match (&file.rope_parameters, kind) {
            (Some(parameters), _) => (format!("rope_parameters.{name}"), parameters.get(name)),
            (None, Kind::Full) => ("rope_scaling".to_owned(), file.rope_scaling.as_ref()),
            (None, Kind::Sliding) => (String::new(), None),
        };
        match keys {
            Some(keys) => {
                RopeSection { path: self.path, key: &key, keys }.frequencies(theta, head_dim)
            }
            None => Ok(Frequencies::plain(theta).of_pairs(head_dim)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read_file(file: Value) -> std::result::Result<Config, String> {
        let architecture = file["model_type"].as_str().unwrap().to_owned();
        read(Path::new("config.json"), &architecture, file.to_string().as_bytes())
            .map_err(|error| error.to_string())
    }

    /// The configurations of 270M and, as a part of a multimodal model, of 4B. The counts are those of
    /// mlx-lm's models of the same configurations.
    #[test]
    fn weights_are_counted_from_the_configuration_alone() {
        let small = json!({
            "model_type": "gemma3_text", "hidden_size": 640, "intermediate_size": 2048,
            "num_hidden_layers": 18, "num_attention_heads": 4, "num_key_value_heads": 1,
            "head_dim": 256, "vocab_size": 262_144, "sliding_window": 512,
        });
        assert_eq!(read_file(small).unwrap().num_weights(), 268_098_176);
        let large = json!({ "model_type": "gemma3", "text_config": {
            "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34,
            "rope_scaling": { "factor": 8.0, "rope_type": "linear" }, "sliding_window": 1024,
        }});
        assert_eq!(read_file(large).unwrap().num_weights(), 3_880_263_168);
    }

    /// transformers 5 writes `rope_parameters` and `layer_types`.
    #[test]
    fn both_layouts_of_the_file_are_the_same_model() {
        let base = json!({ "model_type": "gemma3_text", "num_hidden_layers": 3 });
        let with = |keys: Value| {
            let mut file = base.clone();
            file.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
            read_file(file).unwrap()
        };
        let older = with(json!({
            "rope_theta": 5e5, "rope_local_base_freq": 2e4, "sliding_window_pattern": 2,
            "rope_scaling": { "rope_type": "linear", "factor": 8.0 },
        }));
        let newer = with(json!({
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": {
                "full_attention": { "rope_type": "linear", "factor": 8.0, "rope_theta": 5e5 },
                "sliding_attention": { "rope_type": "default", "rope_theta": 2e4 },
            },
        }));
        assert_eq!(older.rope_frequencies, newer.rope_frequencies);
        let windows = |config: &Config| {
            (0..3).map(|layer| config.family().layer_window(layer)).collect::<Vec<_>>()
        };
        assert_eq!(windows(&older), [Some(512), None, Some(512)]);
        assert_eq!(windows(&newer), windows(&older));
        assert_eq!(older.rope_frequencies[1][0], 0.125);
    }

    #[test]
    fn what_the_layers_cannot_do_is_refused_by_key() {
        for (key, value) in [
            ("use_bidirectional_attention", json!(true)),
            ("attn_logit_softcapping", json!(50.0)),
            ("hidden_activation", json!("silu")),
            ("query_pre_attn_scalar", json!(0)),
            ("sliding_window", json!(0)),
        ] {
            let file = json!({ "model_type": "gemma3_text", key: value });
            let error = read_file(file).unwrap_err();
            assert!(error.contains(&format!("{key}: expected ")), "{error}");
        }
    }
}
