use mlx_rs::{Array, transforms};

use super::adapter::LayerAdapter;
use super::block::TokenInputs;
use super::head::Head;
use super::linear::Linear;
use super::loader::Loader;
use crate::Result;

/// What [`Embeddings`] are loaded from. Names are whole ones.
pub(crate) struct EmbeddingSpec<'a> {
    pub embedding: &'static str,
    /// `None` if it is tied to the embedding.
    pub output: Option<&'static str>,
    pub final_norm: &'a str,
    pub norm_eps: f32,
    pub vocab_size: usize,
    /// Logits are `cap * tanh(z / cap)` of the products `z`, if set.
    pub soft_cap: Option<f32>,
    /// Embeddings are multiplied by this, if set.
    pub scale: Option<f32>,
}

/// Input embedding and output head.
#[derive(Clone, Debug)]
pub(crate) struct Embeddings {
    embedding: Linear,
    /// Its name.
    path: &'static str,
    scale: Option<Array>,
    token_inputs: Option<Box<dyn TokenInputs>>,
    head: Head,
}

impl Embeddings {
    /// Takes the tensors outside the layers; those of the token inputs with `token_inputs`.
    pub fn load(
        spec: &EmbeddingSpec<'_>,
        loader: &mut Loader,
        token_inputs: impl FnOnce(&mut Loader) -> Result<Option<Box<dyn TokenInputs>>>,
    ) -> Result<Self> {
        let path = spec.embedding;
        let embedding = loader.linear(path)?;
        let (output, output_path) = match spec.output {
            None => (embedding.clone(), path),
            Some(output) => (loader.linear(output)?, output),
        };
        let backend = loader.backend();
        let head = Head {
            norm: loader.norm(spec.final_norm, spec.norm_eps)?,
            output,
            path: output_path,
            tied: spec.output.is_none(),
            vocab_size: spec.vocab_size,
            soft_cap: spec.soft_cap,
            backend,
        };
        let scale = match spec.scale {
            // Rounded to the type of the weights, as in training.
            Some(scale) => {
                let trained = loader.float_type(path);
                Some(Array::from_f32(scale).as_dtype(trained)?.as_dtype(backend.dtype())?)
            }
            None => None,
        };
        let token_inputs = token_inputs(loader)?;
        // Evaluated now: an array that is not can be evaluated only on the thread that made it.
        let arrays = embedding.arrays().into_iter().chain(head.output.arrays());
        let arrays = arrays.chain(token_inputs.iter().flat_map(|inputs| inputs.arrays()));
        transforms::eval(arrays.chain(&scale).chain(head.norm.arrays()))?;
        Ok(Self { embedding, path, scale, token_inputs, head })
    }

    /// What enters the first layer: `[1, T, H]`.
    pub fn embed(&self, tokens: &[u32], adapter: &LayerAdapter) -> Result<Array> {
        let mut hidden = self.embedding.gather(tokens)?;
        if let Some(lora) = adapter.get(self.path) {
            hidden = lora.without_magnitude(self.path)?.add_rows(&hidden, tokens)?;
        }
        let hidden = hidden.expand_dims(0)?;
        match &self.scale {
            Some(scale) => Ok(hidden.multiply(scale)?),
            None => Ok(hidden),
        }
    }

    /// The inputs of the layers beside that, if the family has any: `[1, T, layers, d]`.
    pub fn token_inputs(&self, tokens: &[u32], hidden: &Array) -> Result<Option<Array>> {
        self.token_inputs.as_ref().map(|inputs| inputs.inputs(tokens, hidden)).transpose()
    }

    pub fn head(&self) -> &Head {
        &self.head
    }
}
