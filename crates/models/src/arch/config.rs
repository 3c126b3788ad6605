use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::Architecture;
use super::config_file::ConfigFile;
use crate::Result;
use crate::checkpoint::{Expected, Store};
use crate::nn::{LinearSpec, RopeStyle};

/// Paths of tensors outside the layers.
pub(crate) const EMBEDDING: &str = "model.embed_tokens";
pub(crate) const FINAL_NORM: &str = "model.norm";
pub(crate) const OUTPUT: &str = "lm_head";

/// Where the names of all tensors start, in the text part of a larger model.
pub(super) const LANGUAGE_MODEL: &str = "language_model.";

/// The dimensions of a model, from `config.json` or from a GGUF header.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The architecture, one of [`supported_architectures`](crate::supported_architectures).
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
    /// Logits are `cap * tanh(z / cap)` of the output's products `z`, if set.
    pub soft_cap: Option<f32>,
    /// Tokens in a row, at most: the rotary embedding of longer ones would depend on the length.
    pub max_positions: Option<usize>,
    /// Where the names of all tensors start.
    pub(super) root: &'static str,
    /// The family.
    pub(super) family: Arc<dyn Architecture>,
}

/// The sizes that all families have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_layers: usize,
    pub num_heads: usize,
    pub num_kv_heads: usize,
    pub head_dim: usize,
    pub vocab_size: usize,
}

impl Sizes {
    /// Refuses sizes that no model can have, so that later arithmetic cannot overflow, and lists by layer
    /// or by head stay small whatever a file says.
    pub fn checked(self, path: &Path) -> Result<Self> {
        const LAYERS: usize = 4096;
        const HEAD: usize = 1 << 16;
        let file = ConfigFile { path, keys: &self };
        for (key, size) in [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_attention_heads", self.num_heads),
            ("num_key_value_heads", self.num_kv_heads),
            ("vocab_size", self.vocab_size),
        ] {
            file.size(key, size)?;
        }
        file.size_to(LAYERS, "num_hidden_layers", self.num_layers)?;
        file.size_to(HEAD, "head_dim", self.head_dim)?;
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

impl Config {
    /// A model of this family, with the commonest values for what [`Sizes`] does not have.
    pub(super) fn new(
        architecture: &str,
        sizes: Sizes,
        family: impl Architecture + 'static,
    ) -> Self {
        Self {
            architecture: architecture.to_owned(),
            hidden_size: sizes.hidden_size,
            intermediate_size: sizes.intermediate_size,
            num_layers: sizes.num_layers,
            num_heads: sizes.num_heads,
            num_kv_heads: sizes.num_kv_heads,
            head_dim: sizes.head_dim,
            vocab_size: sizes.vocab_size,
            norm_eps: 1e-6,
            tied_embeddings: true,
            rope_style: RopeStyle::Halves,
            rope_frequencies: Vec::new(),
            soft_cap: None,
            max_positions: None,
            root: "",
            family: Arc::new(family),
        }
    }

    /// What the family adds to these dimensions.
    pub(crate) fn family(&self) -> &dyn Architecture {
        self.family.as_ref()
    }

    /// Where the names of a layer's tensors start, in checkpoints and in adapters.
    pub fn layer_prefix(&self, layer: usize) -> String {
        format!("{}model.layers.{layer}", self.root)
    }

    /// The name of a tensor outside the layers, for instance of [`EMBEDDING`].
    pub(crate) fn name(&self, path: &str) -> String {
        format!("{}{path}", self.root)
    }

    /// The path of a tensor outside the layers, given its name.
    pub(crate) fn path<'a>(&self, name: &'a str) -> &'a str {
        name.strip_prefix(self.root).unwrap_or(name)
    }

    /// The names of embedding and output matrix, tied or not.
    pub(crate) fn embedding_names(&self) -> [&'static str; 2] {
        match self.root {
            "" => [EMBEDDING, OUTPUT],
            _ => ["language_model.model.embed_tokens", "language_model.lm_head"],
        }
    }

    /// Embedding and, if it is not tied, output matrix; their paths are whole names.
    pub(crate) fn embedding_linears(&self) -> Vec<LinearSpec> {
        let (vocabulary, hidden) = (self.vocab_size, self.hidden_size);
        let [embedding, output] = self.embedding_names();
        let mut linears = vec![LinearSpec::new(embedding, vocabulary, hidden)];
        if !self.tied_embeddings {
            linears.push(LinearSpec::new(output, hidden, vocabulary));
        }
        linears
    }

    /// Number of weights in all.
    pub fn num_weights(&self) -> usize {
        self.expected().values().map(|expected| expected.weights()).sum()
    }

    /// Every tensor of the model.
    pub(crate) fn expected(&self) -> BTreeMap<String, Expected> {
        let mut expected = self.expected_outside_layers();
        for layer in 0..self.num_layers {
            let prefix = self.layer_prefix(layer);
            let linears = self.family().linears(self, layer).into_iter().map(|spec| {
                // Experts are stacked in the rows.
                let rows = spec.experts.unwrap_or(1) * spec.out_features;
                (spec.path, Expected::Matrix { rows, columns: spec.in_features })
            });
            let tensors = self.family().tensors(self, layer).into_iter().chain(linears);
            expected.extend(tensors.map(|(path, tensor)| (format!("{prefix}.{path}"), tensor)));
        }
        expected
    }

    /// The tensors outside the layers.
    pub(crate) fn expected_outside_layers(&self) -> BTreeMap<String, Expected> {
        let matrix = Expected::Matrix { rows: self.vocab_size, columns: self.hidden_size };
        let mut expected = BTreeMap::from([
            (self.name(EMBEDDING), matrix),
            (self.name(FINAL_NORM), Expected::Vector(self.hidden_size)),
        ]);
        if !self.tied_embeddings {
            expected.insert(self.name(OUTPUT), matrix);
        }
        let outer = self.family().outer_tensors(self).into_iter();
        expected.extend(outer.map(|(path, tensor)| (self.name(path), tensor)));
        expected
    }

    /// Brings the tensors of safetensors files into MLX's form, and removes those that are not used.
    pub(super) fn normalize(&self, store: &mut Store) {
        self.family().normalize(self, store);
        // Older converters stored the inverse frequencies, which follow from the configuration.
        store.retain(|name| !name.ends_with("rotary_emb.inv_freq"));
        if self.tied_embeddings {
            let output = format!("{}.", self.name(OUTPUT));
            store.retain(|name| !name.starts_with(&output));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embeddings_are_named_like_their_tensors() {
        for name in ["mlx_lm/model", "gemma4/dense", "qwen35/untied", "qwen35/tied"] {
            let path = Path::new("../../fixtures/golden").join(name).join("config.json");
            let config = super::super::registry::read_config(&path).unwrap();
            let [embedding, output] = config.embedding_names();
            assert_eq!(embedding, config.name(EMBEDDING), "{name}");
            assert_eq!(output, config.name(OUTPUT), "{name}");
        }
    }
}
