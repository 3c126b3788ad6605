use std::sync::Arc;

use mlx_rs::Array;

use crate::Result;
use crate::arch::config::{Config, FINAL_NORM};
use crate::backend::{Backend, WeightResidency};
use crate::checkpoint::WeightSource;
use crate::nn::{Head, LayerAdapter, Linear, Loader, TokenInputs};

/// Input embedding and output head.
#[derive(Clone, Debug)]
pub(crate) struct Embeddings {
    embedding: Linear,
    /// Its name.
    path: &'static str,
    scale: Option<Array>,
    token_inputs: Option<Box<dyn TokenInputs>>,
    head: Head,
    residency: WeightResidency,
}

impl Embeddings {
    /// Reads the tensors outside the layers, or refers to them if they are streamed.
    pub fn open(
        config: &Config,
        source: &Arc<dyn WeightSource>,
        backend: Backend,
        residency: WeightResidency,
    ) -> Result<Self> {
        let loader = Loader::new(Arc::clone(source), backend, residency);
        let mut loader = loader.with_norm_offset(config.family().norm_offset());
        let [path, output_path] = config.embedding_names();
        let embedding = loader.linear(path)?;
        let (output, output_path) = match config.tied_embeddings {
            true => (embedding.clone(), path),
            false => (loader.linear(output_path)?, output_path),
        };
        let head = Head {
            norm: loader.norm(&config.name(FINAL_NORM), config.norm_eps)?,
            output,
            path: output_path,
            tied: config.tied_embeddings,
            vocab_size: config.vocab_size,
            soft_cap: config.soft_cap,
            backend,
        };
        let scale = match config.family().embedding_scale(config) {
            // Rounded to the type of the weights, as in training.
            Some(scale) => {
                let scale = Array::from_f32(scale).as_dtype(source.float_type(path))?;
                Some(loader.keep(scale.as_dtype(backend.dtype())?))
            }
            None => None,
        };
        let token_inputs = config.family().load_token_inputs(config, &mut loader)?;
        loader.eval()?;
        Ok(Self { embedding, path, scale, token_inputs, head, residency })
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

    /// Where the weights are kept.
    pub fn residency(&self) -> WeightResidency {
        self.residency
    }
}
