use std::collections::BTreeMap;

use super::Lora;
use crate::{Error, Result};

/// The updates of one layer, or of embedding and output matrix, by the path of the linear layer (see
/// [`LinearSpec`](crate::layers::LinearSpec)).
#[derive(Clone, Debug, Default)]
pub struct LayerAdapter {
    linears: BTreeMap<String, Lora>,
}

impl LayerAdapter {
    /// The update of the linear layer at `path`, if it has one.
    pub fn get(&self, path: &str) -> Option<&Lora> {
        self.linears.get(path)
    }

    /// All updates, sorted by path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Lora)> {
        self.linears.iter().map(|(path, lora)| (path.as_str(), lora))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.linears.is_empty()
    }
}

impl<P: Into<String>> FromIterator<(P, Lora)> for LayerAdapter {
    fn from_iter<I: IntoIterator<Item = (P, Lora)>>(updates: I) -> Self {
        let linears = updates.into_iter().map(|(path, lora)| (path.into(), lora)).collect();
        Self { linears }
    }
}

/// A LoRA or DoRA adapter: the updates of all layers, and of embedding and output matrix.
///
/// [`Adapter::load`] reads PEFT's layout too. On disk it has mlx-lm's layout, and either program loads the
/// other's files:
/// `adapters.safetensors` with `model.layers.{i}.{path}.lora_a` and `.lora_b` (and `.m` for DoRA) in
/// f32, `model.embed_tokens.lora_a` and `lm_head.lora_a` likewise, and `adapter_config.json`. Rows of
/// `q_proj` and `k_proj` are in the original checkpoint's order, also when the model was opened from
/// a GGUF file, which permutes them.
#[derive(Clone, Debug)]
pub struct Adapter {
    layers: Vec<LayerAdapter>,
    embeddings: LayerAdapter,
}

impl Adapter {
    /// An adapter with these updates, one entry for each layer of the model, first to last.
    pub fn new(layers: Vec<LayerAdapter>) -> Self {
        Self { layers, embeddings: LayerAdapter::default() }
    }

    /// The same adapter with these updates of embedding and output matrix (see
    /// [`Model::embedding_linears`](crate::Model::embedding_linears)). Where the two are tied, the
    /// embedding's update applies to both.
    pub fn with_embeddings(self, embeddings: LayerAdapter) -> Self {
        Self { embeddings, ..self }
    }

    /// The updates of embedding and output matrix.
    pub fn embeddings(&self) -> &LayerAdapter {
        &self.embeddings
    }

    /// The updates by layer.
    pub fn layers(&self) -> &[LayerAdapter] {
        &self.layers
    }

    /// The updates by layer, if there are as many as the model has layers.
    pub(crate) fn for_layers(&self, count: usize) -> Result<&[LayerAdapter]> {
        if self.layers.len() == count {
            return Ok(&self.layers);
        }
        let reason = format!("the model has {count} layers, the adapter {}", self.layers.len());
        Err(Error::Adapter { reason })
    }

    /// All updates, those of embedding and output matrix last.
    pub(crate) fn updates(&self) -> impl Iterator<Item = (&str, &Lora)> {
        self.layers.iter().chain([&self.embeddings]).flat_map(LayerAdapter::iter)
    }
}
