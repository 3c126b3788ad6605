//! What an update minimizes, as weights of its targets' losses.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::loss::{TargetWeights, WeightFunction};
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
        let chosen = |row: usize| row.is_multiple_of(2);
        let targets = || batches.iter().flat_map(|micro| &micro.targets);
        let rows = batches.iter().flat_map(|micro| &micro.rows);
        Self {
            targets: targets().count(),
            pairs: rows.filter(|&&row| chosen(row)).count(),
            chosen_targets: targets().filter(|target| chosen(target.row)).count(),
        }
    }
}

impl PairTerms {
    /// The pairs among these rows, by the index of the pair.
    pub(crate) fn pairs(&self, rows: &[RowLoss]) -> Vec<[Answer; 2]> {
        let by_row: HashMap<usize, &RowLoss> = rows.iter().map(|row| (row.row, row)).collect();
        let mut chosen: Vec<usize> =
            by_row.keys().copied().filter(|row| row.is_multiple_of(2)).collect();
        chosen.sort_unstable();
        let answer = |row: usize| Some(self.answer(by_row.get(&row)?));
        chosen.into_iter().filter_map(|row| Some([answer(row)?, answer(row + 1)?])).collect()
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
        let (terms, ranges) = (self.clone(), ranges(micro));
        Arc::new(move |losses, weights| terms.write_weights(&ranges, totals, losses, weights))
    }

    fn write_weights(
        &self,
        ranges: &HashMap<usize, Range<usize>>,
        totals: Totals,
        losses: &[f32],
        weights: &mut [f32],
    ) {
        weights.fill(0.0);
        let nll = self.objective.nll() / totals.chosen_targets.max(1) as f64;
        let pairs = totals.pairs.max(1) as f64;
        for (&row, chosen) in ranges.iter().filter(|(row, _)| row.is_multiple_of(2)) {
            let Some(rejected) = ranges.get(&(row + 1)) else { continue };
            let [of_chosen, of_rejected] = [(row, chosen), (row + 1, rejected)]
                .map(|(row, range)| self.answer(&RowLoss::of(row, &losses[range.clone()])));
            let slopes = self.objective.pair(of_chosen, of_rejected);
            weights[chosen.clone()].fill((nll - slopes.chosen / pairs) as f32);
            weights[rejected.clone()].fill((-slopes.rejected / pairs) as f32);
        }
    }
}

impl RowLoss {
    pub(super) fn of(row: usize, losses: &[f32]) -> Self {
        let loss = losses.iter().map(|&loss| f64::from(loss)).sum();
        Self { row, loss, targets: losses.len() }
    }
}

/// The losses of a micro-batch's targets by row.
pub(super) fn row_losses(micro: &MicroBatch, losses: &[f32]) -> Vec<RowLoss> {
    let mut ranges: Vec<_> = ranges(micro).into_iter().collect();
    ranges.sort_unstable_by_key(|(row, _)| *row);
    ranges.into_iter().map(|(row, range)| RowLoss::of(row, &losses[range])).collect()
}

/// The targets of each row, which are next to each other.
fn ranges(micro: &MicroBatch) -> HashMap<usize, Range<usize>> {
    let mut ranges: HashMap<usize, Range<usize>> = HashMap::new();
    for (index, target) in micro.targets.iter().enumerate() {
        ranges.entry(target.row).or_insert(index..index).end = index + 1;
    }
    ranges
}
