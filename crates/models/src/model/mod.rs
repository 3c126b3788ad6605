mod embeddings;
pub(crate) mod layer;

use std::path::Path;
use std::sync::Arc;

use mlx_rs::{Array, Dtype, transforms};

use crate::arch::config::Config;
use crate::arch::registry;
use crate::backend::{Backend, OpenOptions, WeightResidency};
use crate::checkpoint::{Expected, WeightSource};
use crate::ext::wire_memory;
use crate::nn::{
    Adapter, AttentionKernel, Batch, Cache, CacheShape, Columns, Flow, Head, LayerAdapter,
    LinearSpec, Rope, Rows, row_norms,
};
use crate::{Error, Result};
use embeddings::Embeddings;
use layer::Layer;

/// A language model: embedding, decoder layers, head.
///
/// Cloning is cheap and shares the weights: arrays may be sent to another thread but not shared
/// with it, so each thread works on a clone of its own.
#[derive(Clone, Debug)]
pub struct Model {
    config: Arc<Config>,
    source: Arc<dyn WeightSource>,
    backend: Backend,
    embeddings: Embeddings,
    layers: Vec<Layer>,
    /// By kind of layer.
    ropes: Vec<Rope>,
}

impl Model {
    /// Opens a `.gguf` file, or a folder with `config.json` and `*.safetensors`.
    ///
    /// # Errors
    /// An architecture that is not supported, a file that is broken or cut short, and every tensor
    /// that is missing, unexpected or of another shape.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, OpenOptions::default())
    }

    /// Like [`open`](Self::open), with [`OpenOptions`] or only a [`WeightResidency`].
    ///
    /// # Errors
    /// As [`open`](Self::open); [`Error::Argument`] for a value of `NIGHTSHIFT_KERNELS` that does not
    /// exist.
    pub fn open_with(path: impl AsRef<Path>, options: impl Into<OpenOptions>) -> Result<Self> {
        let OpenOptions { residency, kernels } = options.into();
        let backend = Backend::choose(kernels)?;
        if !backend.is_cpu() {
            wire_memory();
        }
        let (config, checkpoint) = registry::open(path.as_ref())?;
        let residency = backend.residency(residency, config.num_weights());
        let [embedding, _] = config.embedding_names();
        let backend = match config.family().exceeds_f16() {
            true => backend,
            false => backend.of_checkpoint(checkpoint.float_type(embedding)),
        };
        let config = Arc::new(config);
        let source: Arc<dyn WeightSource> = Arc::new(checkpoint);
        let layers = (0..config.num_layers)
            .map(|index| Layer::open(&config, index, &source, backend, residency))
            .collect::<Result<_>>()?;
        let embeddings = Embeddings::open(&config, &source, backend, residency)?;
        let rope = |pairs: &Vec<f64>| Rope::new(pairs, config.rope_style, backend);
        let ropes = config.rope_frequencies.iter().map(rope).collect();
        Ok(Self { config, source, backend, embeddings, layers, ropes })
    }

    /// The same model with its weights kept otherwise: embedding and output matrix as `embeddings`
    /// says, each layer as its entry in `layers`. Weights that are kept so already are shared, not
    /// read again.
    pub fn with_weights(
        &self,
        embeddings: WeightResidency,
        layers: &[WeightResidency],
    ) -> Result<Self> {
        let layers = self.layers.iter().zip(layers);
        let layers = layers.map(|(layer, &residency)| layer.with_residency(residency));
        let mut model = Self { layers: layers.collect::<Result<_>>()?, ..self.clone() };
        if embeddings != self.embeddings.residency() {
            model.embeddings =
                Embeddings::open(&self.config, &self.source, self.backend, embeddings)?;
        }
        Ok(model)
    }

    /// The same model, with few rows too multiplied with dequantized weights, so that results do not depend on where
    /// weights are kept: as it is trained.
    ///
    /// # Errors
    /// If weights cannot be read.
    pub fn with_dense_products(&self) -> Result<Self> {
        let backend = self.backend.with_dense_products();
        if backend == self.backend {
            return Ok(self.clone());
        }
        let layers = self.layers.iter().map(|layer| layer.with_backend(backend));
        let residency = self.embeddings.residency().in_one_form();
        let embeddings = Embeddings::open(&self.config, &self.source, backend, residency)?;
        Ok(Self { layers: layers.collect::<Result<_>>()?, embeddings, backend, ..self.clone() })
    }

    /// The model's dimensions.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The decoder layers, first to last.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Embedding and, unless it is tied, output matrix, as linear layers that an adapter can attach to.
    /// The embedding maps one-hot vectors. Paths are whole names.
    pub fn embedding_linears(&self) -> Vec<LinearSpec> {
        self.config.embedding_linears()
    }

    /// How the model is computed: with the same files, what its outputs still depend on. A part of the key of
    /// whatever is kept of them.
    pub fn arithmetic(&self) -> String {
        let weights = match (self.computes_packed(), self.embeddings.residency()) {
            (true, _) => "packed",
            (false, WeightResidency::Dequantized) => "dequantized",
            (false, _) if !self.backend.packs_few_rows() => "dequantized",
            (false, _) => "dequantized, for few rows packed",
        };
        format!("{weights} weights, {} bytes a value", self.bytes_per_value())
    }

    /// Whether quantized weights are used as they are; else each use dequantizes them first.
    #[doc(hidden)]
    pub fn computes_packed(&self) -> bool {
        self.backend.is_native()
    }

    /// What [`WeightResidency::Auto`] stands for.
    #[doc(hidden)]
    pub fn auto_residency(&self) -> WeightResidency {
        self.backend.residency(WeightResidency::Auto, self.config.num_weights())
    }

    /// Bytes of one value of the hidden states.
    #[doc(hidden)]
    pub fn bytes_per_value(&self) -> usize {
        self.backend.bytes_per_value()
    }

    /// Final norm and output matrix.
    pub fn head(&self) -> &Head {
        self.embeddings.head()
    }

    /// The length of each row of the matrix of a layer's linear layer at `path`, `[out]` in f32: the
    /// initial magnitudes of DoRA.
    #[doc(hidden)]
    pub fn row_norms(&self, layer: usize, path: &str) -> Result<Array> {
        let name = format!("{}.{path}", self.config.layer_prefix(layer));
        row_norms(&self.source.matrix(&name)?.dense(self.backend, Dtype::Float32)?)
    }

    /// Bytes that all weights take in memory.
    pub fn weight_bytes(&self) -> u64 {
        let layer = |layer: &Layer| layer.weight_bytes(layer.residency());
        self.embedding_bytes(self.embeddings.residency())
            + self.layers.iter().map(layer).sum::<u64>()
    }

    /// Bytes of the weights outside the layers when they are kept like this.
    #[doc(hidden)]
    pub fn embedding_bytes(&self, residency: WeightResidency) -> u64 {
        let bytes = |(name, tensor): (String, Expected)| {
            let stored = self.source.bytes_below(&format!("{name}."));
            let dense = (tensor.weights() * self.backend.bytes_per_value()) as u64;
            match residency {
                WeightResidency::Streamed => 0,
                WeightResidency::Auto | WeightResidency::Packed => stored,
                WeightResidency::Dequantized => dense,
                WeightResidency::PackedAndDequantized => stored + dense,
            }
        };
        self.config.expected_outside_layers().into_iter().map(bytes).sum()
    }

    /// Bytes of the caches of all layers for a row of so many tokens. The cache of a layer with a
    /// window does not grow beyond it.
    pub fn cache_bytes(&self, tokens: usize) -> usize {
        let caches = self.cache_shapes().into_iter();
        caches.map(|cache| cache.bytes(tokens, self.backend.bytes_per_value())).sum()
    }

    /// What layers cache, of those that have a cache of their own.
    pub(crate) fn cache_shapes(&self) -> Vec<CacheShape> {
        self.config.family().caches(&self.config)
    }

    /// Empty caches, one for each layer that has its own.
    pub(crate) fn new_caches(&self, rows: usize, columns: Columns) -> Result<Vec<Cache>> {
        let new = |shape| Cache::new(shape, rows, columns, self.backend.dtype());
        self.cache_shapes().into_iter().map(new).collect()
    }

    /// The device and how it computes.
    pub(crate) fn backend(&self) -> Backend {
        self.backend
    }

    /// The start of a forward pass over rows end to end: what enters the first layer, and what all
    /// layers share. Both are differentiable in the arrays of `adapter`, the updates of embedding and
    /// output matrix (see [`Adapter::embeddings`]).
    ///
    /// # Errors
    /// [`Error::Argument`] if `rows` and `tokens` differ in length, [`Error::Token`] if a token is not
    /// in the vocabulary.
    pub fn embed(
        &self,
        tokens: &[u32],
        rows: &Rows,
        adapter: &LayerAdapter,
    ) -> Result<(Flow, Batch)> {
        self.embed_at(tokens, rows, &rows.positions(), adapter)
    }

    /// Like [`embed`](Self::embed), with the tokens at these positions of their rows.
    pub(crate) fn embed_at(
        &self,
        tokens: &[u32],
        rows: &Rows,
        positions: &[usize],
        adapter: &LayerAdapter,
    ) -> Result<(Flow, Batch)> {
        if rows.total() != tokens.len() {
            return Err(Error::Argument {
                name: "tokens",
                expected: format!("{}, the number in the rows", rows.total()),
                found: tokens.len().to_string(),
            });
        }
        let vocab_size = self.config.vocab_size;
        if let Some(position) = tokens.iter().position(|&token| token as usize >= vocab_size) {
            return Err(Error::Token { token: tokens[position], position, vocab_size });
        }
        self.check_positions(positions)?;
        let hidden = self.embeddings.embed(tokens, adapter)?;
        let batch = Batch {
            attention: AttentionKernel::new(self.backend, rows, self.config.family().window())?,
            rotations: self.ropes.iter().map(|rope| rope.at(positions)).collect(),
            token_inputs: self.embeddings.token_inputs(tokens, &hidden)?,
        };
        Ok((Flow::new(hidden), batch))
    }

    /// Refuses positions for which the rotary embedding would have other frequencies.
    fn check_positions(&self, positions: &[usize]) -> Result<()> {
        let longest = positions.iter().max().map_or(0, |&last| last + 1);
        match self.config.max_positions {
            Some(most) if longest > most => Err(Error::Argument {
                name: "tokens",
                expected: format!("at most {most} in a row, the limit of rope_type dynamic"),
                found: longest.to_string(),
            }),
            _ => Ok(()),
        }
    }

    /// The hidden states `[1, T, H]` after the last layer, for rows end to end.
    ///
    /// Evaluated layer by layer, so that only the output of each layer stays in memory.
    pub fn hidden(&self, tokens: &[u32], rows: &Rows, adapter: &Adapter) -> Result<Array> {
        let layers = adapter.for_layers(self.layers.len())?;
        let (mut flow, batch) = self.embed(tokens, rows, adapter.embeddings())?;
        for (layer, adapter) in self.layers.iter().zip(layers) {
            flow = layer.forward(&flow, &batch, adapter)?;
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
        Ok(self.embeddings.head().logits(&hidden, adapter.embeddings())?.squeeze_axes(&[0])?)
    }
}
