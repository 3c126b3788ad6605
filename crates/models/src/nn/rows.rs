use std::collections::BTreeSet;
use std::ops::Range;

use mlx_rs::{Array, ops};

use crate::{Error, Result};

/// The ragged layout of one micro-batch: rows end to end, without padding.
///
/// Hidden states are `[1, T, H]` with `T` the number of tokens. A [shared
/// prefix](Self::with_shared_prefixes) of several rows, for instance their system prompt, can be
/// stored once: attention is causal, so its hidden states are the same in each of the rows.
///
/// ```
/// use models::layers::Rows;
///
/// let rows = Rows::new([3, 1, 4])?;
/// assert_eq!(rows.total(), 8);
/// assert_eq!(rows.places(1).collect::<Vec<_>>(), [3]);
///
/// let (rows, tokens) = Rows::with_shared_prefixes(&[[5, 6, 7].as_slice(), &[5, 6, 8, 9]])?;
/// assert_eq!(tokens, [5, 6, 7, 8, 9]);
/// assert_eq!(rows.total(), 5);
/// assert_eq!(rows.places(1).collect::<Vec<_>>(), [0, 1, 3, 4]);
/// # Ok::<(), models::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    lengths: Vec<usize>,
    /// The stored tokens, piece by piece.
    pieces: Vec<Piece>,
    /// The pieces that make up each row.
    paths: Vec<Vec<usize>>,
}

/// Consecutive tokens that belong to the same rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    /// Index of its first token among those stored.
    place: usize,
    /// Position of its first token in its rows.
    position: usize,
    length: usize,
}

impl Rows {
    /// Rows of these lengths that share nothing.
    ///
    /// # Errors
    /// [`Error::Argument`] when there is no row, one is empty, or all together exceed what MLX can
    /// index (2^31).
    pub fn new(lengths: impl Into<Vec<usize>>) -> Result<Self> {
        let lengths = checked(lengths.into())?;
        let mut place = 0;
        let pieces = lengths.iter().map(|&length| {
            place += length;
            Piece { place: place - length, position: 0, length }
        });
        let (pieces, paths) = (pieces.collect(), (0..lengths.len()).map(|row| vec![row]).collect());
        Ok(Self { lengths, pieces, paths })
    }

    /// Rows of these tokens, of which a prefix that a row shares with an earlier one is stored once.
    /// Returns the layout and the tokens in the order they are stored.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn with_shared_prefixes(rows: &[&[u32]]) -> Result<(Self, Vec<u32>)> {
        let lengths = checked(rows.iter().map(|row| row.len()).collect())?;
        let branches: Vec<Branch> = (0..rows.len()).map(|row| Branch::of(rows, row)).collect();
        // Where a row's own tokens are cut, because another row diverges there.
        let mut cuts = vec![BTreeSet::new(); rows.len()];
        for &Branch { row, at } in branches.iter().filter(|branch| branch.at > 0) {
            let mut owner = row;
            while at <= branches[owner].at {
                owner = branches[owner].row;
            }
            cuts[owner].insert(at);
        }
        let mut layout = Self { lengths, pieces: Vec::new(), paths: Vec::new() };
        let mut tokens = Vec::new();
        for ((row, branch), cuts) in rows.iter().zip(&branches).zip(cuts) {
            let mut path = layout.paths.get(branch.row).cloned().unwrap_or_default();
            path.retain(|&piece| layout.pieces[piece].position < branch.at);
            let mut position = branch.at;
            for end in cuts.into_iter().chain([row.len()]) {
                if end > position {
                    path.push(layout.pieces.len());
                    layout.pieces.push(Piece {
                        place: tokens.len(),
                        position,
                        length: end - position,
                    });
                    tokens.extend_from_slice(&row[position..end]);
                    position = end;
                }
            }
            layout.paths.push(path);
        }
        Ok((layout, tokens))
    }

    /// The length of each row.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// How many tokens are stored: those of all rows, shared ones once.
    pub fn total(&self) -> usize {
        self.pieces.iter().map(|piece| piece.length).sum()
    }

    /// The index of each token of a row among those stored; empty for a row that does not exist.
    pub fn places(&self, row: usize) -> impl Iterator<Item = usize> + '_ {
        self.paths.get(row).into_iter().flatten().flat_map(|&piece| {
            let Piece { place, length, .. } = self.pieces[piece];
            place..place + length
        })
    }

    /// Splits an array of all rows, without sharing, into single rows along the axis of tokens.
    pub(crate) fn split(&self, array: &Array, axis: i32) -> Result<Vec<Array>> {
        Ok(array.split_at_indices(&ends(self.lengths.iter().copied()), axis)?)
    }

    /// Runs of consecutive rows of at most `short` tokens that grow by at most a quarter when padded
    /// to the longest; every other row is a run of its own.
    pub(crate) fn runs(&self, short: usize) -> Vec<Range<usize>> {
        let mut runs = Vec::new();
        let mut first = 0;
        while first < self.lengths.len() {
            let rest = &self.lengths[first..];
            let fits = |count: &usize| {
                let run = &rest[..*count];
                let longest = run.iter().copied().max().unwrap_or_default();
                longest <= short && 4 * longest * count <= 5 * run.iter().sum::<usize>()
            };
            let count = (2..=rest.len()).take_while(fits).last().unwrap_or(1);
            runs.push(first..first + count);
            first += count;
        }
        runs
    }

    /// The position of every token in its own row.
    pub(crate) fn positions(&self) -> Vec<usize> {
        let positions = |piece: &Piece| piece.position..piece.position + piece.length;
        self.pieces.iter().flat_map(positions).collect()
    }

    /// The pieces that make up a row: index and length of each.
    pub(crate) fn path(&self, row: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.paths[row].iter().map(|&piece| (piece, self.pieces[piece].length))
    }

    /// Splits an array of the stored tokens, `[1, T, ...]`, into pieces.
    pub(crate) fn pieces(&self, stored: &Array) -> Result<Vec<Array>> {
        Ok(stored.split_at_indices(&ends(self.pieces.iter().map(|piece| piece.length)), 1)?)
    }

    /// Repeats shared tokens of an array of the stored tokens, `[1, T, ...]`, for each row that has
    /// them.
    pub(crate) fn expand(&self, stored: &Array) -> Result<Array> {
        if !self.shares() {
            return Ok(stored.clone());
        }
        let pieces = self.pieces(stored)?;
        let rows: Vec<&Array> = self.paths.iter().flatten().map(|&piece| &pieces[piece]).collect();
        Ok(ops::concatenate(&rows, 1)?)
    }

    /// The reverse of [`expand`](Self::expand): each stored token once, from the first row that has
    /// it.
    pub(crate) fn deduplicate(&self, expanded: &Array) -> Result<Array> {
        if !self.shares() {
            return Ok(expanded.clone());
        }
        let walk = || (0..self.lengths.len()).flat_map(|row| self.path(row));
        let parts = expanded.split_at_indices(&ends(walk().map(|(_, length)| length)), 1)?;
        let mut stored: Vec<Array> = Vec::with_capacity(self.pieces.len());
        // Pieces are numbered in this order.
        for ((piece, _), part) in walk().zip(parts) {
            if piece == stored.len() {
                stored.push(part);
            }
        }
        Ok(ops::concatenate(&stored, 1)?)
    }

    fn shares(&self) -> bool {
        self.paths.iter().map(Vec::len).sum::<usize>() > self.pieces.len()
    }
}

/// Where a row diverges from an earlier one.
#[derive(Clone, Copy)]
struct Branch {
    /// The earlier row; the row itself, if it shares nothing.
    row: usize,
    /// How many tokens they have in common.
    at: usize,
}

impl Branch {
    /// The longest prefix that this one of `rows` shares with an earlier one.
    fn of(rows: &[&[u32]], row: usize) -> Self {
        let from =
            |earlier: usize| Self { row: earlier, at: common_prefix(rows[earlier], rows[row]) };
        let latest = (0..row).map(from).max_by_key(|branch| branch.at);
        latest.filter(|branch| branch.at > 0).unwrap_or(Self { row, at: 0 })
    }
}

/// The length of the common prefix of two rows.
pub(crate) fn common_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn checked(lengths: Vec<usize>) -> Result<Vec<usize>> {
    let total =
        lengths.iter().try_fold(0i32, |sum, &length| sum.checked_add(i32::try_from(length).ok()?));
    if lengths.is_empty() || lengths.contains(&0) || total.is_none() {
        return Err(Error::Argument {
            name: "row lengths",
            expected: "at least one row, none empty, below 2^31 tokens in all".into(),
            found: format!("{lengths:?}"),
        });
    }
    Ok(lengths)
}

/// Where pieces of these lengths end, without the last.
pub(crate) fn ends(lengths: impl Iterator<Item = usize>) -> Vec<i32> {
    let mut ends: Vec<i32> = lengths
        .scan(0, |end, length| {
            *end += length as i32;
            Some(*end)
        })
        .collect();
    ends.pop();
    ends
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Few tokens and many rows, so that prefixes are shared at every depth.
        #[test]
        fn shared_rows_expand_and_deduplicate(
            rows in prop::collection::vec(prop::collection::vec(0u32..3, 1..7), 1..12),
        ) {
            let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
            let (layout, tokens) = Rows::with_shared_prefixes(&rows).unwrap();
            let mut distinct = BTreeSet::new();
            for (index, row) in rows.iter().enumerate() {
                let read: Vec<u32> = layout.places(index).map(|place| tokens[place]).collect();
                prop_assert_eq!(&read, row);
                for (position, place) in layout.places(index).enumerate() {
                    prop_assert_eq!(layout.positions()[place], position);
                }
                distinct.extend((1..=row.len()).map(|length| row[..length].to_vec()));
            }
            // Every prefix is stored exactly once.
            prop_assert_eq!(layout.total(), distinct.len());
            prop_assert_eq!(tokens.len(), distinct.len());

            let array = Array::from_slice(&tokens, &[1, tokens.len() as i32]);
            let whole = layout.expand(&array).unwrap();
            let once = layout.deduplicate(&whole).unwrap();
            prop_assert_eq!(whole.as_slice::<u32>(), rows.concat());
            prop_assert_eq!(once.as_slice::<u32>(), tokens);
        }
    }
}
