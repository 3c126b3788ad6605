//! Sampling the examples of an update and packing them into micro-batches.

use std::collections::BTreeMap;
use std::ops::Range;

use models::layers::Rows;
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::config::AnchoredTokens;
use crate::dataset::{Dataset, Row};

/// Position of a run in its data. With the seed it is the whole state of the [`Sampler`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Complete passes over the data.
    pub epoch: u64,
    /// Rows taken from the current pass.
    pub offset: usize,
}

/// Yields row indices: every row once per epoch, in a random order that depends on seed and epoch.
#[derive(Debug)]
pub struct Sampler {
    seed: u64,
    cursor: Cursor,
    order: Vec<usize>,
}

impl Sampler {
    /// A sampler of `rows` rows that continues at `cursor`.
    pub fn new(rows: usize, seed: u64, cursor: Cursor) -> Self {
        let mut sampler = Self { seed, cursor, order: (0..rows).collect() };
        sampler.shuffle();
        sampler
    }

    /// The position of the next row.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// The next `count` rows, across the end of an epoch if necessary.
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

    /// Each epoch uses a generator stream of its own, so resuming does not replay earlier epochs.
    fn shuffle(&mut self) {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(self.cursor.epoch);
        self.order.sort_unstable();
        self.order.shuffle(&mut rng);
    }
}

/// Rows packed into one sequence without padding. A prefix that rows share is stored once.
#[derive(Clone, Debug, PartialEq)]
pub struct MicroBatch {
    /// Indices of the rows in the data set, in packing order.
    pub rows: Vec<usize>,
    /// The positions of each row's tokens.
    pub layout: Rows,
    /// Input tokens of all rows.
    pub tokens: Vec<u32>,
    /// The tokens with a loss.
    pub targets: Vec<Target>,
    /// Those of each of [`rows`](Self::rows).
    pub targets_of: Vec<Range<usize>>,
    /// The positions whose prediction is held to that of the base model.
    pub anchors: Vec<Anchor>,
}

/// A position whose prediction is held to that of the base model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Anchor {
    /// The index in [`MicroBatch::tokens`].
    pub position: u32,
    /// The weight of the divergence in what the update minimizes.
    pub weight: f32,
}

/// A token with a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The index in [`MicroBatch::tokens`] of the token before it. Rows that share a prefix may have
    /// several targets at one position.
    pub position: u32,
    /// The token to predict.
    pub token: u32,
    /// The index of its row in the data set.
    pub row: usize,
}

impl MicroBatch {
    /// Packs `rows` (indices into `data`).
    ///
    /// # Errors
    /// As for [`Rows::with_shared_prefixes`].
    pub fn new(data: &[Row], rows: &[usize]) -> Result<Self> {
        let inputs: Vec<&[u32]> = rows.iter().map(|&row| data[row].inputs()).collect();
        let (layout, tokens) = Rows::with_shared_prefixes(&inputs)?;
        let (mut targets, mut targets_of) = (Vec::new(), Vec::new());
        for (index, &row) in rows.iter().enumerate() {
            let positions: Vec<usize> = layout.places(index).collect();
            let own = data[row].targets().map(|(position, token)| {
                let position = positions[position] as u32;
                Target { position, token, row }
            });
            let start = targets.len();
            targets.extend(own);
            targets_of.push(start..targets.len());
        }
        let (rows, anchors) = (rows.to_vec(), Vec::new());
        Ok(Self { rows, layout, tokens, targets, targets_of, anchors })
    }

    /// The rows with an anchor, each up to its last one, without targets, and the index here of each of their tokens. Their
    /// anchors are the same ones in the same order.
    ///
    /// # Errors
    /// As for [`new`](Self::new), without an anchor too.
    pub(crate) fn anchored(&self) -> Result<(Self, Vec<u32>)> {
        let mut is_anchor = vec![false; self.tokens.len()];
        self.anchors.iter().for_each(|anchor| is_anchor[anchor.position as usize] = true);
        let (mut rows, mut places) = (Vec::new(), Vec::new());
        for (index, &row) in self.rows.iter().enumerate() {
            let mut own: Vec<usize> = self.layout.places(index).collect();
            let last = own.iter().rposition(|&place| is_anchor[place]);
            own.truncate(last.map_or(0, |last| last + 1));
            if !own.is_empty() {
                rows.push(row);
                places.push(own);
            }
        }
        let inputs: Vec<Vec<u32>> = places
            .iter()
            .map(|own| own.iter().map(|&place| self.tokens[place]).collect())
            .collect();
        let inputs: Vec<&[u32]> = inputs.iter().map(Vec::as_slice).collect();
        let (layout, tokens) = Rows::with_shared_prefixes(&inputs)?;
        let mut here = vec![0; tokens.len()];
        let mut there = vec![0; self.tokens.len()];
        for (index, own) in places.iter().enumerate() {
            for (place, &from) in layout.places(index).zip(own) {
                (here[place], there[from]) = (from as u32, place as u32);
            }
        }
        let moved =
            |anchor: &Anchor| Anchor { position: there[anchor.position as usize], ..*anchor };
        let anchors = self.anchors.iter().map(moved).collect();
        let (targets, targets_of) = (Vec::new(), vec![0..0; rows.len()]);
        Ok((Self { rows, layout, tokens, targets, targets_of, anchors }, here))
    }

    /// Input tokens of all rows; a shared prefix counts in each of them.
    pub fn row_tokens(&self) -> usize {
        self.layout.lengths().iter().sum()
    }
}

/// Sets the anchors of the micro-batches of an update: the positions that `on` selects in each row, so
/// that their divergences add up to `weight` times the mean over the update. Returns the number of its positions; one
/// that several rows share counts in each of them. `whole` makes it of the number in these micro-batches.
pub(crate) fn anchor(
    batches: &mut [MicroBatch],
    data: &Dataset,
    on: AnchoredTokens,
    weight: f64,
    whole: impl FnOnce(u64) -> Result<u64>,
) -> Result<u64> {
    let count = |micro: &MicroBatch| {
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        for (index, &row) in micro.rows.iter().enumerate() {
            let row = &data.rows()[row];
            let places = micro.layout.places(index).zip(row.predictions(on));
            for (place, _) in places.filter(|(_, selected)| *selected) {
                *counts.entry(place as u32).or_default() += 1;
            }
        }
        counts
    };
    let counts: Vec<_> = batches.iter().map(count).collect();
    let own: usize = counts.iter().flat_map(BTreeMap::values).sum();
    let total = whole(own as u64)?;
    let each = weight / total.max(1) as f64;
    for (micro, counts) in batches.iter_mut().zip(counts) {
        let anchors = counts.into_iter();
        micro.anchors = anchors
            .map(|(position, count)| Anchor { position, weight: (count as f64 * each) as f32 })
            .collect();
    }
    Ok(total)
}

/// The examples of an update that one of several ranks computes: neighbours in the order of their tokens, so that shared
/// prefixes stay together, and of about as many tokens as any other rank's. Some ranks have none if there are few.
pub(crate) fn share(data: &Dataset, examples: &[usize], rank: usize, ranks: usize) -> Vec<usize> {
    if ranks == 1 {
        return examples.to_vec();
    }
    let sorted = sorted(data, examples);
    let sizes = sizes(data.rows(), &rows_of(data, &sorted));
    let all = sizes.iter().map(|size| size.alone).sum();
    let counts = even_counts(&sizes, all, ranks);
    let start = counts.iter().take(rank).sum();
    sorted.into_iter().skip(start).take(counts.get(rank).copied().unwrap_or_default()).collect()
}

/// Packs the examples of one update into micro-batches of about equal size, at most `max_tokens` or the
/// largest example, in a number that is a multiple of `lanes` where possible. The rows of an example
/// stay together. Rows with a common prefix are packed together; the prefix counts once.
///
/// Deterministic: the result depends on the arguments only.
///
/// # Errors
/// As for [`MicroBatch::new`].
pub fn pack(
    data: &Dataset,
    examples: &[usize],
    max_tokens: usize,
    lanes: usize,
) -> Result<Vec<MicroBatch>> {
    let rows = data.rows();
    let examples = rows_of(data, &sorted(data, examples));
    let sizes = sizes(rows, &examples);
    let most = sizes.iter().map(|size| size.alone).max().unwrap_or_default().max(max_tokens);
    let count = greedy_counts(&sizes, most).len().next_multiple_of(lanes.max(1));
    let mut batches = Vec::with_capacity(count);
    let mut rest = examples.as_slice();
    for count in even_counts(&sizes, most, count) {
        let (examples, later) = rest.split_at(count);
        let mut own: Vec<usize> = examples.iter().cloned().flatten().collect();
        // Attention computes neighbouring rows of similar length together.
        own.sort_by_key(|&row| (std::cmp::Reverse(rows[row].inputs().len()), row));
        batches.push(MicroBatch::new(rows, &own)?);
        rest = later;
    }
    Ok(batches)
}

/// The tokens of these examples of `data`, divided by the tokens that remain if shared prefixes count
/// once.
pub(crate) fn repeats(data: &Dataset, examples: &[usize]) -> f64 {
    let examples = rows_of(data, &sorted(data, examples));
    let rows = examples.iter().cloned().flatten();
    let all: usize = rows.map(|row| data.rows()[row].inputs().len()).sum();
    let packed: usize = sizes(data.rows(), &examples).iter().map(|size| size.after).sum();
    all as f64 / packed.max(1) as f64
}

/// The tokens of an example that is packed alone.
pub(crate) fn packed_size(data: &Dataset, example: usize) -> usize {
    sizes(data.rows(), &[data.rows_of(example)]).iter().map(|size| size.alone).sum()
}

/// The examples, sorted by the tokens of their first rows.
fn sorted(data: &Dataset, examples: &[usize]) -> Vec<usize> {
    let first = |example: usize| data.rows_of(example).start;
    let mut sorted = examples.to_vec();
    sorted.sort_by_key(|&example| (data.rows()[first(example)].inputs(), first(example)));
    sorted
}

/// The rows of each example.
fn rows_of(data: &Dataset, examples: &[usize]) -> Vec<Range<usize>> {
    examples.iter().map(|&example| data.rows_of(example)).collect()
}

/// The tokens that an example adds to a micro-batch.
struct PackedSize {
    /// As its first example.
    alone: usize,
    /// After the previous example, whose prefix it shares.
    after: usize,
}

/// The sizes of examples sorted by the tokens of their first rows. In this order, the longest prefix
/// that a first row shares with any earlier one is the one it shares with the previous one.
fn sizes(data: &[Row], examples: &[Range<usize>]) -> Vec<PackedSize> {
    let shared = |a: &[u32], b: &[u32]| a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let mut before: &[u32] = &[];
    let size = |own: &Range<usize>| {
        let first = data[own.start].inputs();
        let others = data[own.clone()].iter().skip(1).map(Row::inputs);
        let others: usize = others.map(|other| other.len() - shared(first, other)).sum();
        let alone = first.len() + others;
        let after = alone - shared(before, first);
        before = first;
        PackedSize { alone, after }
    };
    examples.iter().map(size).collect()
}

/// The number of successive examples in each of at most `parts` parts whose largest is as small as possible. `most` tokens
/// are enough for a part.
fn even_counts(sizes: &[PackedSize], most: usize, parts: usize) -> Vec<usize> {
    let (mut least, mut enough) = (0, most);
    while least < enough {
        let middle = least.midpoint(enough);
        match greedy_counts(sizes, middle).len() <= parts {
            true => enough = middle,
            false => least = middle + 1,
        }
    }
    greedy_counts(sizes, enough)
}

/// The number of successive examples in each micro-batch, if each is filled up to `capacity` tokens.
fn greedy_counts(sizes: &[PackedSize], capacity: usize) -> Vec<usize> {
    let mut counts = Vec::new();
    let mut tokens = 0;
    for size in sizes {
        match counts.last_mut().filter(|_| tokens + size.after <= capacity) {
            Some(examples) => {
                *examples += 1;
                tokens += size.after;
            }
            None => {
                counts.push(1);
                tokens = size.alone;
            }
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dataset::{Example, RowSource};

    fn dataset(rows: &[Vec<u32>]) -> Dataset {
        let rows = rows.iter().map(|inputs| {
            let tokens = inputs.iter().copied().chain([9]).collect();
            Example::new(tokens, vec![1..2, inputs.len()..inputs.len() + 1])
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
            let batches = pack(&data, &all, max_tokens, lanes).unwrap();
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
                    let positions: Vec<_> = micro.layout.places(index).collect();
                    let tokens: Vec<u32> = positions.iter().map(|&at| micro.tokens[at]).collect();
                    prop_assert_eq!(&tokens, data.rows()[row].inputs());
                    let own = micro.targets.iter().filter(|target| target.row == row);
                    let found: Vec<_> = own.map(|target| target.position as usize).collect();
                    let expected = data.rows()[row].targets().map(|(at, _)| positions[at]);
                    prop_assert_eq!(found, expected.collect::<Vec<_>>());
                }
            }
        }
    }

    proptest! {
        /// Few tokens, so that rows share prefixes and some are prefixes of others.
        #[test]
        fn anchored_rows_keep_every_anchor_and_what_comes_before_it(
            rows in prop::collection::vec((prop::collection::vec(0u32..3, 1..9), any::<bool>()), 1..9),
            on in prop::sample::select(vec![AnchoredTokens::Replay, AnchoredTokens::All, AnchoredTokens::Untrained]),
        ) {
            let data = rows.iter().map(|(inputs, replay)| {
                let tokens: Vec<u32> = inputs.iter().copied().chain([9]).collect();
                let half = tokens.len() / 2;
                let trained = vec![half.max(1)..half.max(1) + 1];
                let row = Example::new(tokens, trained);
                if *replay { row.from_source(RowSource::Replay) } else { row }
            });
            let data = Dataset::new("train", data, usize::MAX).unwrap();
            let all: Vec<_> = (0..rows.len()).collect();
            let mut batches = vec![MicroBatch::new(data.rows(), &all).unwrap()];
            anchor(&mut batches, &data, on, 1.0, Ok).unwrap();
            let whole = &batches[0];
            prop_assume!(!whole.anchors.is_empty());
            let (part, places) = whole.anchored().unwrap();
            prop_assert_eq!(part.layout.total(), part.tokens.len());
            prop_assert!(part.tokens.len() <= whole.tokens.len());
            let before = |micro: &MicroBatch, position: u32| {
                let rows = 0..micro.rows.len();
                let own = |row: usize| micro.layout.places(row).collect::<Vec<_>>();
                let upto = rows.map(own).find_map(|own| {
                    let at = own.iter().position(|&place| place == position as usize)?;
                    Some(own[..=at].iter().map(|&place| micro.tokens[place]).collect::<Vec<_>>())
                });
                upto.unwrap()
            };
            prop_assert_eq!(part.anchors.len(), whole.anchors.len());
            for (a, b) in part.anchors.iter().zip(&whole.anchors) {
                prop_assert_eq!(places[a.position as usize], b.position);
                prop_assert_eq!(a.weight, b.weight);
                prop_assert_eq!(before(&part, a.position), before(whole, b.position));
            }
            for (here, &there) in places.iter().enumerate() {
                prop_assert_eq!(before(&part, here as u32), before(whole, there));
            }
        }
    }

    /// Eight rows with one of two system prompts of 20 tokens, then a question of 3 tokens.
    #[test]
    fn rows_with_a_shared_prefix_are_packed_together() {
        let row = |index: u32| {
            let agent = index % 2;
            (0..20).map(|i| 100 * agent + i).chain([200 + index, 300, 301]).collect()
        };
        let rows: Vec<Vec<u32>> = (0..8).map(row).collect();
        let data = dataset(&rows);
        let batches = pack(&data, &[0, 1, 2, 3, 4, 5, 6, 7], 40, 2).unwrap();
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
