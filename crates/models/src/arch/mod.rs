//! Model families, each in a file or folder of its own behind one trait, [`Architecture`].
//!
//! To add a family, implement the trait in a module below this folder and add it to [`FAMILIES`]; no
//! other file of the crate knows which families there are.

mod attention;
pub(crate) mod config;
mod config_file;
mod experts;
mod gguf_keys;
pub(crate) mod gguf_layout;
mod names;
pub(crate) mod registry;
mod rope_parameters;
mod sliding;

mod gemma3;
mod gemma4;
mod llama;
mod qwen35;

use std::fmt;
use std::path::Path;

use gguf::Parts;

use crate::Result;
use crate::checkpoint::{Expected, Store};
use crate::nn::{Activations, Block, CacheShape, LinearSpec, Loader, TokenInputs, scores};
use config::Config;
use gguf_layout::GgufLayout;

/// The registry: all families.
const FAMILIES: &[Registration] =
    &[llama::REGISTRATION, gemma3::REGISTRATION, gemma4::REGISTRATION, qwen35::REGISTRATION];

/// A family, by the names that files have for it.
struct Registration {
    /// `model_type` in `config.json`.
    pub model_types: &'static [&'static str],
    /// Reads `config.json`, given its path, `model_type` and content.
    pub config: fn(&Path, &str, &[u8]) -> Result<Config>,
    /// Support of GGUF files.
    pub gguf: &'static [GgufRegistration],
}

/// Support of GGUF files of one architecture.
struct GgufRegistration {
    pub layout: GgufLayout,
    /// Reads the configuration, and lists the tensors under the names of safetensors files.
    pub open: fn(&Parts, GgufLayout) -> Result<(Config, Store)>,
}

/// What distinguishes one model family from another: its layers and their tensors.
///
/// Paths of tensors are below their layer, for instance `self_attn.q_proj`; [`Expected`] says which
/// tensors a path stands for. `layer` counts from 0 and is below [`Config::num_layers`].
pub(crate) trait Architecture: fmt::Debug + Send + Sync {
    /// The linear layers of a layer that adapters can attach to, in the order they are applied.
    fn linears(&self, config: &Config, layer: usize) -> Vec<LinearSpec>;

    /// The other tensors of a layer, by path.
    fn tensors(&self, config: &Config, layer: usize) -> Vec<(&'static str, Expected)>;

    /// Builds a layer from its tensors, whose names start with `prefix`.
    fn load(
        &self,
        config: &Config,
        layer: usize,
        prefix: &str,
        loader: &mut Loader,
    ) -> Result<Box<dyn Block>>;

    /// Tensors outside the layers beside embedding, final norm and output matrix, by path.
    fn outer_tensors(&self, _config: &Config) -> Vec<(&'static str, Expected)> {
        Vec::new()
    }

    /// Builds what computes the layers' inputs beside the hidden states, if there are any.
    fn load_token_inputs(
        &self,
        _config: &Config,
        _loader: &mut Loader,
    ) -> Result<Option<Box<dyn TokenInputs>>> {
        Ok(None)
    }

    /// Brings names and layouts of safetensors files into MLX's form, and removes tensors that the
    /// text model does not use.
    fn normalize(&self, _config: &Config, _store: &mut Store) {}

    /// Embeddings are multiplied by this, if set.
    fn embedding_scale(&self, _config: &Config) -> Option<f32> {
        None
    }

    /// Added to the weight of each norm: some families store `weight - 1`.
    fn norm_offset(&self) -> f32 {
        0.0
    }

    /// Whether activations exceed the range of f16, so that 16-bit kernels must compute in bf16.
    fn exceeds_f16(&self) -> bool {
        false
    }

    /// The attention window of the layers that have one.
    fn window(&self) -> Option<usize> {
        None
    }

    /// The attention window of a layer; `None`: attends to everything before.
    fn layer_window(&self, _layer: usize) -> Option<usize> {
        None
    }

    /// The caches of the layers that have one of their own; these come before all others.
    fn caches(&self, config: &Config) -> Vec<CacheShape> {
        let Config { num_kv_heads: kv_heads, head_dim, num_layers, .. } = *config;
        vec![CacheShape::Keys { kv_heads, head_dim, window: None }; num_layers]
    }

    /// The layer whose cache a layer reads.
    fn cache_of(&self, layer: usize) -> usize {
        layer
    }

    /// Activations of a layer in training, in rows of up to `length` tokens, beside the outputs of its
    /// linear layers.
    fn activations(&self, config: &Config, layer: usize, length: usize) -> Activations {
        scores(config.num_heads, length, self.layer_window(layer))
    }

    /// How GGUF files of the family name and order tensors, if they are supported.
    fn gguf(&self) -> Option<GgufLayout> {
        None
    }
}
