//! Gradients of an update, from rows to one tensor per factor.

mod cost;
mod inputs;
mod lanes;
mod layout;
mod limit;
mod loss;
mod output;
mod pass;
mod plan;
mod planner;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use models::Model;

use crate::batch::MicroBatch;
use crate::{Result, Tensors};

pub(crate) use cost::{Costs, Load};
pub use inputs::InputPlace;
use lanes::Lanes;
pub(crate) use layout::Layout;
use limit::MemoryLimit;
use loss::Chunks;
use pass::Pass;
pub(crate) use plan::Plan;

/// The lanes of a run, and how they do their work.
pub(crate) struct Engine {
    lanes: Lanes,
    folder: Arc<Path>,
    _limit: MemoryLimit,
    layout: Layout,
    plan: Plan,
    chunks: Chunks,
}

/// What some micro-batches came to.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    /// Cross-entropy over all targets.
    pub(crate) loss: f64,
    /// How many targets there are.
    pub(crate) trained: u64,
    /// How many tokens the rows have that went through the model.
    pub(crate) processed: u64,
    /// How many of them were computed: what rows begin with alike, once.
    pub(crate) computed: u64,
    /// Rows with a target whose loss is infinite or not a number.
    pub(crate) suspects: Vec<usize>,
    /// Gradients of the mean loss; empty where none were asked for.
    pub(crate) gradients: Tensors,
}

impl Engine {
    /// An engine for `model`, whose weights lie as `plan` has them, and an adapter laid out like
    /// `layout`. What does not stay in memory goes into `folder`.
    pub(crate) fn start(model: &Model, layout: Layout, plan: Plan, folder: &Path) -> Result<Self> {
        let chunks = Chunks::of(model.head().vocab_size());
        let limit = MemoryLimit::new(plan.estimated_bytes)?;
        let lanes = Lanes::start(model, plan.lanes);
        Ok(Self { lanes, folder: folder.into(), _limit: limit, layout, plan, chunks })
    }

    /// How the work is cut.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Loss over `batches`.
    pub(crate) fn loss(&self, factors: &Tensors, batches: Vec<MicroBatch>) -> Result<Sums> {
        self.run(self.pass(factors, (0, 0)), batches, |pass, model, micro, _| {
            pass.losses(model, micro)
        })
    }

    /// Loss over `batches`, and the gradients of its mean over all their targets. `moment`, the
    /// seed of the run and the number of the update, is what dropout depends on.
    pub(crate) fn gradients(
        &self,
        factors: &Tensors,
        batches: Vec<MicroBatch>,
        moment: (u64, u64),
    ) -> Result<Sums> {
        let trained: usize = batches.iter().map(|micro| micro.targets.len()).sum();
        let factor = (trained.max(1) as f32).recip();
        self.run(self.pass(factors, moment), batches, move |pass, model, micro, sums| {
            pass.gradients(model, micro, factor, sums)
        })
    }

    /// Deals the micro-batches out to the lanes and adds up what comes back, always in the same
    /// order, so that the same rows give the same bits.
    fn run<F>(&self, pass: Pass, batches: Vec<MicroBatch>, work: F) -> Result<Sums>
    where
        F: Fn(&Pass, &Model, &MicroBatch, &mut Tensors) -> Result<Vec<f32>> + Copy + Send + 'static,
    {
        // An operation belongs to the thread it was asked for in, so lanes get values only.
        mlx_rs::transforms::eval(pass.factors.values())?;
        let mut shares = vec![Vec::new(); self.plan.lanes.min(batches.len())];
        let count = shares.len().max(1);
        for (index, micro) in batches.into_iter().enumerate() {
            shares[index % count].push(micro);
        }
        let shares = shares.into_iter().map(|share| (pass.clone(), share)).collect();
        let parts = self.lanes.run(shares, move |model, (pass, share)| {
            let mut sums = Sums::default();
            for micro in &share {
                let losses = work(&pass, model, micro, &mut sums.gradients)?;
                sums.note(micro, &losses);
            }
            Ok(sums)
        })?;
        let mut total = Sums::default();
        for part in parts {
            total.add(part)?;
        }
        mlx_rs::transforms::eval(total.gradients.values())?;
        Ok(total)
    }

    fn pass(&self, factors: &Tensors, moment: (u64, u64)) -> Pass {
        Pass {
            layout: self.layout.clone(),
            factors: factors.clone(),
            plan: self.plan.clone(),
            chunks: self.chunks,
            folder: Arc::clone(&self.folder),
            moment,
        }
    }
}

impl Sums {
    /// Mean loss over the targets.
    pub(crate) fn mean(&self) -> f64 {
        self.loss / self.trained.max(1) as f64
    }

    fn note(&mut self, micro: &MicroBatch, losses: &[f32]) {
        self.processed += micro.row_tokens() as u64;
        self.computed += micro.tokens.len() as u64;
        self.trained += losses.len() as u64;
        self.loss += losses.iter().map(|&loss| f64::from(loss)).sum::<f64>();
        let bad = losses.iter().zip(&micro.targets).filter(|(loss, _)| !loss.is_finite());
        self.suspects.extend(bad.map(|(_, target)| target.row));
        self.suspects.dedup();
    }

    fn add(&mut self, other: Self) -> Result<()> {
        self.loss += other.loss;
        self.trained += other.trained;
        self.processed += other.processed;
        self.computed += other.computed;
        self.suspects.extend(other.suspects);
        for (name, gradient) in other.gradients {
            let sum = match self.gradients.get(&name) {
                Some(sum) => sum.add(gradient)?,
                None => gradient,
            };
            self.gradients.insert(name, sum);
        }
        Ok(())
    }
}
