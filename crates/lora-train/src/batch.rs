//! Which rows an update sees, and how they are laid into micro-batches.

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::dataset::Row;

/// Where a run stands in its data: so many rows into the permutation of an epoch.
///
/// Together with the seed this is the whole state of the [`Sampler`]: the permutation of an epoch
/// depends on nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Passes over the data that are complete.
    pub epoch: u64,
    /// Rows seen of the current pass.
    pub offset: usize,
}

/// Hands out row indices, every row once per epoch, each epoch in its own seeded order.
#[derive(Debug)]
pub struct Sampler {
    seed: u64,
    cursor: Cursor,
    order: Vec<usize>,
}

impl Sampler {
    /// Starts over `rows` rows at `cursor`.
    pub fn new(rows: usize, seed: u64, cursor: Cursor) -> Self {
        let mut sampler = Self { seed, cursor, order: (0..rows).collect() };
        sampler.shuffle();
        sampler
    }

    /// Where the next row comes from.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// The next `count` rows, over the end of an epoch if need be.
    pub fn take(&mut self, count: usize) -> Vec<usize> {
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count && !self.order.is_empty() {
            if self.cursor.offset >= self.order.len() {
                self.cursor = Cursor { epoch: self.cursor.epoch + 1, offset: 0 };
                self.shuffle();
            }
            let end = (self.cursor.offset + count - taken.len()).min(self.order.len());
            taken.extend_from_slice(&self.order[self.cursor.offset..end]);
            self.cursor.offset = end;
        }
        taken
    }

    /// Each epoch has its own stream of the generator, so no earlier epoch has to be replayed.
    fn shuffle(&mut self) {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(self.cursor.epoch);
        self.order.sort_unstable();
        self.order.shuffle(&mut rng);
    }
}

/// Examples laid end to end, without padding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MicroBatch {
    /// The rows' places in the data set, in the order they are laid.
    pub rows: Vec<usize>,
    /// Length of each row.
    pub lengths: Vec<usize>,
    /// Input tokens of all rows.
    pub tokens: Vec<u32>,
    /// Positions in `tokens` whose successor is trained.
    pub positions: Vec<u32>,
    /// The token to predict at each of `positions`.
    pub targets: Vec<u32>,
}

impl MicroBatch {
    /// Lays `rows` (indices into `data`) end to end.
    pub fn lay(data: &[Row], rows: &[usize]) -> Self {
        let mut batch = Self::default();
        for &index in rows {
            let Some(row) = data.get(index) else { continue };
            let start = batch.tokens.len();
            for (position, target) in row.targets() {
                batch.positions.push((start + position) as u32);
                batch.targets.push(target);
            }
            batch.tokens.extend_from_slice(row.inputs());
            batch.lengths.push(row.inputs().len());
            batch.rows.push(index);
        }
        batch
    }

    /// The row that the token at `position` belongs to.
    pub fn row_at(&self, position: usize) -> Option<usize> {
        let mut end = 0;
        self.lengths.iter().zip(&self.rows).find_map(|(length, &row)| {
            end += length;
            (position < end).then_some(row)
        })
    }
}

/// Splits the rows of one update into micro-batches of at most `max_tokens`, evenly filled and in
/// a number that `lanes` workers can share evenly.
///
/// A row longer than `max_tokens` travels alone. The result depends on the arguments only.
pub fn pack(data: &[Row], rows: &[usize], max_tokens: usize, lanes: usize) -> Vec<MicroBatch> {
    let length = |&index: &usize| data.get(index).map_or(0, |row| row.inputs().len());
    let total: usize = rows.iter().map(length).sum();
    let mut longest_first = rows.to_vec();
    longest_first.sort_by_key(|index| std::cmp::Reverse(length(index)));

    let lanes = lanes.max(1);
    let mut count = total.div_ceil(max_tokens.max(1)).next_multiple_of(lanes).min(rows.len());
    loop {
        // Longest row first into the emptiest micro-batch: close to even, and deterministic.
        let mut bins: Vec<(usize, Vec<usize>)> = vec![Default::default(); count];
        for index in &longest_first {
            if let Some(bin) = bins.iter_mut().min_by_key(|bin| bin.0) {
                bin.0 += length(index);
                bin.1.push(*index);
            }
        }
        let fits = bins.iter().all(|(tokens, rows)| *tokens <= max_tokens || rows.len() == 1);
        if fits || count >= rows.len() {
            return bins.iter().map(|(_, rows)| MicroBatch::lay(data, rows)).collect();
        }
        count = (count + lanes).min(rows.len());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dataset::{Dataset, Example};

    fn dataset(lengths: &[usize]) -> Dataset {
        let rows = lengths.iter().map(|&length| Example {
            tokens: (0..=length as u32).collect(),
            trained: std::iter::once(length..length + 1).collect(),
        });
        Dataset::new("train", rows, usize::MAX).unwrap()
    }

    proptest! {
        #[test]
        fn every_epoch_has_every_row_once_and_a_resumed_sampler_goes_on(
            rows in 1usize..40,
            takes in prop::collection::vec(0usize..30, 1..20),
            seed: u64,
        ) {
            let mut sampler = Sampler::new(rows, seed, Cursor::default());
            let mut seen = Vec::new();
            for count in takes {
                let mut resumed = Sampler::new(rows, seed, sampler.cursor());
                let taken = sampler.take(count);
                prop_assert_eq!(taken.len(), count);
                prop_assert_eq!(&taken, &resumed.take(count));
                seen.extend(taken);
            }
            for epoch in seen.chunks(rows) {
                let mut epoch = epoch.to_vec();
                epoch.sort_unstable();
                epoch.dedup();
                prop_assert!(epoch.len() == rows || seen.len() % rows != 0 && epoch.len() == seen.len() % rows);
            }
        }

        #[test]
        fn packing_keeps_every_row_and_the_limit(
            lengths in prop::collection::vec(1usize..50, 1..30),
            max_tokens in 1usize..120,
            lanes in 1usize..5,
        ) {
            let data = dataset(&lengths);
            let rows: Vec<_> = (0..lengths.len()).collect();
            let batches = pack(data.rows(), &rows, max_tokens, lanes);
            let mut packed: Vec<_> = batches.iter().flat_map(|micro| micro.rows.clone()).collect();
            packed.sort_unstable();
            prop_assert_eq!(packed, rows);
            for micro in &batches {
                prop_assert!(micro.tokens.len() <= max_tokens || micro.rows.len() == 1);
                prop_assert_eq!(micro.tokens.len(), micro.lengths.iter().sum::<usize>());
                for (&position, &target) in micro.positions.iter().zip(&micro.targets) {
                    // In these rows every token is its own place in the row.
                    prop_assert_eq!(micro.tokens[position as usize] + 1, target);
                    let row = micro.row_at(position as usize);
                    prop_assert_eq!(row.map(|row| lengths[row] as u32), Some(target));
                }
            }
        }
    }

    #[test]
    fn epochs_and_seeds_differ() {
        let order = |seed, epoch| Sampler::new(50, seed, Cursor { epoch, offset: 0 }).take(50);
        assert_ne!(order(0, 0), order(0, 1));
        assert_ne!(order(0, 0), order(1, 0));
    }
}
