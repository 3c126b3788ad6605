//! Estimates the memory of a run from the shapes of its arrays.

use models::layers::Layer;
use models::train_support::{BatchSize, Footprint};
use models::{Model, WeightResidency};

use super::chunks::Chunks;
use super::inputs::InputStorage;
use super::layout::{Block, Layout};
use super::plan::Plan;
use crate::Optimizer;
use crate::batch::{packed_size, repeats};
use crate::dataset::Dataset;

const F32: u64 = size_of::<f32>() as u64;
/// Memory while a layer is differentiated, relative to what its forward pass keeps: most of the kept
/// arrays and of their gradients exist at one time. Measured, see `tests/memory.rs`.
const BACKWARD: f64 = 2.7;

/// The sizes of micro-batches that the data may lead to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Tokens of the longest row.
    longest: usize,
    /// Tokens of the largest example: the longest row, or the largest pair.
    largest: usize,
    /// Tokens that are split into micro-batches together, at most.
    together: usize,
    /// Tokens of the rows of an update, relative to those computed, shared prefixes once.
    repeats: f64,
}

impl Load {
    /// For `updates` of examples of `train`, and forward passes over all of `others`.
    pub(crate) fn new(train: &Dataset, updates: &[Vec<usize>], others: &[&Dataset]) -> Self {
        let sizes = |data: &Dataset| -> Vec<usize> {
            (0..data.examples()).map(|example| packed_size(data, example)).collect()
        };
        let longest = |data: &Dataset| data.rows().iter().map(|row| row.inputs().len()).max();
        let mut train_sizes = sizes(train);
        train_sizes.sort_unstable_by_key(|&size| std::cmp::Reverse(size));
        let other_sizes: Vec<usize> = others.iter().flat_map(|data| sizes(data)).collect();
        let examples = updates.iter().map(Vec::len).max().unwrap_or_default();
        let update: usize = train_sizes.iter().take(examples).sum();
        Self {
            longest: others
                .iter()
                .chain([&train])
                .filter_map(|data| longest(data))
                .max()
                .unwrap_or(0),
            largest: train_sizes.iter().chain(&other_sizes).copied().max().unwrap_or_default(),
            together: update
                .max(others.iter().map(|data| sizes(data).iter().sum()).max().unwrap_or(0)),
            repeats: updates.iter().map(|examples| repeats(train, examples)).fold(1.0, f64::max),
        }
    }

    /// Tokens of the largest micro-batch, limited to `tokens` but at least those of the largest
    /// example. Examples are not split to balance lanes.
    fn micro_batch(&self, tokens: usize, lanes: usize) -> usize {
        let share = self.together.div_ceil(lanes.max(1)) + self.largest;
        tokens.min(share).min(self.together).max(self.largest)
    }
}

/// What costs depend on beside the plan.
pub(crate) struct Costs<'a> {
    pub(crate) model: &'a Model,
    pub(crate) layout: &'a Layout,
    pub(crate) optimizer: &'a Optimizer,
    pub(crate) load: Load,
    /// Whether predictions are held to those of the base model.
    pub(crate) anchored: bool,
}

impl Costs<'_> {
    /// The most memory that MLX will hold with `plan`, in bytes.
    pub(crate) fn of(&self, plan: &Plan) -> u64 {
        let lanes = plan.lanes as u64;
        let factors = bytes(self.layout.shapes());
        let held = self.weights(plan) + factors + self.moments();
        // The gradients of the output matrix's update are concatenated from parts, and kept until those
        // of the embedding are computed.
        let embeddings = bytes(self.layout.shapes_at(Block::Embeddings));
        let work = self.work(plan).max(embeddings) + 2 * self.output_update();
        let work = work + self.anchors(plan);
        let at_work = held + lanes * (factors + self.inputs(plan) + work + plan.keep_bytes);
        // Afterwards the gradients of all lanes are summed.
        at_work.max(held + (lanes + 1) * factors)
    }

    /// The memory of a lane that keeps the activations of all adapted layers.
    pub(crate) fn keep_all(&self, plan: &Plan) -> u64 {
        let layers = self.model.layers().iter().skip(self.layout.lowest_layer());
        let tokens = self.tokens(plan);
        layers.map(|layer| self.footprint(layer, tokens).kept).sum()
    }

    fn footprint(&self, layer: &Layer, tokens: usize) -> Footprint {
        let row_tokens = (tokens as f64 * self.load.repeats) as usize;
        layer.footprint(BatchSize { tokens, row_tokens, longest: self.load.longest.min(tokens) })
    }

    fn tokens(&self, plan: &Plan) -> usize {
        self.load.micro_batch(plan.tokens, plan.lanes)
    }

    fn output_update(&self) -> u64 {
        let config = self.model.config();
        (self.layout.output_rank() * (config.hidden_size + config.vocab_size)) as u64 * F32
    }

    fn moments(&self) -> u64 {
        self.layout.shapes().map(|(_, shape)| self.optimizer.state_bytes(&shape)).sum()
    }

    fn weights(&self, plan: &Plan) -> u64 {
        let layers = self.model.layers().iter().zip(&plan.layers);
        let layers: u64 = layers.map(|(layer, &residency)| layer.weight_bytes(residency)).sum();
        self.model.embedding_bytes(plan.embeddings) + layers
    }

    /// The inputs of the adapted layers, or of two layers if the others are in a file.
    fn inputs(&self, plan: &Plan) -> u64 {
        let model = self.model;
        let layers = match plan.inputs {
            InputStorage::Memory => model.layers().len() - self.layout.lowest_layer(),
            InputStorage::File => 2,
        };
        (layers * self.tokens(plan) * model.config().hidden_size * model.bytes_per_value()) as u64
    }

    /// The base model's hidden states, both models' features and the gradients of one of them.
    fn anchors(&self, plan: &Plan) -> u64 {
        const ARRAYS: u64 = 5;
        let width = self.model.config().hidden_size + self.layout.output_rank();
        let states = (self.tokens(plan) * width) as u64 * F32;
        if self.anchored { ARRAYS * states } else { 0 }
    }

    /// The memory of a lane for one layer or for the head, whichever is more.
    fn work(&self, plan: &Plan) -> u64 {
        let tokens = self.tokens(plan);
        let layers = self.model.layers().iter().zip(&plan.layers);
        let layer = layers.map(|(layer, &residency)| {
            let Footprint { kept, tile, .. } = self.footprint(layer, tokens);
            // DoRA needs each matrix with its update merged, for the lengths of its rows.
            let merged = match self.layout.has_magnitudes() {
                true => layer.weight_bytes(WeightResidency::Dequantized),
                false => 0,
            };
            let backward = (kept as f64 * BACKWARD) as u64 + tile;
            layer.transient_weight_bytes(residency) + merged + backward
        });
        layer.max().unwrap_or_default().max(self.head(plan, tokens))
    }

    /// A chunk of logits, with the rows of the output matrix, their softmax and its gradient. All chunks
    /// of a streamed matrix are read before the first is used. An update of the matrix is concatenated
    /// to each chunk, and its gradient takes one more pass over the vocabulary.
    fn head(&self, plan: &Plan, tokens: usize) -> u64 {
        let config = self.model.config();
        let chunks = Chunks::of(config.vocab_size);
        let (positions, vocabulary) = chunks.sizes(tokens);
        let rank = self.layout.output_rank();
        let adapted = usize::from(rank > 0);
        let unpacked = match plan.embeddings {
            WeightResidency::Dequantized => 0,
            _ => vocabulary * config.hidden_size,
        };
        let concatenated = adapted * vocabulary * (config.hidden_size + rank);
        let read = match plan.embeddings {
            WeightResidency::Streamed => {
                let matrices = if config.tied_embeddings { 1 } else { 2 };
                let packed = self.model.embedding_bytes(WeightResidency::Packed) / matrices;
                packed * (chunks.rounds(tokens) + adapted) as u64
            }
            _ => 0,
        };
        // With anchors those of both models, in smaller chunks.
        let (anchors, _) = chunks.halved().sizes(tokens);
        let logits = match self.anchored {
            true => (6 * anchors).max(3 * positions) * vocabulary,
            false => 3 * positions * vocabulary,
        };
        read + (unpacked + concatenated + logits) as u64 * F32
    }
}

/// Bytes of factors of these shapes.
fn bytes<'a>(shapes: impl Iterator<Item = (&'a str, Vec<i32>)>) -> u64 {
    let values = |shape: &[i32]| shape.iter().map(|&n| n as u64).product::<u64>();
    shapes.map(|(_, shape)| values(&shape) * F32).sum()
}
