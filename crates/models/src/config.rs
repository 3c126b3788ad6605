use std::collections::BTreeMap;
use std::path::Path;

use crate::checkpoint::Expected;
use crate::llama;
use crate::rope::RopeStyle;
use crate::{Error, Result};

/// The architectures that [`Model::open`](crate::Model::open) accepts, by the name a checkpoint
/// calls itself.
pub const SUPPORTED_ARCHITECTURES: &[&str] = &["llama"];

/// The dimensions of a model, from `config.json` or from a GGUF header.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// The architecture, one of [`SUPPORTED_ARCHITECTURES`].
    pub architecture: String,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Decoder layers.
    pub num_layers: usize,
    /// Query heads.
    pub num_heads: usize,
    /// Key and value heads; each serves `num_heads / num_kv_heads` query heads.
    pub num_kv_heads: usize,
    /// Values per head.
    pub head_dim: usize,
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// Added to the mean square in RMS norms.
    pub norm_eps: f32,
    /// Whether the output matrix is the embedding.
    pub tied_embeddings: bool,
    /// Which values of a head the rotary embedding pairs.
    pub rope_style: RopeStyle,
    /// Rotary frequencies of a head's pairs, in radians per position.
    pub rope_frequencies: Vec<f64>,
}

impl Config {
    /// What the names of a layer's tensors begin with, in checkpoints and in adapters.
    pub fn layer_prefix(&self, layer: usize) -> String {
        format!("model.layers.{layer}")
    }

    /// Number of weights in all.
    pub fn num_weights(&self) -> usize {
        self.expected()
            .values()
            .map(|expected| match *expected {
                Expected::Vector(length) => length,
                Expected::Matrix { rows, columns } => rows * columns,
            })
            .sum()
    }

    /// Every tensor the model has.
    pub(crate) fn expected(&self) -> BTreeMap<String, Expected> {
        let matrix = Expected::Matrix { rows: self.vocab_size, columns: self.hidden_size };
        let mut expected = BTreeMap::from([
            (EMBEDDING.to_owned(), matrix),
            (FINAL_NORM.to_owned(), Expected::Vector(self.hidden_size)),
        ]);
        if !self.tied_embeddings {
            expected.insert(OUTPUT.to_owned(), matrix);
        }
        for layer in 0..self.num_layers {
            let prefix = self.layer_prefix(layer);
            let layer = llama::expected(self).into_iter();
            expected.extend(layer.map(|(path, tensor)| (format!("{prefix}.{path}"), tensor)));
        }
        expected
    }

    /// Refuses dimensions that no model can have, so that no later arithmetic has to.
    pub(crate) fn checked(self, path: &Path) -> Result<Self> {
        let sizes = [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_layers),
            ("num_attention_heads", self.num_heads),
            ("num_key_value_heads", self.num_kv_heads),
            ("head_dim", self.head_dim),
            ("vocab_size", self.vocab_size),
        ];
        let wrong = |key: &str, expected: &str, found: String| {
            let (key, expected) = (key.to_owned(), expected.to_owned());
            Err(Error::Config { path: path.to_path_buf(), key, expected, found })
        };
        /// Far above any model, and small enough that products of two fit MLX's indices.
        const LIMIT: usize = 1 << 24;
        if let Some((key, size)) = sizes.into_iter().find(|(_, size)| !(1..=LIMIT).contains(size)) {
            return wrong(key, "a size from 1 to 16,777,216", size.to_string());
        }
        if !self.num_heads.is_multiple_of(self.num_kv_heads) {
            let expected = format!("a divisor of the {} query heads", self.num_heads);
            return wrong("num_key_value_heads", &expected, self.num_kv_heads.to_string());
        }
        if !self.head_dim.is_multiple_of(2) {
            return wrong("head_dim", "an even size", self.head_dim.to_string());
        }
        Ok(self)
    }
}

pub(crate) const EMBEDDING: &str = "model.embed_tokens";
pub(crate) const FINAL_NORM: &str = "model.norm";
pub(crate) const OUTPUT: &str = "lm_head";

pub(crate) fn check_architecture(path: &Path, found: &str) -> Result<()> {
    if SUPPORTED_ARCHITECTURES.contains(&found) {
        return Ok(());
    }
    Err(Error::UnsupportedArchitecture {
        path: path.to_path_buf(),
        found: found.to_owned(),
        supported: SUPPORTED_ARCHITECTURES.join(", "),
    })
}
