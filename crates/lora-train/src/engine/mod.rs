//! The training engine: loss and gradients of an update.

mod chunks;
mod cost;
mod criterion;
mod divergence;
mod inputs;
mod lanes;
mod layout;
mod loss;
mod output;
mod pass;
mod plan;
mod planner;
mod positions;
mod ranks;
#[cfg(test)]
mod tests;
mod weights;

use std::path::Path;
use std::sync::Arc;

use models::{Group, Model};

use crate::batch::{MicroBatch, pack, share};
use crate::dataset::Dataset;
use crate::memory::MemoryLimit;
use crate::{Result, Tensors};

use chunks::Chunks;
pub(crate) use cost::{Costs, Load};
use criterion::Totals;
pub(crate) use criterion::{Criterion, PairTerms, RowLoss};
pub(crate) use inputs::InputStorage;
use lanes::Lanes;
pub(crate) use layout::{DropoutSeed, Layout};
use loss::HeadValues;
use pass::Pass;
pub(crate) use plan::Plan;

/// Computes losses and gradients on the lanes and ranks of a run. Each method is called on every rank, with the same
/// examples: every rank computes its share, and has the sums of all.
pub(crate) struct Engine {
    lanes: Lanes,
    folder: Arc<Path>,
    _limit: MemoryLimit,
    layout: Layout,
    plan: Plan,
    chunks: Chunks,
    group: Group,
}

/// Sums over micro-batches.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    /// Cross-entropy over all targets.
    pub(crate) loss: f64,
    /// Targets.
    pub(crate) trained: u64,
    /// Input tokens of the rows.
    pub(crate) processed: u64,
    /// Input tokens that were computed: those of shared prefixes count once.
    pub(crate) computed: u64,
    /// Rows with a target whose loss is infinite or NaN.
    pub(crate) bad_rows: Vec<usize>,
    /// The loss of each row.
    pub(crate) rows: Vec<RowLoss>,
    /// The weighted sum of the divergences from the base model at the anchors.
    pub(crate) divergence: f64,
    /// Gradients of what is minimized; empty if only the loss was computed.
    pub(crate) gradients: Tensors,
}

impl Engine {
    /// An engine for an adapter of this `layout` on `model`, whose weights are already held as `plan`
    /// says. Layer inputs are offloaded to `folder`.
    pub(crate) fn start(
        model: &Model,
        layout: Layout,
        plan: Plan,
        folder: &Path,
        group: Group,
    ) -> Result<Self> {
        let chunks = Chunks::of(model.head().vocab_size());
        let limit = MemoryLimit::new(plan.estimated_bytes)?;
        let lanes = Lanes::start(model, plan.lanes);
        Ok(Self { lanes, folder: folder.into(), _limit: limit, layout, plan, chunks, group })
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(crate) fn group(&self) -> &Group {
        &self.group
    }

    /// This rank's share of these examples in micro-batches.
    pub(crate) fn pack(&self, data: &Dataset, examples: &[usize]) -> Result<Vec<MicroBatch>> {
        let own = share(data, examples, self.group.rank(), self.group.size());
        pack(data, &own, self.plan.tokens, self.plan.lanes)
    }

    /// The loss of `batches`, without dropout.
    pub(crate) fn loss(&self, factors: &Tensors, batches: Vec<MicroBatch>) -> Result<Sums> {
        let pass = self.pass(factors);
        let own = self.run(pass, batches, |pass, model, micro, _| pass.losses(model, micro))?;
        own.over(&self.group)
    }

    /// The loss of `batches` without the adapter.
    pub(crate) fn base_loss(&self, batches: Vec<MicroBatch>) -> Result<Sums> {
        let layout = self.layout.without_adapter();
        let pass = Pass { layout, ..self.pass(&Tensors::new()) };
        let own = self.run(pass, batches, |pass, model, micro, _| pass.losses(model, micro))?;
        own.over(&self.group)
    }

    /// The loss of `batches`, and the gradients of what `criterion` minimizes.
    pub(crate) fn gradients(
        &self,
        factors: &Tensors,
        batches: Vec<MicroBatch>,
        dropout: DropoutSeed,
        criterion: Criterion,
    ) -> Result<Sums> {
        let totals = Totals::of(&batches).over(&self.group)?;
        let pass = Pass { dropout: Some(dropout), criterion, totals, ..self.pass(factors) };
        let own =
            self.run(pass, batches, |pass, model, micro, sums| pass.gradients(model, micro, sums))?;
        let mut sums = own.over(&self.group)?;
        sums.gradients = ranks::reduced(&self.group, factors, sums.gradients)?;
        Ok(sums)
    }

    /// Distributes the micro-batches over the lanes and adds up the results in a fixed order, so that
    /// the same rows always give the same bits.
    fn run<F>(&self, pass: Pass, batches: Vec<MicroBatch>, work: F) -> Result<Sums>
    where
        F: Fn(&Pass, &Model, &MicroBatch, &mut Tensors) -> Result<HeadValues>
            + Copy
            + Send
            + 'static,
    {
        // An unevaluated array runs on the stream of the thread that created it.
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
                let values = work(&pass, model, micro, &mut sums.gradients)?;
                sums.count(micro, &values);
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

    /// A pass without dropout.
    fn pass(&self, factors: &Tensors) -> Pass {
        Pass {
            layout: self.layout.clone(),
            factors: factors.clone(),
            plan: self.plan.clone(),
            chunks: self.chunks,
            folder: Arc::clone(&self.folder),
            dropout: None,
            criterion: Criterion::Mean,
            totals: Totals::default(),
        }
    }
}

impl Sums {
    /// Mean loss over the targets.
    pub(crate) fn mean(&self) -> f64 {
        self.loss / self.trained.max(1) as f64
    }

    fn count(&mut self, micro: &MicroBatch, HeadValues { losses, divergences }: &HeadValues) {
        self.processed += micro.row_tokens() as u64;
        self.computed += micro.tokens.len() as u64;
        self.trained += losses.len() as u64;
        self.loss += losses.iter().map(|&loss| f64::from(loss)).sum::<f64>();
        let bad = losses.iter().zip(&micro.targets).filter(|(loss, _)| !loss.is_finite());
        self.bad_rows.extend(bad.map(|(_, target)| target.row));
        self.bad_rows.dedup();
        self.rows.extend(criterion::row_losses(micro, losses));
        let held = micro.anchors.iter().zip(divergences);
        self.divergence +=
            held.map(|(anchor, &kl)| f64::from(anchor.weight) * f64::from(kl)).sum::<f64>();
    }

    fn add(&mut self, other: Self) -> Result<()> {
        self.loss += other.loss;
        self.trained += other.trained;
        self.processed += other.processed;
        self.computed += other.computed;
        self.bad_rows.extend(other.bad_rows);
        self.rows.extend(other.rows);
        self.divergence += other.divergence;
        pass::add(other.gradients.into_iter(), &mut self.gradients)
    }
}
