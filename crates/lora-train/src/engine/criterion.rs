//! What an update minimizes, as weights of its targets' losses.

use std::ops::Range;
use std::sync::Arc;

use models::Group;

use super::weights::{TargetWeights, WeightFunction};
use crate::Result;
use crate::batch::MicroBatch;
use crate::preference::{Answer, Objective};

/// What an update minimizes.
#[derive(Clone, Debug)]
pub(crate) enum Criterion {
    /// The mean loss of all targets.
    Mean,
    /// A preference loss of pairs of rows: row `2 i` is chosen, row `2 i + 1` rejected.
    Pairs(PairTerms),
}

/// A preference loss of the pairs of an update.
#[derive(Clone, Debug)]
pub(crate) struct PairTerms {
    pub(crate) objective: Arc<Objective>,
    /// By row of the data set, the reference model's log-probability of its targets; empty if the
    /// objective needs none.
    pub(crate) references: Arc<[f64]>,
}

/// The loss of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RowLoss {
    /// The index of the row in the data set.
    pub(crate) row: usize,
    /// Sum over its targets.
    pub(crate) loss: f64,
    /// Its targets.
    pub(crate) targets: usize,
}

impl Criterion {
    /// The weights of the targets of `micro`, one of the micro-batches of an update with so many targets
    /// and pairs in all.
    pub(super) fn weights(&self, micro: &MicroBatch, totals: Totals) -> TargetWeights {
        match self {
            Self::Mean => TargetWeights::Equal((totals.targets.max(1) as f32).recip()),
            Self::Pairs(terms) => TargetWeights::Function(terms.weights(micro, totals)),
        }
    }
}

/// Counts of a whole update.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    targets: usize,
    pairs: usize,
    chosen_targets: usize,
}

impl Totals {
    pub(super) fn of(batches: &[MicroBatch]) -> Self {
        let targets = || batches.iter().flat_map(|micro| &micro.targets);
        let rows = batches.iter().flat_map(|micro| &micro.rows);
        Self {
            targets: targets().count(),
            pairs: rows.filter(|&&row| is_chosen(row)).count(),
            chosen_targets: targets().filter(|target| is_chosen(target.row)).count(),
        }
    }

    /// Those of all ranks together.
    pub(super) fn over(self, group: &Group) -> Result<Self> {
        let own = [self.targets, self.pairs, self.chosen_targets].map(|count| count as u64);
        let [targets, pairs, chosen_targets] = group.sum(own)?.map(|count| count as usize);
        Ok(Self { targets, pairs, chosen_targets })
    }
}

impl PairTerms {
    /// The pairs of these rows, by the index of the pair. A pair that an update takes twice is there twice.
    pub(crate) fn pairs(&self, rows: &[RowLoss]) -> Vec<[Answer; 2]> {
        let pairs = paired(rows.iter().collect(), |row| row.row);
        pairs.into_iter().map(|(a, b)| [self.answer(a), self.answer(b)]).collect()
    }

    fn answer(&self, row: &RowLoss) -> Answer {
        Answer {
            sum: -row.loss,
            reference: self.references.get(row.row).copied().unwrap_or_default(),
            tokens: row.targets,
        }
    }

    /// The weights of the targets of `micro`: minus the derivatives of the update's loss with respect to
    /// their log-probabilities.
    fn weights(&self, micro: &MicroBatch, totals: Totals) -> Arc<WeightFunction> {
        let terms = self.clone();
        let rows: Vec<_> = micro.rows.iter().copied().zip(micro.targets_of.clone()).collect();
        let pairs = paired(rows, |(row, _)| *row);
        Arc::new(move |losses, weights| {
            for (chosen, rejected) in &pairs {
                terms.write_weights([chosen, rejected], totals, losses, weights);
            }
        })
    }

    /// Writes the weights of the targets of one pair: two rows and their targets.
    fn write_weights(
        &self,
        pair: [&(usize, Range<usize>); 2],
        totals: Totals,
        losses: &[f32],
        weights: &mut [f32],
    ) {
        let nll = self.objective.nll() / totals.chosen_targets.max(1) as f64;
        let pairs = totals.pairs.max(1) as f64;
        let [of_chosen, of_rejected] =
            pair.map(|(row, own)| self.answer(&RowLoss::of(*row, &losses[own.clone()])));
        let slopes = self.objective.pair(of_chosen, of_rejected);
        let [(_, chosen), (_, rejected)] = pair;
        weights[chosen.clone()].fill((nll - slopes.chosen / pairs) as f32);
        weights[rejected.clone()].fill((-slopes.rejected / pairs) as f32);
    }
}

impl RowLoss {
    pub(super) fn of(row: usize, losses: &[f32]) -> Self {
        let loss = losses.iter().map(|&loss| f64::from(loss)).sum();
        Self { row, loss, targets: losses.len() }
    }
}

/// The losses of the rows of a micro-batch.
pub(super) fn row_losses(micro: &MicroBatch, losses: &[f32]) -> Vec<RowLoss> {
    let rows = micro.rows.iter().zip(&micro.targets_of);
    rows.map(|(&row, own)| RowLoss::of(row, &losses[own.clone()])).collect()
}

/// Each chosen answer with its rejected one, in the order of their indices in the data set.
fn paired<T>(mut rows: Vec<T>, index: impl Fn(&T) -> usize) -> Vec<(T, T)> {
    rows.sort_by_key(&index);
    let (chosen, rejected): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|row| is_chosen(index(row)));
    chosen.into_iter().zip(rejected).collect()
}

/// Whether a row of a data set of pairs is a chosen answer.
fn is_chosen(row: usize) -> bool {
    row.is_multiple_of(2)
}
