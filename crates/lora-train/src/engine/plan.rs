//! How the work of an update is cut, and how much of it stays in memory.

use mlx_rs::{Device, DeviceType};
use models::{Layer, Model};
use serde::{Deserialize, Serialize};

use super::layout::Layout;
use super::loss::LOGITS_AT_ONCE;
use crate::batch::MicroBatch;
use crate::config::TrainConfig;
use crate::{Result, metrics};

const F32: u64 = size_of::<f32>() as u64;
/// More lanes than this share little: each holds activations of its own.
const MOST_LANES: usize = 8;
/// On a CPU, matrix products of this many tokens run at full speed already, and what a layer
/// leaves behind stays small enough to be kept.
const CPU_TOKENS: usize = 128;
/// The default limit is this share of the memory there is: other programs live here too.
const DEFAULT_SHARE: u64 = 2;

/// The plan of a run. Its numbers decide the order of sums, hence the last bits of the result: a
/// resumed run keeps the plan it began with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Threads that share the work.
    pub(crate) lanes: usize,
    /// Tokens of a micro-batch, at most.
    pub(crate) tokens: usize,
    /// What a lane may spend on intermediates that stay from the forward to the backward pass.
    pub(crate) keep_bytes: u64,
    /// The most that MLX is expected to hold.
    pub(crate) estimated_bytes: u64,
}

impl Plan {
    /// The plan for this machine.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) with the smallest limit that would do, if
    /// `nightshift.memory_limit` does not.
    pub(crate) fn new(config: &TrainConfig, model: &Model, layout: &Layout) -> Result<Self> {
        let settings = &config.nightshift;
        let cpu = matches!(Device::try_default()?.get_type()?, DeviceType::Cpu);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let lanes = settings.lanes.unwrap_or(if cpu { cores.min(MOST_LANES) } else { 1 }).max(1);
        let most = settings.max_tokens_per_step;
        let tokens = if cpu { most.min(CPU_TOKENS) } else { most };
        let limit = match settings.memory_limit {
            Some(limit) => limit.0,
            None if cpu => metrics::machine_memory().map_or(u64::MAX, |all| all / DEFAULT_SHARE),
            None => mlx_rs::memory::memory_limit()? as u64,
        };

        let (fixed, each) = needs(model, layout, tokens);
        let least = fixed + each * lanes as u64;
        if limit < least {
            let expected = format!("at least {} for this model and adapter", bytes(least));
            return Err(config.invalid("nightshift.memory_limit", expected, bytes(limit)));
        }
        let layers = (model.layers().len() - layout.lowest()) as u64;
        let keep_all = layers * layer_bytes(model, tokens, tokens);
        let keep_bytes = ((limit - least) / lanes as u64).min(keep_all);
        let estimated_bytes = least + keep_bytes * lanes as u64;
        Ok(Self { lanes, tokens, keep_bytes, estimated_bytes })
    }

    /// The lowest layer whose intermediates are kept for `micro`.
    pub(crate) fn keep_from(&self, model: &Model, micro: &MicroBatch) -> usize {
        let longest = micro.lengths.iter().copied().max().unwrap_or_default();
        let each = layer_bytes(model, micro.tokens.len(), longest).max(1);
        let kept = usize::try_from(self.keep_bytes / each).unwrap_or(usize::MAX);
        model.layers().len().saturating_sub(kept)
    }
}

/// What is held in any case: by the run, and by each lane.
fn needs(model: &Model, layout: &Layout, tokens: usize) -> (u64, u64) {
    let parameters: u64 =
        layout.shapes().map(|(_, [rows, columns])| rows as u64 * columns as u64).sum();
    // The factors and two moments of each.
    let fixed = model.weight_bytes() as u64 + 3 * parameters * F32;
    let inputs = (model.layers().len() * tokens * model.config().hidden_size) as u64 * F32;
    let dense = model.layers().iter().map(dense_bytes).max().unwrap_or_default();
    // A layer at work holds about two times what it would keep; a chunk of logits, its exponentials
    // and what they are made from.
    let work = 2 * layer_bytes(model, tokens, tokens) + 3 * LOGITS_AT_ONCE as u64 * F32;
    (fixed, parameters * F32 + inputs + dense + work)
}

/// What a layer leaves for its backward pass: the inputs and outputs of its linears, what lies
/// between them, and the attention's scores of rows up to `longest`.
fn layer_bytes(model: &Model, tokens: usize, longest: usize) -> u64 {
    let values = |layer: &Layer| -> usize {
        layer.linears().iter().map(|linear| linear.in_features + 2 * linear.out_features).sum()
    };
    let values = model.layers().iter().map(values).max().unwrap_or_default();
    let scores = 2 * model.config().num_heads * longest;
    (tokens * (values + scores)) as u64 * F32
}

/// A layer whose weights are packed has them unpacked while it is at work.
fn dense_bytes(layer: &Layer) -> u64 {
    let dense: usize =
        layer.linears().iter().map(|linear| linear.in_features * linear.out_features).sum();
    let dense = dense as u64 * F32;
    if (layer.weight_bytes() as u64) < dense { dense } else { 0 }
}

fn bytes(count: u64) -> crate::config::Bytes {
    crate::config::Bytes(count)
}
