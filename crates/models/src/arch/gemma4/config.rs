//! `config.json` of a Gemma 4, with mlx-lm's defaults.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::shape::{ExpertShape, Gemma4, Kind, LayerShape, PerLayerShape, Source};
use crate::Result;
use crate::arch::config::{Config, LANGUAGE_MODEL, Sizes};
use crate::arch::config_file::{ConfigFile, FULL_ATTENTION, LayerTypes};
use crate::arch::rope_parameters::{RopeParameters, RopeSection};
use crate::arch::sliding::SLIDING_ATTENTION;
use crate::checkpoint::json::parse;
use crate::nn::{Frequencies, RopeStyle, Scaling};

/// Reads the configuration of a text model (`gemma4_text`), or the text part of a larger one.
pub(super) fn read(path: &Path, architecture: &str, text: &[u8]) -> Result<Config> {
    let (keys, root) = match architecture {
        "gemma4_text" => (parse(path, text)?, ""),
        _ => {
            let Outer { vocab_size, text_config } = parse(path, text)?;
            let vocab_size = vocab_size.unwrap_or(text_config.vocab_size);
            (TextFile { vocab_size, ..text_config }, LANGUAGE_MODEL)
        }
    };
    ConfigFile { path, keys: &keys }.config(architecture, root)
}

/// A multimodal model: its text part.
#[derive(Deserialize)]
struct Outer {
    vocab_size: Option<usize>,
    #[serde(default)]
    text_config: TextFile,
}

/// Keys that do not change the result are ignored.
#[derive(Deserialize)]
#[serde(default)]
struct TextFile {
    hidden_size: usize,
    num_hidden_layers: usize,
    intermediate_size: usize,
    num_attention_heads: usize,
    head_dim: usize,
    global_head_dim: Option<usize>,
    rms_norm_eps: f32,
    vocab_size: usize,
    vocab_size_per_layer_input: usize,
    num_key_value_heads: usize,
    num_global_key_value_heads: Option<usize>,
    num_kv_shared_layers: usize,
    hidden_size_per_layer_input: Option<usize>,
    rope_traditional: bool,
    rope_parameters: Option<BTreeMap<String, RopeParameters>>,
    sliding_window: usize,
    sliding_window_pattern: usize,
    attention_k_eq_v: bool,
    final_logit_softcapping: Option<f32>,
    use_double_wide_mlp: bool,
    enable_moe_block: bool,
    num_experts: Option<usize>,
    top_k_experts: Option<usize>,
    moe_intermediate_size: Option<usize>,
    layer_types: Option<Vec<String>>,
    tie_word_embeddings: bool,
    hidden_activation: Option<String>,
}

/// mlx-lm's defaults, which are those of E2B.
impl Default for TextFile {
    fn default() -> Self {
        Self {
            hidden_size: 1536,
            num_hidden_layers: 35,
            intermediate_size: 6144,
            num_attention_heads: 8,
            head_dim: 256,
            global_head_dim: Some(512),
            rms_norm_eps: 1e-6,
            vocab_size: 262_144,
            vocab_size_per_layer_input: 262_144,
            num_key_value_heads: 1,
            num_global_key_value_heads: None,
            num_kv_shared_layers: 20,
            hidden_size_per_layer_input: Some(256),
            rope_traditional: false,
            rope_parameters: None,
            sliding_window: 512,
            sliding_window_pattern: 5,
            attention_k_eq_v: false,
            final_logit_softcapping: Some(30.0),
            use_double_wide_mlp: true,
            enable_moe_block: false,
            num_experts: None,
            top_k_experts: None,
            moe_intermediate_size: None,
            layer_types: None,
            tie_word_embeddings: true,
            hidden_activation: None,
        }
    }
}

/// The rotary embedding of a kind of layer in a file without `rope_parameters`.
fn default_rope(kind: Kind) -> RopeParameters {
    match kind {
        Kind::Sliding => RopeParameters::default(),
        Kind::Full => RopeParameters {
            rope_theta: Some(1e6),
            rope_type: Some("proportional".into()),
            partial_rotary_factor: Some(0.25),
            ..RopeParameters::default()
        },
    }
}

impl ConfigFile<'_, TextFile> {
    fn config(&self, architecture: &str, root: &'static str) -> Result<Config> {
        let file = self.keys;
        let act = file.hidden_activation.as_deref().unwrap_or("gelu_pytorch_tanh");
        self.require("hidden_activation", "gelu_pytorch_tanh", act)?;
        let sizes = Sizes {
            hidden_size: file.hidden_size,
            intermediate_size: file.intermediate_size,
            num_layers: file.num_hidden_layers,
            num_heads: file.num_attention_heads,
            num_kv_heads: file.num_key_value_heads,
            head_dim: file.head_dim,
            vocab_size: file.vocab_size,
        };
        let sizes = sizes.checked(self.path)?;
        // The shape first: it checks the sizes that the frequencies are computed with.
        let config = Config::new(architecture, sizes, self.shape()?);
        Ok(Config {
            norm_eps: file.rms_norm_eps,
            tied_embeddings: file.tie_word_embeddings,
            rope_style: match file.rope_traditional {
                true => RopeStyle::Interleaved,
                false => RopeStyle::Halves,
            },
            soft_cap: file.final_logit_softcapping,
            rope_frequencies: vec![
                self.frequencies(Kind::Sliding, file.head_dim)?,
                self.frequencies(Kind::Full, self.head_dim(Kind::Full))?,
            ],
            root,
            ..config
        })
    }

    fn shape(&self) -> Result<Gemma4> {
        let file = self.keys;
        self.size("sliding_window", file.sliding_window)?;
        Ok(Gemma4 {
            layers: self.layers()?,
            window: file.sliding_window,
            experts: self.experts()?,
            per_layer: self.per_layer()?,
        })
    }

    fn layers(&self) -> Result<Vec<LayerShape>> {
        let file = self.keys;
        let kinds = self.kinds()?;
        let count = kinds.len();
        let Some(own) = count.checked_sub(file.num_kv_shared_layers).filter(|&own| own > 0) else {
            let expected = format!("fewer than the {count} layers");
            return self.refuse("num_kv_shared_layers", &expected, file.num_kv_shared_layers);
        };
        let mut layers: Vec<LayerShape> = Vec::with_capacity(count);
        for (index, kind) in kinds.into_iter().enumerate() {
            let one_projection = file.attention_k_eq_v && kind == Kind::Full;
            let source = layers.iter().take(own).rposition(|layer| layer.kind == kind);
            let keys = match (index < own, source) {
                (true, _) if one_projection => Source::KeysAreValues,
                (true, _) => Source::Projected,
                (false, Some(layer)) => Source::Shared { layer },
                (false, None) => {
                    let expected = format!("a layer of each kind among the first {own}");
                    return self.refuse("num_kv_shared_layers", &expected, "none");
                }
            };
            let global = file.num_global_key_value_heads.filter(|_| one_projection);
            let kv_heads = global.unwrap_or(file.num_key_value_heads);
            let head_dim = self.head_dim(kind);
            self.size("global_head_dim", head_dim)?;
            if kv_heads == 0 || !file.num_attention_heads.is_multiple_of(kv_heads) {
                let expected = format!("a divisor of the {} query heads", file.num_attention_heads);
                return self.refuse("num_global_key_value_heads", &expected, kv_heads);
            }
            if !head_dim.is_multiple_of(2) {
                return self.refuse("global_head_dim", "an even size", head_dim);
            }
            let wide = file.use_double_wide_mlp && index >= own;
            let intermediate = file.intermediate_size * if wide { 2 } else { 1 };
            layers.push(LayerShape { kind, keys, head_dim, kv_heads, intermediate });
        }
        Ok(layers)
    }

    fn kinds(&self) -> Result<Vec<Kind>> {
        let file = self.keys;
        self.layer_kinds(&LayerTypes {
            count: file.num_hidden_layers,
            named: file.layer_types.as_deref(),
            interval: ("sliding_window_pattern", file.sliding_window_pattern),
            kinds: [(SLIDING_ATTENTION, Kind::Sliding), (FULL_ATTENTION, Kind::Full)],
        })
    }

    fn head_dim(&self, kind: Kind) -> usize {
        match kind {
            Kind::Sliding => self.keys.head_dim,
            Kind::Full => {
                let global = self.keys.global_head_dim.filter(|&size| size > 0);
                global.unwrap_or(self.keys.head_dim)
            }
        }
    }

    fn experts(&self) -> Result<Option<ExpertShape>> {
        let file = self.keys;
        if !file.enable_moe_block {
            return Ok(None);
        }
        let count = self.size("num_experts", file.num_experts)?;
        let chosen = self.size("top_k_experts", file.top_k_experts)?;
        let intermediate = self.size("moe_intermediate_size", file.moe_intermediate_size)?;
        if chosen > count {
            return self.refuse("top_k_experts", &format!("at most the {count} experts"), chosen);
        }
        Ok(Some(ExpertShape { count, chosen, intermediate }))
    }

    fn per_layer(&self) -> Result<Option<PerLayerShape>> {
        let file = self.keys;
        let Some(width) = file.hidden_size_per_layer_input.filter(|&width| width > 0) else {
            return Ok(None);
        };
        self.size("hidden_size_per_layer_input", width)?;
        let vocab_size = file.vocab_size_per_layer_input;
        if vocab_size < file.vocab_size {
            let expected = format!("at least the {} tokens there are", file.vocab_size);
            return self.refuse("vocab_size_per_layer_input", &expected, vocab_size);
        }
        self.size("vocab_size_per_layer_input", vocab_size)?;
        Ok(Some(PerLayerShape { vocab_size, width }))
    }

    /// Radians per position of each pair of a head.
    fn frequencies(&self, kind: Kind, head_dim: usize) -> Result<Vec<f64>> {
        const THETA: f64 = 10_000.0;
        let name = if kind == Kind::Sliding { SLIDING_ATTENTION } else { FULL_ATTENTION };
        let keys = match &self.keys.rope_parameters {
            Some(parameters) => parameters.get(name).cloned().unwrap_or_default(),
            None => default_rope(kind),
        };
        let key = format!("rope_parameters.{name}");
        let section = RopeSection { path: self.path, key: &key, keys: &keys };
        match section.kind()? {
            "proportional" => {}
            "default" | "linear" => return section.frequencies(THETA, head_dim),
            other => {
                return section.refuse("rope_type", "default, linear or proportional", other);
            }
        }
        // The first pairs have the frequencies they would have if all rotated; the others do not
        // rotate.
        let share = keys.partial_rotary_factor.unwrap_or(1.0);
        let rotated = (head_dim as f64 * share) as usize;
        if !(0.0..=1.0).contains(&share) || !rotated.is_multiple_of(2) {
            return section.refuse("partial_rotary_factor", "a share of whole pairs", share);
        }
        let scaling = Scaling::Linear(section.positive("factor", keys.factor.or(Some(1.0)))?);
        let all = Frequencies { theta: section.theta(THETA)?, scaling }.of_pairs(head_dim);
        let turning = all.into_iter().take(rotated / 2);
        Ok(turning.chain(std::iter::repeat(0.0)).take(head_dim / 2).collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read_text(text_config: Value) -> Config {
        let file = json!({ "model_type": "gemma4", "text_config": text_config }).to_string();
        read(Path::new("config.json"), "gemma4", file.as_bytes()).unwrap()
    }

    /// Keys of the larger models.
    fn larger(mut text_config: Value) -> Value {
        for (key, value) in [
            ("sliding_window", json!(1024)),
            ("sliding_window_pattern", json!(6)),
            ("attention_k_eq_v", json!(true)),
            ("num_kv_shared_layers", json!(0)),
            ("hidden_size_per_layer_input", json!(0)),
        ] {
            text_config[key] = value;
        }
        text_config
    }

    /// The counts are those of mlx-lm's models of the same configurations.
    #[test]
    fn weights_are_counted_from_the_configuration_alone() {
        let gemma_31b = larger(json!({
            "hidden_size": 5376, "num_hidden_layers": 60, "intermediate_size": 21504,
            "num_attention_heads": 32, "num_key_value_heads": 16, "num_global_key_value_heads": 4,
        }));
        let gemma_12b = larger(json!({
            "hidden_size": 3840, "num_hidden_layers": 48, "intermediate_size": 15360,
            "num_attention_heads": 16, "num_key_value_heads": 8, "num_global_key_value_heads": 1,
        }));
        let gemma_26b = larger(json!({
            "hidden_size": 2816, "num_hidden_layers": 30, "intermediate_size": 2112,
            "num_attention_heads": 16, "num_key_value_heads": 8, "num_global_key_value_heads": 2,
            "enable_moe_block": true, "num_experts": 128, "top_k_experts": 8,
            "moe_intermediate_size": 704,
        }));
        for (text_config, weights) in [
            (gemma_31b, 30_697_345_340),
            (gemma_26b, 25_233_141_790),
            (gemma_12b, 11_907_350_320),
            // The defaults are E2B's.
            (json!({}), 4_628_569_379),
        ] {
            assert_eq!(read_text(text_config).num_weights(), weights);
        }
    }

    #[test]
    fn shared_layers_read_the_last_cache_of_their_kind() {
        let config = read_text(json!({}));
        assert_eq!(config.family().caches(&config).len(), 15);
        // Every fifth layer is full.
        assert_eq!(
            [0, 14, 15, 18, 19, 34].map(|layer| config.family().cache_of(layer)),
            [0, 14, 13, 13, 14, 14]
        );
    }

    #[test]
    fn the_pairs_of_a_full_layer_rotate_in_part() {
        let config = read_text(json!({}));
        let [sliding, full] = &config.rope_frequencies[..] else { panic!("two kinds") };
        assert_eq!((sliding.len(), full.len()), (128, 256));
        assert!(full[..64].iter().all(|&frequency| frequency > 0.0));
        assert!(full[64..].iter().all(|&frequency| frequency == 0.0));
        // The wavelength of pair i is theta^(2 i / 512).
        assert!((full[63] - 1e6f64.powf(-126.0 / 512.0)).abs() < 1e-12);
    }
}
