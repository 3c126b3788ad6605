//! What a run holds in memory, estimated from the shapes of everything in it.

use models::{Layer, Model, WeightResidency};

use super::inputs::InputStorage;
use super::layout::{Block, Layout};
use super::loss::Chunks;
use super::plan::Plan;
use crate::Optimizer;
use crate::batch::repeats;
use crate::dataset::Dataset;

const F32: u64 = size_of::<f32>() as u64;
/// While a layer is differentiated, what its forward pass left and the gradients of that exist at
/// once, but not all of both: measured, see the tests of memory in `tests/memory.rs`.
const BACKWARD: f64 = 2.7;

/// Scores, their softmax and the gradients of both.
const TILES: u64 = 4;

/// How much of the data a micro-batch may have to hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Tokens of the longest row.
    longest: usize,
    /// Tokens that are cut into micro-batches together, at most.
    together: usize,
    /// In how many rows of an update a token is that is computed once.
    repeats: f64,
}

impl Load {
    /// Of `updates` of rows of `train` and of a validation on all of `valid`.
    pub(crate) fn new(train: &Dataset, updates: &[Vec<usize>], valid: Option<&Dataset>) -> Self {
        let lengths = |data: &Dataset| -> Vec<usize> {
            data.rows().iter().map(|row| row.inputs().len()).collect()
        };
        let mut train_lengths = lengths(train);
        train_lengths.sort_unstable_by_key(|&length| std::cmp::Reverse(length));
        let valid = valid.map(lengths).unwrap_or_default();
        let rows = updates.iter().map(Vec::len).max().unwrap_or_default();
        let update: usize = train_lengths.iter().take(rows).sum();
        Self {
            longest: train_lengths.iter().chain(&valid).copied().max().unwrap_or_default(),
            together: update.max(valid.iter().sum()),
            repeats: updates.iter().map(|rows| repeats(train.rows(), rows)).fold(1.0, f64::max),
        }
    }

    /// Tokens of the largest micro-batch, if they are to have at most `tokens`, or as many as the
    /// longest row has. Rows are not cut to make lanes even.
    fn micro_batch(&self, tokens: usize, lanes: usize) -> usize {
        let share = self.together.div_ceil(lanes.max(1)) + self.longest;
        tokens.min(share).min(self.together).max(self.longest)
    }
}

/// What costs depend on, whatever the plan.
pub(crate) struct Costs<'a> {
    pub(crate) model: &'a Model,
    pub(crate) layout: &'a Layout,
    pub(crate) optimizer: &'a Optimizer,
    pub(crate) load: Load,
}

impl Costs<'_> {
    /// The most that MLX will hold under `plan`.
    pub(crate) fn of(&self, plan: &Plan) -> u64 {
        let lanes = plan.lanes as u64;
        let factors = bytes(self.layout.shapes());
        let held = self.weights(plan) + factors + self.moments();
        // The gradients of the output matrix's update are put together from parts, and wait until
        // those of the embedding are there.
        let ends = bytes(self.layout.shapes_at(Block::Embeddings));
        let work = self.work(plan).max(ends) + 2 * self.output_update();
        let at_work = held + lanes * (factors + self.inputs(plan) + work + plan.keep_bytes);
        // Afterwards the lanes' gradients are added up.
        at_work.max(held + (lanes + 1) * factors)
    }

    /// What keeping the intermediates of every adapted layer costs a lane.
    pub(crate) fn keep_all(&self, plan: &Plan) -> u64 {
        let layers = self.model.layers().iter().skip(self.layout.lowest_layer());
        let tokens = self.tokens(plan);
        layers.map(|layer| self.left_by(layer, tokens)).sum()
    }

    fn left_by(&self, layer: &Layer, tokens: usize) -> u64 {
        let of_rows = (tokens as f64 * self.load.repeats) as usize;
        left_by(self.model, layer, [tokens, of_rows], self.load.longest.min(tokens))
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
        self.model.end_bytes(plan.ends) + layers
    }

    /// The inputs of the adapted layers, or two of them on their way to and from a file.
    fn inputs(&self, plan: &Plan) -> u64 {
        let model = self.model;
        let layers = match plan.inputs {
            InputStorage::Memory => model.layers().len() - self.layout.lowest_layer(),
            InputStorage::File => 2,
        };
        (layers * self.tokens(plan) * model.config().hidden_size) as u64 * value_bytes(model)
    }

    /// What a lane needs for one layer, or for the head, whichever is more.
    fn work(&self, plan: &Plan) -> u64 {
        let tokens = self.tokens(plan);
        let layers = self.model.layers().iter().zip(&plan.layers);
        let layer = layers.map(|(layer, &residency)| {
            let left = self.left_by(layer, tokens);
            // DoRA needs each matrix with its update in it, for the lengths of its rows.
            let merged = match self.layout.has_magnitudes() {
                true => layer.weight_bytes(WeightResidency::Dequantized),
                false => 0,
            };
            let tile = layer.values_at_once(self.load.longest.min(tokens)) as u64;
            let tile = TILES * tile * value_bytes(self.model);
            let backward = (left as f64 * BACKWARD) as u64 + tile;
            unpacked(self.model, layer, residency) + merged + backward
        });
        layer.max().unwrap_or_default().max(self.head(plan, tokens))
    }

    /// A chunk of logits, what they are made from and what is made from them. Of a matrix that is on
    /// disk all chunks are read before the first is used. An update of the matrix is put beside each
    /// chunk of it, and its gradient takes one more round.
    fn head(&self, plan: &Plan, tokens: usize) -> u64 {
        let config = self.model.config();
        let chunks = Chunks::of(config.vocab_size);
        let (positions, vocabulary) = chunks.sizes(tokens);
        let rank = self.layout.output_rank();
        let adapted = usize::from(rank > 0);
        let unpacked = match plan.ends {
            WeightResidency::Dequantized => 0,
            _ => vocabulary * config.hidden_size,
        };
        let beside = adapted * vocabulary * (config.hidden_size + rank);
        let read = match plan.ends {
            WeightResidency::Streamed => {
                let matrices = if config.tied_embeddings { 1 } else { 2 };
                let packed = self.model.end_bytes(WeightResidency::Packed) / matrices;
                packed * (chunks.rounds(tokens) + adapted) as u64
            }
            _ => 0,
        };
        read + (unpacked + beside + 3 * positions * vocabulary) as u64 * F32
    }
}

/// What factors of these shapes take.
fn bytes<'a>(shapes: impl Iterator<Item = (&'a str, Vec<i32>)>) -> u64 {
    let values = |shape: &[i32]| shape.iter().map(|&n| n as u64).product::<u64>();
    shapes.map(|(_, shape)| values(&shape) * F32).sum()
}

/// Values that a layer leaves for its backward pass, in bytes: the outputs of its linears, a quarter
/// of that for the few inputs that are not made again, and what lies between, with the attention's
/// scores of rows up to `longest`. Linears see each token once, what lies between in each row that
/// has it.
pub(crate) fn left_by(
    model: &Model,
    layer: &Layer,
    [tokens, of_rows]: [usize; 2],
    longest: usize,
) -> u64 {
    let linears = layer.linears().into_iter();
    let values: usize = linears.map(|linear| linear.out_features * 5 / 4).sum();
    (tokens * values + of_rows * layer.values_between(longest)) as u64 * value_bytes(model)
}

/// Weights that exist only while their layer is at work: read from the file, the next layer's
/// beside them, and dequantized where the device needs that.
fn unpacked(model: &Model, layer: &Layer, residency: WeightResidency) -> u64 {
    let dense = match model.computes_packed() {
        true => 0,
        false => layer.weight_bytes(WeightResidency::Dequantized),
    };
    match residency {
        WeightResidency::Dequantized => 0,
        WeightResidency::Auto | WeightResidency::Packed => dense,
        WeightResidency::Streamed => dense + 2 * layer.weight_bytes(WeightResidency::Packed),
    }
}

/// Bytes of one number of the hidden states.
fn value_bytes(model: &Model) -> u64 {
    if model.computes_packed() { 2 } else { F32 }
}
