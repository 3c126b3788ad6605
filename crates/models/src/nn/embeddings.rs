//! What stands before and behind the layers: the embedding and the head, and their updates.

use std::sync::Arc;

use mlx_rs::{Array, random, transforms};

use crate::adapter::LayerAdapter;
use crate::nn::adapter_parts::AdapterKind;
use crate::checkpoint::Checkpoint;
use crate::arch::config::{Config, FINAL_NORM, Family};
use crate::arch::gemma4::{self, Shape};
use crate::nn::head::Head;
use crate::nn::linear::{Linear, LinearSpec, WeightResidency};
use crate::nn::lora::{Dropout, Lora};
use crate::{Error, Result};

impl Config {
    /// See [`Model::ends`](crate::Model::ends).
    pub(crate) fn ends(&self) -> Vec<LinearSpec> {
        let (vocabulary, hidden) = (self.vocab_size, self.hidden_size);
        let [embedding, output] = self.end_names();
        let linear = LinearSpec::new;
        let mut ends = vec![linear(embedding, vocabulary, hidden)];
        if !self.tied_embeddings {
            ends.push(linear(output, hidden, vocabulary));
        }
        ends
    }
}

impl Lora {
    /// An embedding's update, added to the rows `y` of the table that these tokens have:
    /// `y + scale * A[tokens] B`. Dropout is of what is added.
    fn add_rows(&self, y: &Array, tokens: &[u32]) -> Result<Array> {
        let tokens = Array::from_slice(tokens, &[tokens.len() as i32]);
        let update = self.dropped(&self.a.take_axis(tokens, 0)?.matmul(&self.b)?)?;
        let update = update.multiply(Array::from_f32(self.scale))?;
        Ok(y.add(update.as_dtype(y.dtype())?)?)
    }

    /// The same update of the matrix on its side: an embedding's, of an output matrix that is
    /// tied to it. What it drops it drops by itself.
    pub(crate) fn transposed(&self) -> Result<Self> {
        let dropout = match &self.dropout {
            Some(Dropout { rate, key }) => {
                Some(Dropout { rate: *rate, key: random::split(key, 2)?.1 })
            }
            None => None,
        };
        Ok(Self { a: self.b.transpose()?, b: self.a.transpose()?, dropout, ..self.clone() })
    }

    /// Refuses DoRA, whose row lengths neither the embedding nor the head knows.
    pub(crate) fn without_magnitude(&self, path: &str) -> Result<&Self> {
        match self.kind() {
            AdapterKind::Lora => Ok(self),
            AdapterKind::Dora => Err(dora(path)),
        }
    }
}

/// The error of DoRA where only LoRA is known.
pub(crate) fn dora(path: &str) -> Error {
    Error::Adapter { reason: format!("{path}: expected lora, found dora, which it cannot have") }
}

/// What stands before and behind the layers.
#[derive(Clone, Debug)]
pub(crate) struct Ends {
    embedding: Linear,
    /// Its name.
    path: &'static str,
    /// What embeddings are multiplied by, where they are.
    embedding_scale: Option<Array>,
    per_layer: Option<gemma4::PerLayer>,
    head: Head,
    residency: WeightResidency,
}

impl Ends {
    pub fn open(
        config: &Config,
        checkpoint: &Arc<Checkpoint>,
        residency: WeightResidency,
    ) -> Result<Self> {
        let mut tensors = checkpoint.tensors(residency);
        let [path, output_path] = config.end_names();
        let embedding = tensors.linear(path)?;
        let (output, output_path) = match config.tied_embeddings {
            true => (embedding.clone(), path),
            false => (tensors.linear(output_path)?, output_path),
        };
        let head = Head {
            norm: tensors.vector(&config.name(FINAL_NORM))?,
            norm_eps: config.norm_eps,
            output,
            path: output_path,
            tied: config.tied_embeddings,
            vocab_size: config.vocab_size,
            soft_cap: config.soft_cap,
        };
        let dtype = checkpoint.kernels().dtype();
        let embedding_scale = match config.embedding_scale() {
            // Rounded as in training: the type of the weights was that of the scale too.
            Some(scale) => {
                let trained = checkpoint.float_type(path);
                Some(Array::from_f32(scale).as_dtype(trained)?.as_dtype(dtype)?)
            }
            None => None,
        };
        let per_layer = match &config.family {
            Family::Gemma4(Shape { per_layer: Some(shape), .. }) => {
                Some(gemma4::PerLayer::load(config, *shape, &mut tensors)?)
            }
            Family::Gemma4(_) | Family::Llama | Family::Qwen35(_) => None,
        };
        // Nothing may be left to compute: another thread has no part in this one's stream.
        let arrays = embedding.arrays().into_iter().chain(head.output.arrays());
        let arrays = arrays.chain(per_layer.iter().flat_map(gemma4::PerLayer::arrays));
        transforms::eval(arrays.chain(&embedding_scale).chain([&head.norm]))?;
        Ok(Self { embedding, path, embedding_scale, per_layer, head, residency })
    }

    /// `[1, T, H]`: what enters the first layer.
    pub fn embed(&self, tokens: &[u32], ends: &LayerAdapter) -> Result<Array> {
        let mut hidden = self.embedding.gather(tokens)?;
        if let Some(lora) = ends.get(self.path) {
            hidden = lora.without_magnitude(self.path)?.add_rows(&hidden, tokens)?;
        }
        let hidden = hidden.expand_dims(0)?;
        match &self.embedding_scale {
            Some(scale) => Ok(hidden.multiply(scale)?),
            None => Ok(hidden),
        }
    }

    /// What each layer gets beside that.
    pub fn per_layer(&self, tokens: &[u32], hidden: &Array) -> Result<Option<Array>> {
        self.per_layer.as_ref().map(|per_layer| per_layer.inputs(tokens, hidden)).transpose()
    }

    pub fn head(&self) -> &Head {
        &self.head
    }

    pub fn residency(&self) -> WeightResidency {
        self.residency
    }
}

#[cfg(test)]
mod tests {
    use crate::arch::config::{EMBEDDING, OUTPUT};

    #[test]
    fn ends_are_named_like_their_tensors() {
        for name in ["mlx_lm/model", "gemma4/dense", "qwen35/untied", "qwen35/tied"] {
            let path = std::path::Path::new("../../fixtures/golden").join(name);
            let (config, _) = crate::checkpoint::open(&path).unwrap();
            let [embedding, output] = config.end_names();
            assert_eq!(embedding, config.name(EMBEDDING), "{name}");
            assert_eq!(output, config.name(OUTPUT), "{name}");
        }
    }
}
