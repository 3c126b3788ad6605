use std::path::Path;

use mlx_rs::{Array, transforms};

use crate::adapter::Adapter;
use crate::attention::{Attend, Core};
use crate::cache::{CacheShape, KvCache};
use crate::config::{Config, EMBEDDING, FINAL_NORM, OUTPUT};
use crate::head::Head;
use crate::layer::{Batch, Block, Flow, Layer};
use crate::linear::{Kernels, Linear, WeightResidency};
use crate::rope::Rope;
use crate::{Error, Result, Rows, checkpoint, llama};

/// A language model: embedding, decoder layers, head.
///
/// Cloning is cheap and shares the weights: arrays may be sent to another thread but not shared
/// with it, so each thread works on a clone of its own.
#[derive(Clone, Debug)]
pub struct Model {
    config: Config,
    embedding: Linear,
    layers: Vec<Layer>,
    head: Head,
    rope: Rope,
    kernels: Kernels,
}

impl Model {
    /// Opens a `.gguf` file, or a folder with `config.json` and `*.safetensors`.
    ///
    /// # Errors
    /// An unsupported architecture by name, a file that is broken or cut short, and every tensor
    /// that is missing, unexpected or of another shape.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, WeightResidency::Auto)
    }

    /// Like [`open`](Self::open), with a say in how the weights lie in memory.
    pub fn open_with(path: impl AsRef<Path>, residency: WeightResidency) -> Result<Self> {
        let (config, mut tensors) = checkpoint::open(path.as_ref())?;
        tensors.check(&config.expected())?;
        tensors.settle(residency, config.num_weights());

        let embedding = tensors.linear(EMBEDDING)?;
        let output = match config.tied_embeddings {
            true => embedding.clone(),
            false => tensors.linear(OUTPUT)?,
        };
        let head = Head {
            norm: tensors.vector(FINAL_NORM)?,
            norm_eps: config.norm_eps,
            output,
            vocab_size: config.vocab_size,
        };
        let kernels = tensors.kernels();
        let rope = Rope::new(&config.rope_frequencies, config.rope_style, kernels.dtype())?;
        let mut layers = Vec::with_capacity(config.num_layers);
        for index in 0..config.num_layers {
            let block = llama::Block::load(&config, &config.layer_prefix(index), &mut tensors)?;
            let layer = Layer { block: Block::Llama(block) };
            // Layer by layer, so that at most one has its weights in memory twice.
            transforms::eval(layer.arrays())?;
            layers.push(layer);
        }
        // Nothing may be left to compute: another thread has no part in this one's stream.
        let ends = embedding.arrays().into_iter().chain(head.output.arrays());
        transforms::eval(ends.chain([&head.norm]))?;
        Ok(Self { config, embedding, layers, head, rope, kernels })
    }

    /// The model's dimensions.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The decoder layers, first to last.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Final norm and output matrix.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Bytes of all weights as they lie in memory.
    pub fn weight_bytes(&self) -> usize {
        let embedding = self.embedding.arrays().into_iter();
        let untied = (!self.config.tied_embeddings).then_some(&self.head.output);
        let ends = embedding.chain(untied.into_iter().flat_map(Linear::arrays));
        let ends: usize = ends.map(|array| array.nbytes()).sum();
        ends + self.layers.iter().map(Layer::weight_bytes).sum::<usize>()
    }

    /// Bytes of keys and values that one token of one row leaves in the caches of all layers.
    pub fn cache_bytes_per_token(&self) -> usize {
        let Config { num_layers, num_kv_heads, head_dim, .. } = self.config;
        num_layers * num_kv_heads * head_dim * 2 * self.kernels.bytes_per_value()
    }

    /// Empty caches, one per layer.
    pub(crate) fn new_caches(&self, rows: usize, columns: usize) -> Result<Vec<KvCache>> {
        let Config { num_layers, num_kv_heads: kv_heads, head_dim, .. } = self.config;
        let shape = CacheShape { rows, kv_heads, columns, head_dim, dtype: self.kernels.dtype() };
        (0..num_layers).map(|_| KvCache::new(shape)).collect()
    }

    /// How products are computed on this device.
    pub(crate) fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// The start of a forward pass over rows laid end to end: what enters the first layer, and what
    /// all layers share.
    ///
    /// # Errors
    /// When `rows` and `tokens` differ in length, or a token is not in the vocabulary.
    pub fn embed(&self, tokens: &[u32], rows: &Rows) -> Result<(Flow, Batch)> {
        self.embed_at(tokens, rows, &rows.positions())
    }

    /// Like [`embed`](Self::embed), with the tokens at other positions than those of whole rows.
    pub(crate) fn embed_at(
        &self,
        tokens: &[u32],
        rows: &Rows,
        positions: &[usize],
    ) -> Result<(Flow, Batch)> {
        if rows.total() != tokens.len() {
            return Err(Error::Argument {
                name: "tokens",
                expected: format!("{}, as many as the rows have", rows.total()),
                found: tokens.len().to_string(),
            });
        }
        let vocab_size = self.config.vocab_size;
        if let Some(position) = tokens.iter().position(|&token| token as usize >= vocab_size) {
            return Err(Error::Token { token: tokens[position], position, vocab_size });
        }
        let indices = Array::from_slice(tokens, &[tokens.len() as i32]);
        let hidden = self.embedding.gather(&indices)?.expand_dims(0)?;
        let batch = Batch {
            rows: rows.clone(),
            rotation: self.rope.at(positions),
            core: Core::new(self.kernels, rows),
        };
        Ok((Flow::new(hidden), batch))
    }

    /// The hidden states `[1, T, H]` that leave the last layer, for rows laid end to end.
    ///
    /// Evaluated layer by layer, so that of each layer only the output stays in memory.
    pub fn hidden(&self, tokens: &[u32], rows: &Rows, adapter: &Adapter) -> Result<Array> {
        let (mut flow, batch) = self.embed(tokens, rows)?;
        for (layer, adapter) in self.layers.iter().zip(adapter.for_model(self)?) {
            flow = layer.forward_with(&flow, &batch, adapter, Attend::Rows)?;
            transforms::eval(flow.carried.iter().chain([&flow.hidden]))?;
        }
        Ok(flow.hidden)
    }

    /// The logits `[tokens, vocabulary]` of one sequence, in f32.
    ///
    /// ```no_run
    /// use models::{Adapter, Model};
    ///
    /// let model = Model::open("SmolLM2-135M-Instruct.Q4_1.gguf")?;
    /// let logits = model.logits(&[504, 3575, 282, 4649, 314], &Adapter::none(&model))?;
    /// assert_eq!(logits.shape(), [5, 49_152]);
    /// # Ok::<(), models::Error>(())
    /// ```
    pub fn logits(&self, tokens: &[u32], adapter: &Adapter) -> Result<Array> {
        let hidden = self.hidden(tokens, &Rows::new([tokens.len()])?, adapter)?;
        Ok(self.head.logits(&hidden)?.squeeze_axes(&[0])?)
    }
}
