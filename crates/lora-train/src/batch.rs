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
