use std::fmt;
use std::sync::Arc;

use crate::Result;
use crate::arch::config::Config;
use crate::backend::{Backend, WeightResidency};
use crate::checkpoint::WeightSource;
use crate::nn::{
    AttentionMode, Batch, BatchSize, Block, Flow, Footprint, LayerAdapter, LinearSpec, Loader,
    Prefetch,
};

/// Scores of a tile, their softmax and the gradients of both.
const TILES: usize = 4;

/// One decoder layer: a pure function of its arrays, so MLX's `vjp` applies to it.
#[derive(Clone)]
pub struct Layer {
    config: Arc<Config>,
    index: usize,
    source: Arc<dyn WeightSource>,
    backend: Backend,
    weights: Weights,
    /// Bytes of the weights as stored.
    stored_bytes: u64,
    /// Bytes of the linear layers' weights, dequantized.
    dense_bytes: u64,
}

/// Where a layer's weights are.
#[derive(Clone)]
enum Weights {
    Held(Box<dyn Block>, WeightResidency),
    Streamed(Prefetch),
}

impl Layer {
    /// The layer of this index. Unless it is streamed, its weights are read now.
    pub(crate) fn open(
        config: &Arc<Config>,
        index: usize,
        source: &Arc<dyn WeightSource>,
        backend: Backend,
        residency: WeightResidency,
    ) -> Result<Self> {
        let prefix = config.layer_prefix(index);
        let below = format!("{prefix}.");
        let weights = match residency {
            WeightResidency::Streamed => {
                Weights::Streamed(Prefetch::new(Arc::clone(source), &below))
            }
            _ => {
                let loader = Loader::new(Arc::clone(source), backend, residency);
                let mut loader = loader.with_norm_offset(config.family().norm_offset());
                let block = config.family().load(config, index, &prefix, &mut loader)?;
                // Layer by layer, so that at most one has its weights in memory twice.
                loader.eval()?;
                Weights::Held(block, residency)
            }
        };
        let linears = config.family().linears(config, index);
        let dense = linears.iter().map(LinearSpec::weights).sum::<usize>();
        Ok(Self {
            config: Arc::clone(config),
            index,
            source: Arc::clone(source),
            backend,
            weights,
            stored_bytes: source.bytes_below(&below),
            dense_bytes: (dense * backend.bytes_per_value()) as u64,
        })
    }

    /// The same layer with its weights kept as `residency` says; shared if they already are.
    pub(crate) fn with_residency(&self, residency: WeightResidency) -> Result<Self> {
        if self.residency() == residency {
            return Ok(self.clone());
        }
        Self::open(&self.config, self.index, &self.source, self.backend, residency)
    }

    /// The same layer for this backend, its weights in one form in memory.
    pub(crate) fn with_backend(&self, backend: Backend) -> Result<Self> {
        if self.residency() == WeightResidency::Dequantized {
            return Ok(Self { backend, ..self.clone() });
        }
        let residency = self.residency().in_one_form();
        Self::open(&self.config, self.index, &self.source, backend, residency)
    }

    /// The linear layers an adapter can attach to, in the order they are applied.
    pub fn linears(&self) -> Vec<LinearSpec> {
        self.config.family().linears(&self.config, self.index)
    }

    /// The layer whose cache this layer reads: itself, or an earlier one whose keys it shares.
    pub(crate) fn cache(&self) -> usize {
        self.config.family().cache_of(self.index)
    }

    /// Where its weights are kept.
    pub fn residency(&self) -> WeightResidency {
        match &self.weights {
            Weights::Held(_, residency) => *residency,
            Weights::Streamed(_) => WeightResidency::Streamed,
        }
    }

    /// Starts to read the weights of a streamed layer on another thread, for the next time it is
    /// applied. Does nothing for other layers.
    #[doc(hidden)]
    pub fn read_ahead(&self) {
        if let Weights::Streamed(prefetch) = &self.weights {
            prefetch.read_ahead();
        }
    }

    /// Applies the layer to whole rows, each token attending to its own row up to itself.
    ///
    /// Nothing is evaluated. The result depends on the arrays of `input` and `adapter`, and both
    /// can be differentiated; the model's own weights are constants.
    pub fn forward(&self, input: &Flow, batch: &Batch, adapter: &LayerAdapter) -> Result<Flow> {
        self.forward_with(input, batch, adapter, AttentionMode::Rows)
    }

    pub(crate) fn forward_with(
        &self,
        input: &Flow,
        batch: &Batch,
        adapter: &LayerAdapter,
        mode: AttentionMode<'_>,
    ) -> Result<Flow> {
        match &self.weights {
            Weights::Held(block, _) => block.forward(input, batch, adapter, mode),
            Weights::Streamed(prefetch) => {
                let read = prefetch.read()?;
                let family = self.config.family();
                let loader = Loader::with_read(Arc::clone(&self.source), self.backend, read);
                let mut loader = loader.with_norm_offset(family.norm_offset());
                let prefix = self.config.layer_prefix(self.index);
                let block = family.load(&self.config, self.index, &prefix, &mut loader)?;
                drop(loader);
                block.forward(input, batch, adapter, mode)
            }
        }
    }

    /// The memory of its activations while a micro-batch is differentiated: the outputs of its linear
    /// layers, a quarter of that for the few inputs that are not recomputed, and what the family keeps
    /// beside them.
    #[doc(hidden)]
    pub fn footprint(&self, size: BatchSize) -> Footprint {
        let linears = self.linears().into_iter();
        let outputs: usize = linears.map(|linear| linear.uses * linear.out_features * 5 / 4).sum();
        let others = self.config.family().activations(&self.config, self.index, size.longest);
        // Linear layers compute shared prefixes once, attention computes them for each row.
        let kept = size.tokens * outputs + size.row_tokens * others.kept_per_token;
        let bytes = |values: usize| (values * self.backend.bytes_per_value()) as u64;
        // Low-rank products are in f32 in any case: 16-bit values have copies beside them. Measured, see
        // `tests/memory.rs` of lora-train.
        let kept = if self.backend.bytes_per_value() == 2 { kept * 7 / 4 } else { kept };
        Footprint { kept: bytes(kept), tile: bytes(TILES * others.at_once) }
    }

    /// Bytes of its weights in memory when they are kept like this.
    pub fn weight_bytes(&self, residency: WeightResidency) -> u64 {
        match residency {
            WeightResidency::Streamed => 0,
            WeightResidency::Auto | WeightResidency::Packed => self.stored_bytes,
            WeightResidency::Dequantized => self.dense_bytes,
            WeightResidency::PackedAndDequantized => self.stored_bytes + self.dense_bytes,
        }
    }

    /// Bytes of weights that exist only while the layer computes: dequantized if the backend needs
    /// that, and of a streamed layer the stored ones, with the next layer's read ahead.
    #[doc(hidden)]
    pub fn transient_weight_bytes(&self, residency: WeightResidency) -> u64 {
        let dense = if self.backend.is_native() { 0 } else { self.dense_bytes };
        match residency {
            WeightResidency::Dequantized | WeightResidency::PackedAndDequantized => 0,
            WeightResidency::Auto | WeightResidency::Packed => dense,
            WeightResidency::Streamed => dense + 2 * self.stored_bytes,
        }
    }
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layer").field("linears", &self.linears()).finish_non_exhaustive()
    }
}
