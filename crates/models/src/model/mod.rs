pub(crate) mod layer;

use std::path::Path;
use std::sync::Arc;

use mlx_rs::{Array, Dtype, transforms};

use crate::adapter::{Adapter, LayerAdapter};
use crate::nn::attention::{Attend, Core};
use crate::nn::cache::{Cache, Columns};
use crate::checkpoint::{self, Checkpoint, Expected};
use crate::arch::config::Config;
use crate::nn::embeddings::Ends;
use crate::nn::head::Head;
use crate::model::layer::{Batch, Flow, Layer};
use crate::nn::linear::{Kernels, LinearSpec, WeightResidency};
use crate::nn::lora::row_norms;
use crate::nn::rope::Rope;
use crate::{Error, Result, Rows};

/// A language model: embedding, decoder layers, head.
///
/// Cloning is cheap and shares the weights: arrays may be sent to another thread but not shared
/// with it, so each thread works on a clone of its own.
#[derive(Clone, Debug)]
pub struct Model {
    config: Arc<Config>,
    checkpoint: Arc<Checkpoint>,
    ends: Ends,
    layers: Vec<Layer>,
    /// By kind of layer.
    ropes: Vec<Rope>,
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
        let (config, mut checkpoint) = checkpoint::open(path.as_ref())?;
        checkpoint.check(&config.expected())?;
        let kernels = checkpoint.kernels();
        let residency = kernels.residency(residency, config.num_weights());
        let (config, checkpoint) = (Arc::new(config), Arc::new(checkpoint));
        let layers = (0..config.num_layers)
            .map(|index| Layer::open(&config, index, &checkpoint, residency))
            .collect::<Result<_>>()?;
        let ends = Ends::open(&config, &checkpoint, residency)?;
        let rope = |pairs: &Vec<f64>| Rope::new(pairs, config.rope_style, kernels.dtype());
        let ropes = config.rope_frequencies.iter().map(rope).collect::<Result<_>>()?;
        Ok(Self { config, checkpoint, ends, layers, ropes, kernels })
    }

    /// The same model with its weights held otherwise: embedding and output matrix like `ends`,
    /// each layer like its entry in `layers`. What is held as wanted already is shared, not read
    /// again.
    pub fn with_weights(&self, ends: WeightResidency, layers: &[WeightResidency]) -> Result<Self> {
        let layers = self.layers.iter().zip(layers).enumerate();
        let layers = layers.map(|(index, (layer, &residency))| match layer.residency() {
            same if same == residency => Ok(layer.clone()),
            _ => Layer::open(&self.config, index, &self.checkpoint, residency),
        });
        let layers = layers.collect::<Result<_>>()?;
        let ends = match self.ends.residency() {
            same if same == ends => self.ends.clone(),
            _ => Ends::open(&self.config, &self.checkpoint, ends)?,
        };
        Ok(Self { layers, ends, ..self.clone() })
    }

    /// The model's dimensions.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The decoder layers, first to last.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The linear layers before and behind the decoder layers that an adapter can attach to: the
    /// embedding, which is one of one-hot vectors, and the output matrix where that is another.
    /// Their paths are whole names.
    pub fn ends(&self) -> Vec<LinearSpec> {
        self.config.ends()
    }

    /// Whether quantized weights can be used as they are; else each use dequantizes them first.
    pub fn computes_packed(&self) -> bool {
        self.kernels == Kernels::Native
    }

    /// Final norm and output matrix.
    pub fn head(&self) -> &Head {
        self.ends.head()
    }

    /// The length of each row of the matrix of a layer's linear at `path`, `[out]` in f32: what
    /// DoRA's magnitudes begin with.
    pub fn row_norms(&self, layer: usize, path: &str) -> Result<Array> {
        let name = format!("{}.{path}", self.config.layer_prefix(layer));
        row_norms(&self.checkpoint.read_module(&name)?.dense(Dtype::Float32)?)
    }

    /// Bytes that all weights take in memory.
    pub fn weight_bytes(&self) -> u64 {
        let layer = |layer: &Layer| layer.weight_bytes(layer.residency());
        self.end_bytes(self.ends.residency()) + self.layers.iter().map(layer).sum::<u64>()
    }

    /// Bytes that what stands before and behind the layers takes in memory, its matrices held like
    /// this.
    pub fn end_bytes(&self, residency: WeightResidency) -> u64 {
        let bytes = |(name, tensor): (String, Expected)| match residency {
            WeightResidency::Streamed => 0,
            WeightResidency::Auto | WeightResidency::Packed => {
                self.checkpoint.bytes_below(&format!("{name}."))
            }
            WeightResidency::Dequantized => {
                (tensor.weights() * self.kernels.bytes_per_value()) as u64
            }
        };
        self.config.expected_outside_layers().into_iter().map(bytes).sum()
    }

    /// Bytes that the caches of all layers have for a row of so many tokens. Of layers with a window
    /// they do not grow beyond it.
    pub fn cache_bytes(&self, tokens: usize) -> usize {
        let number = self.kernels.bytes_per_value();
        self.config.memories().into_iter().map(|memory| memory.bytes(tokens, number)).sum()
    }

    /// Empty caches, one for each layer with a memory of its own.
    pub(crate) fn new_caches(&self, rows: usize, columns: Columns) -> Result<Vec<Cache>> {
        let dtype = self.kernels.dtype();
        let new = |memory| Cache::new(memory, rows, columns, dtype);
        self.config.memories().into_iter().map(new).collect()
    }

    /// How products are computed on this device.
    pub(crate) fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// The start of a forward pass over rows laid end to end: what enters the first layer, and what
    /// all layers share. `ends` are the updates of what stands before and behind the layers (see
    /// [`Adapter::ends`]), in whose arrays both are differentiable.
    ///
    /// # Errors
    /// When `rows` and `tokens` differ in length, or a token is not in the vocabulary.
    pub fn embed(&self, tokens: &[u32], rows: &Rows, ends: &LayerAdapter) -> Result<(Flow, Batch)> {
        self.embed_at(tokens, rows, &rows.positions(), ends)
    }

    /// Like [`embed`](Self::embed), with the tokens at other positions than those of whole rows.
    pub(crate) fn embed_at(
        &self,
        tokens: &[u32],
        rows: &Rows,
        positions: &[usize],
        ends: &LayerAdapter,
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
        let hidden = self.ends.embed(tokens, ends)?;
        let batch = Batch {
            rows: rows.clone(),
            rotations: self.ropes.iter().map(|rope| rope.at(positions)).collect(),
            core: Core::new(self.kernels, rows, self.config.window())?,
            per_layer: self.ends.per_layer(tokens, &hidden)?,
        };
        Ok((Flow::new(hidden), batch))
    }

    /// The hidden states `[1, T, H]` that leave the last layer, for rows laid end to end.
    ///
    /// Evaluated layer by layer, so that of each layer only the output stays in memory.
    pub fn hidden(&self, tokens: &[u32], rows: &Rows, adapter: &Adapter) -> Result<Array> {
        let layers = adapter.for_model(self)?;
        let (mut flow, batch) = self.embed(tokens, rows, adapter.ends())?;
        for (layer, adapter) in self.layers.iter().zip(layers) {
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
        Ok(self.ends.head().logits(&hidden, adapter.ends())?.squeeze_axes(&[0])?)
    }
}
