//! How the work of an update is split, and how much of it stays in memory.

use models::train_support::BatchSize;
use models::{Model, WeightResidency};
use serde::{Deserialize, Serialize};

use super::inputs::InputStorage;
use crate::batch::MicroBatch;
use crate::config::TrainConfig;
use crate::metrics::WorkPlan;

/// The plan of a run. It decides the order of sums, hence the last bits of the result: a resumed run keeps
/// the plan it started with, unless the memory limit has been lowered below it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Number of threads.
    pub(crate) lanes: usize,
    /// Tokens of a micro-batch, at most.
    pub(crate) tokens: usize,
    /// Where the weights of embedding and output matrix are kept.
    #[serde(rename = "ends")]
    pub(crate) embeddings: WeightResidency,
    /// Where the weights of each layer are kept.
    pub(crate) layers: Vec<WeightResidency>,
    /// Where the inputs of layers are kept for the backward pass.
    pub(crate) inputs: InputStorage,
    /// Memory of a lane for activations that are kept from the forward to the backward pass, in bytes.
    pub(crate) keep_bytes: u64,
    /// The most memory that MLX is expected to hold, in bytes.
    pub(crate) estimated_bytes: u64,
}

impl Plan {
    /// The plan for the metrics.
    pub(crate) fn summary(&self) -> WorkPlan {
        let held = |residency| self.layers.iter().filter(|&&held| held == residency).count() as u64;
        WorkPlan {
            lanes: self.lanes as u64,
            tokens_per_step: self.tokens as u64,
            dequantized_layers: held(WeightResidency::Dequantized),
            packed_layers: held(WeightResidency::Packed),
            streamed_layers: held(WeightResidency::Streamed),
            inputs: self.inputs,
            kept_bytes: self.keep_bytes,
            estimated_memory_bytes: self.estimated_bytes,
        }
    }

    /// Whether it is expected to stay within `nightshift.memory_limit`.
    pub(crate) fn fits(&self, config: &TrainConfig) -> bool {
        config.nightshift.memory_limit.is_none_or(|limit| self.estimated_bytes <= limit.0)
    }

    /// The lowest layer whose activations are kept for `micro`.
    pub(crate) fn keep_from(&self, model: &Model, micro: &MicroBatch) -> usize {
        let size = BatchSize {
            tokens: micro.tokens.len(),
            row_tokens: micro.row_tokens(),
            longest: micro.layout.lengths().iter().copied().max().unwrap_or_default(),
        };
        let mut left = self.keep_bytes;
        let layers = model.layers().iter().rev().take_while(|layer| {
            let each = layer.footprint(size).kept;
            let fits = each <= left;
            left = left.saturating_sub(each);
            fits
        });
        model.layers().len() - layers.count()
    }
}
