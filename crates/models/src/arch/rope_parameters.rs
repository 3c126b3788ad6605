//! The rotary embedding in a `config.json`: `rope_parameters`, or `rope_scaling` in older files.
//!
//! Invariant: one setting under two names is read if both agree and refused if they differ, so no name
//! silently wins over another.

use std::path::Path;

use serde::Deserialize;

use super::config_file::ConfigFile;
use crate::Result;
use crate::nn::{Frequencies, Scaling};

/// The keys that change the frequencies of the supported types.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RopeParameters {
    pub rope_theta: Option<f64>,
    pub partial_rotary_factor: Option<f64>,
    pub rope_type: Option<String>,
    /// The older name of `rope_type`. transformers writes both when it converts an older file.
    #[serde(rename = "type")]
    pub old_type: Option<String>,
    pub factor: Option<f64>,
    pub low_freq_factor: Option<f64>,
    pub high_freq_factor: Option<f64>,
    pub original_max_position_embeddings: Option<f64>,
    pub beta_fast: Option<f64>,
    pub beta_slow: Option<f64>,
    pub attention_factor: Option<f64>,
    pub mscale: Option<f64>,
    pub mscale_all_dim: Option<f64>,
    pub truncate: Option<bool>,
}

/// A rotary embedding.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rotary {
    /// Radians per position of each pair of a head.
    pub frequencies: Vec<f64>,
    /// Attention scores are multiplied by this beside their usual scale.
    pub of_scores: f32,
    /// Tokens in a row, at most: beyond, the frequencies would depend on the length.
    pub max_positions: Option<usize>,
}

impl Rotary {
    /// For heads of this size.
    pub fn new(frequencies: Frequencies, head_dim: usize) -> Self {
        let frequencies = frequencies.of_pairs(head_dim);
        Self { frequencies, of_scores: 1.0, max_positions: None }
    }

    /// Without scaling.
    pub fn plain(theta: f64, head_dim: usize) -> Self {
        Self::new(Frequencies::plain(theta), head_dim)
    }

    /// With queries and keys multiplied by `factor` each.
    pub fn with_attention(self, factor: f64) -> Self {
        Self { of_scores: (factor * factor) as f32, ..self }
    }

    /// By what YaRN multiplies queries and keys, for a share `mscale` of the effect.
    pub fn yarn_attention(factor: f64, mscale: f64) -> f64 {
        if factor > 1.0 { 0.1 * mscale * factor.ln() + 1.0 } else { 1.0 }
    }
}

/// The rotary embedding of one kind of layer, with its place in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct RopeSection<'a> {
    pub path: &'a Path,
    /// The dotted path of `keys`, for errors.
    pub key: &'a str,
    pub keys: &'a RopeParameters,
}

impl<'a> RopeSection<'a> {
    /// The type of the scaling.
    pub fn kind(self) -> Result<&'a str> {
        // The three positions of `mrope` are equal for text.
        let named = |name: &'a Option<String>| match name.as_deref() {
            Some("mrope") => Some("default"),
            name => name,
        };
        match (named(&self.keys.rope_type), named(&self.keys.old_type)) {
            (Some(kind), Some(old)) if kind != old => {
                self.refuse("type", &format!("{kind}, as in rope_type"), old)
            }
            (kind, old) => Ok(kind.or(old).unwrap_or("default")),
        }
    }

    /// The rotary embedding of whole heads in a model of so many positions. `theta` is the value of a
    /// file without `rope_theta`.
    pub fn rotary(self, theta: f64, head_dim: usize, positions: Option<usize>) -> Result<Rotary> {
        match self.kind()? {
            "yarn" => self.yarn(self.theta(theta)?, head_dim),
            // Longer rows have other frequencies, each length its own.
            "dynamic" => {
                let positions = self.file().size("max_position_embeddings", positions)?;
                let rotary = Rotary::plain(self.theta(theta)?, head_dim);
                Ok(Rotary { max_positions: Some(positions), ..rotary })
            }
            "default" | "linear" | "llama3" => {
                let frequencies = self.frequencies(theta, head_dim)?;
                Ok(Rotary { frequencies, of_scores: 1.0, max_positions: None })
            }
            other => self.refuse("rope_type", "default, linear, llama3, yarn or dynamic", other),
        }
    }

    fn yarn(self, theta: f64, head_dim: usize) -> Result<Rotary> {
        let keys = self.keys;
        let factor = self.positive("factor", keys.factor)?;
        if keys.truncate == Some(false) {
            return self.refuse("truncate", "true", false);
        }
        let scaling = Scaling::Yarn {
            factor,
            fast: self.positive("beta_fast", keys.beta_fast.or(Some(32.0)))?,
            slow: self.positive("beta_slow", keys.beta_slow.or(Some(1.0)))?,
            // transformers and mlx-lm have different defaults.
            original_context: self.positive(
                "original_max_position_embeddings",
                keys.original_max_position_embeddings,
            )?,
        };
        let by_mscale = || {
            let of = |mscale| Rotary::yarn_attention(factor, mscale);
            of(keys.mscale.unwrap_or(1.0)) / of(keys.mscale_all_dim.unwrap_or(0.0))
        };
        let attention = keys.attention_factor.unwrap_or_else(by_mscale);
        let attention = self.positive("attention_factor", Some(attention))?;
        Ok(Rotary::new(Frequencies { theta, scaling }, head_dim).with_attention(attention))
    }

    /// Radians per position of each pair of the `rotated` first values of a head. `theta` is the value
    /// of a file without `rope_theta`.
    pub fn frequencies(self, theta: f64, rotated: usize) -> Result<Vec<f64>> {
        let RopeParameters { factor, low_freq_factor: low, high_freq_factor: high, .. } =
            *self.keys;
        let theta = self.theta(theta)?;
        let scaling = match self.kind()? {
            "default" => Scaling::None,
            "linear" => Scaling::Linear(self.positive("factor", factor)?),
            // mlx-lm's defaults.
            "llama3" => {
                let low = self.positive("low_freq_factor", low.or(Some(1.0)))?;
                let high = self.positive("high_freq_factor", high.or(Some(4.0)))?;
                if high <= low {
                    return self.refuse("high_freq_factor", &format!("more than {low}"), high);
                }
                let context = self.keys.original_max_position_embeddings.or(Some(8192.0));
                Scaling::Llama3 {
                    factor: self.positive("factor", factor)?,
                    low,
                    high,
                    original_context: self.positive("original_max_position_embeddings", context)?,
                }
            }
            other => return self.refuse("rope_type", "default, linear or llama3", other),
        };
        Ok(Frequencies { theta, scaling }.of_pairs(rotated))
    }

    /// `rope_theta`, or `default`.
    pub fn theta(self, default: f64) -> Result<f64> {
        self.positive("rope_theta", self.keys.rope_theta.or(Some(default)))
    }

    /// A number above 0: any other makes frequencies that are infinite, NaN or reversed.
    pub fn positive(self, key: &str, value: Option<f64>) -> Result<f64> {
        self.file().positive(&self.name(key), value)
    }

    /// The error for one of the keys.
    pub fn refuse<R>(self, key: &str, expected: &str, found: impl ToString) -> Result<R> {
        self.file().refuse(&self.name(key), expected, found)
    }

    fn file(self) -> ConfigFile<'a, RopeParameters> {
        ConfigFile { path: self.path, keys: self.keys }
    }

    fn name(self, key: &str) -> String {
        format!("{}.{key}", self.key)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rotary(keys: Value) -> std::result::Result<Rotary, String> {
        let keys = serde_json::from_value(keys).map_err(|error| error.to_string())?;
        let section = RopeSection { path: Path::new("config.json"), key: "rope", keys: &keys };
        section.rotary(10_000.0, 16, None).map_err(|error| error.to_string())
    }

    fn frequencies(keys: Value) -> std::result::Result<Vec<f64>, String> {
        Ok(rotary(keys)?.frequencies)
    }

    #[test]
    fn every_spelling_of_a_type_is_the_same_type() {
        for (kind, more) in [
            ("default", json!({})),
            ("linear", json!({ "factor": 2 })),
            ("llama3", json!({ "factor": 8.0, "original_max_position_embeddings": 64 })),
        ] {
            let with = |names: Value| {
                let mut keys = more.clone();
                keys.as_object_mut().unwrap().extend(names.as_object().unwrap().clone());
                frequencies(keys).unwrap()
            };
            let expected = with(json!({ "rope_type": kind }));
            assert!(expected.iter().all(|f| f.is_finite() && *f > 0.0), "{kind}: {expected:?}");
            for names in [
                json!({ "type": kind }),
                json!({ "type": kind, "rope_type": kind }),
                json!({ "type": null, "rope_type": kind }),
                json!({ "type": kind, "rope_type": null }),
            ] {
                assert_eq!(with(names.clone()), expected, "{names}");
            }
        }
        let plain = frequencies(json!({})).unwrap();
        for names in
            [json!({ "type": "mrope" }), json!({ "type": "mrope", "rope_type": "default" })]
        {
            assert_eq!(frequencies(names).unwrap(), plain);
        }
    }

    #[test]
    fn absent_keys_of_llama3_have_mlx_lms_defaults() {
        let short = json!({ "rope_type": "llama3", "factor": 8.0 });
        let long = json!({
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        });
        assert_eq!(frequencies(short).unwrap(), frequencies(long).unwrap());
    }

    #[test]
    fn what_cannot_be_computed_is_refused_by_key() {
        for (keys, message) in [
            (
                json!({ "type": "linear", "rope_type": "llama3", "factor": 8 }),
                "rope.type: expected llama3, as in rope_type, found linear",
            ),
            (
                json!({ "rope_type": "longrope", "factor": 8 }),
                "rope.rope_type: expected default, linear, llama3, yarn or dynamic, found longrope",
            ),
            (
                json!({ "rope_type": "yarn", "factor": 8 }),
                "rope.original_max_position_embeddings: expected a positive number, found nothing",
            ),
            (
                json!({ "rope_type": "dynamic", "factor": 8 }),
                "max_position_embeddings: expected a size from 1 to 16777216, found nothing",
            ),
            (
                json!({ "rope_type": "linear" }),
                "rope.factor: expected a positive number, found nothing",
            ),
            (
                json!({ "rope_type": "linear", "factor": 0 }),
                "rope.factor: expected a positive number, found 0",
            ),
            (json!({ "rope_theta": -1 }), "rope.rope_theta: expected a positive number, found -1"),
            (
                json!({ "rope_type": "llama3", "factor": 8, "low_freq_factor": 4 }),
                "rope.high_freq_factor: expected more than 4, found 4",
            ),
        ] {
            let error = frequencies(keys).unwrap_err();
            assert!(error.ends_with(message), "{error}");
        }
    }
}
