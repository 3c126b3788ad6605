//! Chooses the fastest plan that fits into the memory.

use models::WeightResidency;

use super::cost::Costs;
use super::inputs::InputStorage;
use super::plan::Plan;
use crate::Result;
use crate::config::{Bytes, TrainConfig};
use crate::memory;

/// More lanes than this gain little: each has its own activations.
const MOST_LANES: usize = 8;
/// Through BLAS, matrix products of this many tokens run at full speed, and the activations of a layer are
/// small enough to be kept. Where weights are dequantized or read for each micro-batch, larger ones are
/// faster.
const CPU_TOKENS: usize = 176;
/// Where weights and inputs are kept if the fastest plan does not fit, fastest first.
const FRUGAL: [(WeightResidency, InputStorage); 3] = [
    (WeightResidency::Packed, InputStorage::Memory),
    (WeightResidency::Streamed, InputStorage::Memory),
    (WeightResidency::Streamed, InputStorage::File),
];

impl Plan {
    /// The fastest plan within the memory limit, on this machine.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) with the smallest sufficient limit, if
    /// `nightshift.memory_limit` is lower.
    pub(crate) fn new(config: &TrainConfig, costs: &Costs<'_>) -> Result<Self> {
        let settings = &config.nightshift;
        let native = costs.model.computes_packed();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let lanes = if native { 1 } else { cores.min(MOST_LANES) };
        let lanes = settings.lanes.unwrap_or(lanes).max(1);
        let limit = memory::limit(config)?;
        let most = settings.max_tokens_per_step;
        let layers = costs.model.layers().len();
        let plan = |lanes, tokens, weights, inputs| Self {
            lanes,
            tokens,
            embeddings: weights,
            layers: vec![weights; layers],
            inputs,
            keep_bytes: 0,
            estimated_bytes: 0,
        };
        let candidates = || {
            let tokens = if native { most } else { most.min(CPU_TOKENS) };
            let fast = plan(lanes, tokens, WeightResidency::Packed, InputStorage::Memory);
            // One lane: each would dequantize and read the weights for itself.
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
            // Rounded up, in the notation of the file.
            let least = least.div_ceil(1_000_000);
            let expected = format!("at least {least}MB for this model, adapter and data");
            return Err(config.invalid("nightshift.memory_limit", expected, Bytes(limit)));
        };
        plan.improve(costs, limit);
        plan.estimated_bytes = costs.of(&plan);
        Ok(plan)
    }

    /// Spends the rest of the limit on speed.
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
                if plan.embeddings == from {
                    plan.embeddings = to
                }
            });
            for layer in 0..costs.model.layers().len() {
                attempt(&|plan| {
                    let held = &mut plan.layers[layer];
                    *held = if *held == from { to } else { *held };
                });
            }
        }
        // Kept activations hold on to the weights they were computed with.
        let lasting = if costs.model.computes_packed() { Packed } else { Dequantized };
        if self.layers.iter().all(|held| *held == lasting) {
            let left = limit.saturating_sub(costs.of(self)) / self.lanes as u64;
            self.keep_bytes = left.min(costs.keep_all(self));
        }
    }
}
