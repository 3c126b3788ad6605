//! Which rows an update sees, and how they are laid into micro-batches.

use models::Rows;
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::Result;
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

/// Examples laid end to end, without padding; what begins alike is laid once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MicroBatch {
    /// The rows' places in the data set, in the order they are laid.
    pub rows: Vec<usize>,
    /// Where the tokens of each row are.
    pub layout: Rows,
    /// Input tokens of all rows.
    pub tokens: Vec<u32>,
    /// What is predicted.
    pub targets: Vec<Target>,
}

/// A token to predict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The place among the tokens that it is predicted from. Several targets may have one place.
    pub place: u32,
    /// The token.
    pub token: u32,
    /// The place of its row in the data set.
    pub row: usize,
}

impl MicroBatch {
    /// Lays `rows` (indices into `data`) end to end.
    ///
    /// # Errors
    /// As for [`Rows::with_shared_prefixes`].
    pub fn lay(data: &[Row], rows: &[usize]) -> Result<Self> {
        let inputs: Vec<&[u32]> = rows.iter().map(|&row| data[row].inputs()).collect();
        let (layout, tokens) = Rows::with_shared_prefixes(&inputs)?;
        let mut targets = Vec::new();
        for (index, &row) in rows.iter().enumerate() {
            let places: Vec<usize> = layout.places(index).collect();
            let own = data[row].targets().map(|(position, token)| {
                let place = places[position] as u32;
                Target { place, token, row }
            });
            targets.extend(own);
        }
        Ok(Self { rows: rows.to_vec(), layout, tokens, targets })
    }

    /// Tokens of all rows, each counted whole.
    pub fn row_tokens(&self) -> usize {
        self.layout.lengths().iter().sum()
    }
}

/// Splits the rows of one update into micro-batches of at most `max_tokens`, or as many as its
/// longest row has, evenly filled and in a number that `lanes` workers can share evenly. Rows that
/// begin alike come together, and what they share counts once.
///
/// The result depends on the arguments only.
///
/// # Errors
/// As for [`MicroBatch::lay`].
pub fn pack(
    data: &[Row],
    rows: &[usize],
    max_tokens: usize,
    lanes: usize,
) -> Result<Vec<MicroBatch>> {
    let mut rows = rows.to_vec();
    rows.sort_by_key(|&row| (data[row].inputs(), row));
    let costs = costs(data, &rows);
    let most = costs.iter().map(|cost| cost.alone).max().unwrap_or_default().max(max_tokens);
    let lanes = lanes.max(1);
    let count = cut(&costs, most).len().next_multiple_of(lanes);
    // The least that no more micro-batches need to hold than this many.
    let (mut least, mut enough) = (0, most);
    while least < enough {
        let middle = least.midpoint(enough);
        match cut(&costs, middle).len() <= count {
            true => enough = middle,
            false => least = middle + 1,
        }
    }
    let mut batches = Vec::with_capacity(count);
    let mut rest = rows.as_mut_slice();
    for run in cut(&costs, enough) {
        let (rows, later) = std::mem::take(&mut rest).split_at_mut(run);
        // Rows of about one length beside each other are computed together.
        rows.sort_by_key(|&row| (std::cmp::Reverse(data[row].inputs().len()), row));
        batches.push(MicroBatch::lay(data, rows)?);
        rest = later;
    }
    Ok(batches)
}

/// In how many of these rows of `data` a token is, on average, if what they begin with alike is one.
pub(crate) fn repeats(data: &[Row], rows: &[usize]) -> f64 {
    let mut rows = rows.to_vec();
    rows.sort_by_key(|&row| data[row].inputs());
    let costs = costs(data, &rows);
    let [all, laid] = [|cost: &Cost| cost.alone, |cost: &Cost| cost.after]
        .map(|of| costs.iter().map(of).sum::<usize>());
    all as f64 / laid.max(1) as f64
}

/// What a row adds to a micro-batch, in tokens.
struct Cost {
    /// To one that it begins.
    alone: usize,
    /// To one with the row before it.
    after: usize,
}

/// Of rows in the order of their tokens: what one has in common with any of them before it, it has in
/// common with the last.
fn costs(data: &[Row], rows: &[usize]) -> Vec<Cost> {
    let mut before: &[u32] = &[];
    let cost = |&row: &usize| {
        let own = data[row].inputs();
        let shared = before.iter().zip(own).take_while(|(a, b)| a == b).count();
        before = own;
        Cost { alone: own.len(), after: own.len() - shared }
    };
    rows.iter().map(cost).collect()
}

/// How many successive rows each micro-batch takes, if it takes all it can within `most` tokens.
fn cut(costs: &[Cost], most: usize) -> Vec<usize> {
    let mut runs = Vec::new();
    let mut tokens = 0;
    for cost in costs {
        match runs.last_mut().filter(|_| tokens + cost.after <= most) {
            Some(rows) => {
                *rows += 1;
                tokens += cost.after;
            }
            None => {
                runs.push(1);
                tokens = cost.alone;
            }
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dataset::{Dataset, Example};

    fn dataset(rows: &[Vec<u32>]) -> Dataset {
        let rows = rows.iter().map(|inputs| Example {
            tokens: inputs.iter().copied().chain([9]).collect(),
            trained: vec![1..2, inputs.len()..inputs.len() + 1],
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
            rows in prop::collection::vec(prop::collection::vec(0u32..3, 1..40), 1..30),
            max_tokens in 1usize..120,
            lanes in 1usize..5,
        ) {
            let data = dataset(&rows);
            let all: Vec<_> = (0..rows.len()).collect();
            let batches = pack(data.rows(), &all, max_tokens, lanes).unwrap();
            let mut packed: Vec<_> = batches.iter().flat_map(|micro| micro.rows.clone()).collect();
            packed.sort_unstable();
            prop_assert_eq!(packed, all);
            let most = rows.iter().map(Vec::len).max().unwrap().max(max_tokens);
            for micro in &batches {
                prop_assert!(micro.tokens.len() <= most);
                prop_assert_eq!(micro.layout.total(), micro.tokens.len());
                let expected = micro.rows.iter().flat_map(|&row| data.rows()[row].targets());
                let found = micro.targets.iter().map(|target| target.token);
                prop_assert_eq!(found.collect::<Vec<_>>(), expected.map(|(_, token)| token).collect::<Vec<_>>());
                for (index, &row) in micro.rows.iter().enumerate() {
                    let places: Vec<_> = micro.layout.places(index).collect();
                    let tokens: Vec<u32> = places.iter().map(|&place| micro.tokens[place]).collect();
                    prop_assert_eq!(&tokens, data.rows()[row].inputs());
                    let own = micro.targets.iter().filter(|target| target.row == row);
                    let found: Vec<_> = own.map(|target| target.place as usize).collect();
                    let expected = data.rows()[row].targets().map(|(position, _)| places[position]);
                    prop_assert_eq!(found, expected.collect::<Vec<_>>());
                }
            }
        }
    }

    /// Eight questions to one of two agents each, whose introductions are most of every row: three
    /// tokens of a question, twenty of an introduction.
    #[test]
    fn rows_that_begin_alike_come_together() {
        let row = |index: u32| {
            let agent = index % 2;
            (0..20).map(|i| 100 * agent + i).chain([200 + index, 300, 301]).collect()
        };
        let rows: Vec<Vec<u32>> = (0..8).map(row).collect();
        let data = dataset(&rows);
        let batches = pack(data.rows(), &[0, 1, 2, 3, 4, 5, 6, 7], 40, 2).unwrap();
        let tokens: Vec<usize> = batches.iter().map(|micro| micro.tokens.len()).collect();
        assert_eq!(tokens, [32, 32]);
        assert_eq!(batches[0].row_tokens(), 4 * 23);
    }

    #[test]
    fn epochs_and_seeds_differ() {
        let order = |seed, epoch| Sampler::new(50, seed, Cursor { epoch, offset: 0 }).take(50);
        assert_ne!(order(0, 0), order(0, 1));
        assert_ne!(order(0, 0), order(1, 0));
    }
}
