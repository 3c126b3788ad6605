//! How the work of an update is cut, and how much of it stays in memory.

use mlx_rs::{Device, DeviceType};
use models::{Model, WeightResidency};
use serde::{Deserialize, Serialize};

use super::cost::{Costs, left_by};
use super::inputs::InputStorage;
use crate::Result;
use crate::batch::MicroBatch;
use crate::config::{Bytes, TrainConfig};
use crate::memory::physical_memory;
use crate::metrics::WorkPlan;

/// More lanes than this share little: each holds activations of its own.
const MOST_LANES: usize = 8;
/// On a CPU, matrix products of this many tokens run at full speed already, and what a layer
/// leaves behind stays small enough to be kept. Where weights are dequantized for each micro-batch,
/// or read for it, larger ones pay.
const CPU_TOKENS: usize = 176;
/// The default limit is this share of the memory there is: other programs live here too.
const DEFAULT_SHARE: u64 = 2;

/// When the fast way does not fit: how weights are held and where inputs wait, the better first.
const FRUGAL: [(WeightResidency, InputStorage); 3] = [
    (WeightResidency::Packed, InputStorage::Memory),
    (WeightResidency::Streamed, InputStorage::Memory),
    (WeightResidency::Streamed, InputStorage::File),
];

/// The plan of a run. Its numbers decide the order of sums, hence the last bits of the result: a
/// resumed run keeps the plan it began with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Threads that share the work.
    pub(crate) lanes: usize,
    /// Tokens of a micro-batch, at most.
    pub(crate) tokens: usize,
    /// How embedding and output matrix are held.
    pub(crate) ends: WeightResidency,
    /// How the weights of each layer are held.
    pub(crate) layers: Vec<WeightResidency>,
    /// Where the inputs of layers wait for the backward pass.
    pub(crate) inputs: InputStorage,
    /// What a lane may spend on intermediates that stay from the forward to the backward pass.
    pub(crate) keep_bytes: u64,
    /// The most that MLX is expected to hold.
    pub(crate) estimated_bytes: u64,
}

impl Plan {
    /// The fastest plan within the limit, on this machine.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) with the smallest limit that would do, if
    /// `nightshift.memory_limit` does not.
    pub(crate) fn new(config: &TrainConfig, costs: &Costs<'_>) -> Result<Self> {
        let settings = &config.nightshift;
        let cpu = matches!(Device::try_default()?.get_type()?, DeviceType::Cpu);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let lanes = settings.lanes.unwrap_or(if cpu { cores.min(MOST_LANES) } else { 1 }).max(1);
        let limit = match settings.memory_limit {
            Some(limit) => limit.0,
            None if cpu => physical_memory().map_or(u64::MAX, |all| all / DEFAULT_SHARE),
            None => mlx_rs::memory::memory_limit()? as u64,
        };
        let most = settings.max_tokens_per_step;
        let layers = costs.model.layers().len();
        let plan = |lanes, tokens, weights, inputs| Self {
            lanes,
            tokens,
            ends: weights,
            layers: vec![weights; layers],
            inputs,
            keep_bytes: 0,
            estimated_bytes: 0,
        };
        let candidates = || {
            let tokens = if cpu { most.min(CPU_TOKENS) } else { most };
            let fast = plan(lanes, tokens, WeightResidency::Packed, InputStorage::Memory);
            // One lane: each would unpack and read the weights for itself.
            let lanes = settings.lanes.unwrap_or(1);
            let frugal = FRUGAL.into_iter().flat_map(move |(weights, inputs)| {
                let halves = std::iter::successors(Some(most), |&tokens| Some(tokens / 2));
                let halves = halves.take_while(|&tokens| tokens > 0);
                halves.map(move |tokens| plan(lanes, tokens, weights, inputs))
            });
            std::iter::once(fast).chain(frugal)
        };
        let Some(mut plan) = candidates().find(|plan| costs.of(plan) <= limit) else {
            let least = candidates().map(|plan| costs.of(&plan)).min().unwrap_or_default();
            // Rounded up, and as it can be written in the file.
            let least = least.div_ceil(1_000_000);
            let expected = format!("at least {least}MB for this model, adapter and data");
            return Err(config.invalid("nightshift.memory_limit", expected, Bytes(limit)));
        };
        plan.improve(costs, limit);
        plan.estimated_bytes = costs.of(&plan);
        Ok(plan)
    }

    /// Spends what is left of the limit on speed.
    fn improve(&mut self, costs: &Costs<'_>, limit: u64) {
        use WeightResidency::{Dequantized, Packed, Streamed};
        let mut attempt = |change: &dyn Fn(&mut Self)| {
            let mut better = self.clone();
            change(&mut better);
            let fits = costs.of(&better) <= limit;
            if fits {
                *self = better;
            }
            fits
        };
        let mut steps = vec![(Streamed, Packed)];
        if !costs.model.computes_packed() {
            steps.push((Packed, Dequantized));
        }
        for (from, to) in steps {
            attempt(&|plan| {
                plan.layers.iter_mut().filter(|held| **held == from).for_each(|held| *held = to)
            });
            attempt(&|plan| {
                if plan.ends == from {
                    plan.ends = to
                }
            });
            for layer in 0..costs.model.layers().len() {
                attempt(&|plan| {
                    let held = &mut plan.layers[layer];
                    *held = if *held == from { to } else { *held };
                });
            }
        }
        // What is kept refers to the weights it was computed with.
        let lasting = if costs.model.computes_packed() { Packed } else { Dequantized };
        if self.layers.iter().all(|held| *held == lasting) {
            let left = limit.saturating_sub(costs.of(self)) / self.lanes as u64;
            self.keep_bytes = left.min(costs.keep_all(self));
        }
    }

    /// The plan in figures.
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

    /// The lowest layer whose intermediates are kept for `micro`.
    pub(crate) fn keep_from(&self, model: &Model, micro: &MicroBatch) -> usize {
        let longest = micro.layout.lengths().iter().copied().max().unwrap_or_default();
        let tokens = [micro.tokens.len(), micro.row_tokens()];
        let mut left = self.keep_bytes;
        let layers = model.layers().iter().rev().take_while(|layer| {
            let each = left_by(model, layer, tokens, longest);
            let fits = each <= left;
            left = left.saturating_sub(each);
            fits
        });
        model.layers().len() - layers.count()
    }
}
