use std::collections::BTreeMap;
use std::path::Path;

use crate::nn::cache::Memory;
use crate::checkpoint::Expected;
use crate::arch::config_file::ConfigFile;
use crate::nn::rope::RopeStyle;
use crate::{Error, Result};
use crate::arch::{gemma4, llama, qwen35};

/// The architectures that [`Model::open`](crate::Model::open) accepts, by the name that the
/// `config.json` of a checkpoint has for them. Of GGUF files, `llama` only.
pub const SUPPORTED_ARCHITECTURES: &[&str] =
    &["llama", "gemma4", "gemma4_text", "gemma4_unified", "qwen3_5", "qwen3_5_text"];

/// The dimensions of a model, from `config.json` or from a GGUF header.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// The architecture, one of [`SUPPORTED_ARCHITECTURES`].
    pub architecture: String,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Width inside the MLP; some layers of a Gemma 4 have twice as much.
    pub intermediate_size: usize,
    /// Decoder layers.
    pub num_layers: usize,
    /// Query heads.
    pub num_heads: usize,
    /// Key and value heads; each serves `num_heads / num_kv_heads` query heads. In a Gemma 4, those
    /// of the sliding layers.
    pub num_kv_heads: usize,
    /// Values per head; in a Gemma 4, of the sliding layers.
    pub head_dim: usize,
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// Added to the mean square in RMS norms.
    pub norm_eps: f32,
    /// Whether the output matrix is the embedding.
    pub tied_embeddings: bool,
    /// Which values of a head the rotary embedding pairs.
    pub rope_style: RopeStyle,
    /// Rotary frequencies of a head's pairs, in radians per position; one list for each kind of
    /// layer.
    pub rope_frequencies: Vec<Vec<f64>>,
    /// Logits are `cap * tanh(z / cap)` of the output's products where this is set.
    pub soft_cap: Option<f32>,
    /// What the names of all tensors begin with.
    pub(crate) root: &'static str,
    pub(crate) family: Family,
}

/// What only one family has.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Family {
    Llama,
    Gemma4(gemma4::Shape),
    Qwen35(qwen35::Shape),
}

impl Config {
    /// No size may be larger: far above any model, and small enough that products of two fit MLX's
    /// indices.
    pub(crate) const MOST: usize = 1 << 24;

    /// What the names of a layer's tensors begin with, in checkpoints and in adapters.
    pub fn layer_prefix(&self, layer: usize) -> String {
        format!("{}model.layers.{layer}", self.root)
    }

    /// A tensor outside the layers, for instance [`EMBEDDING`].
    pub(crate) fn name(&self, path: &str) -> String {
        format!("{}{path}", self.root)
    }

    /// The whole names of embedding and output matrix.
    pub(crate) fn end_names(&self) -> [&'static str; 2] {
        match self.root {
            "" => [EMBEDDING, OUTPUT],
            _ => ["language_model.model.embed_tokens", "language_model.lm_head"],
        }
    }

    /// How far a layer looks back; absent: at everything.
    pub(crate) fn window_of(&self, layer: usize) -> Option<usize> {
        match &self.family {
            Family::Llama | Family::Qwen35(_) => None,
            Family::Gemma4(shape) => {
                let sliding = shape.layers.get(layer)?.kind == gemma4::Kind::Sliding;
                sliding.then_some(shape.window)
            }
        }
    }

    /// How far the layers that do not look at everything look back.
    pub(crate) fn window(&self) -> Option<usize> {
        match &self.family {
            Family::Llama | Family::Qwen35(_) => None,
            Family::Gemma4(shape) => Some(shape.window),
        }
    }

    /// What each layer remembers that has a memory of its own. The layers that share another's come
    /// after all those.
    pub(crate) fn memories(&self) -> Vec<Memory> {
        let Self { num_kv_heads: kv_heads, head_dim, .. } = *self;
        match &self.family {
            Family::Llama => {
                vec![Memory::Keys { kv_heads, head_dim, window: None }; self.num_layers]
            }
            Family::Gemma4(shape) => shape.memories(),
            Family::Qwen35(shape) => shape.memories(self),
        }
    }

    /// Which cache a layer reads, by the number of the layer that it belongs to.
    pub(crate) fn cache_of(&self, layer: usize) -> usize {
        match &self.family {
            Family::Llama | Family::Qwen35(_) => layer,
            Family::Gemma4(shape) => shape.cache_of(layer),
        }
    }

    /// What embeddings are multiplied by, where they are.
    pub(crate) fn embedding_scale(&self) -> Option<f32> {
        match self.family {
            Family::Llama | Family::Qwen35(_) => None,
            Family::Gemma4(_) => Some((self.hidden_size as f32).sqrt()),
        }
    }

    /// Number of weights in all.
    pub fn num_weights(&self) -> usize {
        self.expected().values().map(|expected| expected.weights()).sum()
    }

    /// Every tensor the model has.
    pub(crate) fn expected(&self) -> BTreeMap<String, Expected> {
        let mut expected = self.expected_outside_layers();
        for index in 0..self.num_layers {
            let prefix = self.layer_prefix(index);
            let layer = match &self.family {
                Family::Llama => llama::expected(self),
                Family::Gemma4(shape) => match shape.layers.get(index) {
                    Some(layer) => shape.expected_in_layer(self, *layer),
                    None => Vec::new(),
                },
                Family::Qwen35(shape) => match shape.layers.get(index) {
                    Some(kind) => shape.expected_in_layer(self, *kind),
                    None => Vec::new(),
                },
            };
            let layer = layer.into_iter();
            expected.extend(layer.map(|(path, tensor)| (format!("{prefix}.{path}"), tensor)));
        }
        expected
    }

    /// What stands before and behind the layers.
    pub(crate) fn expected_outside_layers(&self) -> BTreeMap<String, Expected> {
        let matrix = Expected::Matrix { rows: self.vocab_size, columns: self.hidden_size };
        let mut expected = BTreeMap::from([
            (self.name(EMBEDDING), matrix),
            (self.name(FINAL_NORM), Expected::Vector(self.hidden_size)),
        ]);
        if !self.tied_embeddings {
            expected.insert(self.name(OUTPUT), matrix);
        }
        if let Family::Gemma4(shape) = &self.family {
            let shared = shape.expected(self).into_iter();
            expected.extend(shared.map(|(path, tensor)| (self.name(path), tensor)));
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
        let file = ConfigFile { path, keys: &self };
        for (key, size) in sizes {
            file.size(key, size)?;
        }
        if !self.num_heads.is_multiple_of(self.num_kv_heads) {
            let expected = format!("a divisor of the {} query heads", self.num_heads);
            return file.refuse("num_key_value_heads", &expected, self.num_kv_heads);
        }
        if !self.head_dim.is_multiple_of(2) {
            return file.refuse("head_dim", "an even size", self.head_dim);
        }
        Ok(self)
    }
}

pub(crate) const EMBEDDING: &str = "model.embed_tokens";
pub(crate) const FINAL_NORM: &str = "model.norm";
pub(crate) const OUTPUT: &str = "lm_head";

/// Refuses what is not among those supported in a file of this kind.
pub(crate) fn check_architecture(path: &Path, found: &str, supported: &[&str]) -> Result<()> {
    if supported.contains(&found) {
        return Ok(());
    }
    Err(Error::UnsupportedArchitecture {
        path: path.to_path_buf(),
        found: found.to_owned(),
        supported: supported.join(", "),
    })
}
