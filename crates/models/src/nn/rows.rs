use std::collections::BTreeSet;
use std::ops::Range;

use mlx_rs::{Array, ops};

use crate::{Error, Result};

/// The ragged layout of one micro-batch: examples laid end to end, without padding.
///
/// Hidden states are `[1, T, H]` with `T` the sum of the lengths; no padding token exists. Of rows
/// that begin alike, as those with one system prompt do, the [shared](Self::sharing) tokens can be
/// laid once: attention is causal, so what a layer makes of them is the same in each of the rows.
///
/// ```
/// use models::Rows;
///
/// let rows = Rows::new([3, 1, 4])?;
/// assert_eq!(rows.total(), 8);
/// assert_eq!(rows.places(1).collect::<Vec<_>>(), [3]);
///
/// let (rows, tokens) = Rows::sharing(&[[5, 6, 7].as_slice(), &[5, 6, 8, 9]])?;
/// assert_eq!(tokens, [5, 6, 7, 8, 9]);
/// assert_eq!(rows.total(), 5);
/// assert_eq!(rows.places(1).collect::<Vec<_>>(), [0, 1, 3, 4]);
/// # Ok::<(), models::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    lengths: Vec<usize>,
    /// What lies one behind the other.
    pieces: Vec<Piece>,
    /// The pieces that make up each row.
    paths: Vec<Vec<usize>>,
}

/// Successive tokens that the same rows have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    /// Of its first token among those laid.
    place: usize,
    /// Of its first token in the rows that have it.
    position: usize,
    length: usize,
}

impl Rows {
    /// Rows of these lengths, each laid whole.
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

    /// Rows of these tokens, what one has in common with the beginning of an earlier one laid once;
    /// with the tokens in the order they are laid.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn sharing(rows: &[&[u32]]) -> Result<(Self, Vec<u32>)> {
        let lengths = checked(rows.iter().map(|row| row.len()).collect())?;
        let branches: Vec<Branch> = (0..rows.len()).map(|row| Branch::of(rows, row)).collect();
        // Where a row's own tokens are cut, because another row goes another way from there.
        let mut cuts = vec![BTreeSet::new(); rows.len()];
        for &Branch { row, at } in branches.iter().filter(|branch| branch.at > 0) {
            let mut owner = row;
            while at <= branches[owner].at {
                owner = branches[owner].row;
            }
            cuts[owner].insert(at);
        }
        let mut laid = Self { lengths, pieces: Vec::new(), paths: Vec::new() };
        let mut tokens = Vec::new();
        for ((row, branch), cuts) in rows.iter().zip(&branches).zip(cuts) {
            let mut path = laid.paths.get(branch.row).cloned().unwrap_or_default();
            path.retain(|&piece| laid.pieces[piece].position < branch.at);
            let mut position = branch.at;
            for end in cuts.into_iter().chain([row.len()]) {
                if end > position {
                    path.push(laid.pieces.len());
                    laid.pieces.push(Piece {
                        place: tokens.len(),
                        position,
                        length: end - position,
                    });
                    tokens.extend_from_slice(&row[position..end]);
                    position = end;
                }
            }
            laid.paths.push(path);
        }
        Ok((laid, tokens))
    }

    /// The length of each row.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// How many tokens are laid: those of all rows, shared ones once.
    pub fn total(&self) -> usize {
        self.pieces.iter().map(|piece| piece.length).sum()
    }

    /// The place of each token of a row; nothing for a row that is not there.
    pub fn places(&self, row: usize) -> impl Iterator<Item = usize> + '_ {
        self.paths.get(row).into_iter().flatten().flat_map(|&piece| {
            let Piece { place, length, .. } = self.pieces[piece];
            place..place + length
        })
    }

    /// Where an array of all rows, each whole, is cut to get the single rows.
    pub(crate) fn cuts(&self) -> Vec<i32> {
        ends(self.lengths.iter().copied())
    }

    /// Runs of successive rows of at most `short` tokens which, filled up to their longest, grow
    /// by a quarter at most; every other row is a run of its own.
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

    /// The pieces that make up a row: number and length of each.
    pub(crate) fn path(&self, row: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.paths[row].iter().map(|&piece| (piece, self.pieces[piece].length))
    }

    /// The pieces of an array of what is laid, `[1, T, ...]`.
    pub(crate) fn pieces(&self, laid: &Array) -> Result<Vec<Array>> {
        Ok(laid.split_at_indices(&ends(self.pieces.iter().map(|piece| piece.length)), 1)?)
    }

    /// An array of what is laid, `[1, T, ...]`, with every row whole: shared tokens once for each row
    /// that has them.
    pub(crate) fn whole(&self, laid: &Array) -> Result<Array> {
        if !self.shares() {
            return Ok(laid.clone());
        }
        let pieces = self.pieces(laid)?;
        let rows: Vec<&Array> = self.paths.iter().flatten().map(|&piece| &pieces[piece]).collect();
        Ok(ops::concatenate(&rows, 1)?)
    }

    /// The reverse of [`whole`](Self::whole): each token that is laid, as it is in the first row that
    /// has it.
    pub(crate) fn once(&self, whole: &Array) -> Result<Array> {
        if !self.shares() {
            return Ok(whole.clone());
        }
        let walk = || (0..self.lengths.len()).flat_map(|row| self.path(row));
        let parts = whole.split_at_indices(&ends(walk().map(|(_, length)| length)), 1)?;
        let mut laid: Vec<Array> = Vec::with_capacity(self.pieces.len());
        // Pieces are numbered as they come up.
        for ((piece, _), part) in walk().zip(parts) {
            if piece == laid.len() {
                laid.push(part);
            }
        }
        Ok(ops::concatenate(&laid, 1)?)
    }

    fn shares(&self) -> bool {
        self.paths.iter().map(Vec::len).sum::<usize>() > self.pieces.len()
    }
}

/// Where a row leaves an earlier one.
#[derive(Clone, Copy)]
struct Branch {
    /// The earlier row; itself, if it has nothing in common with any.
    row: usize,
    /// How many tokens they have in common.
    at: usize,
}

impl Branch {
    /// The latest that this one of `rows` leaves an earlier one.
    fn of(rows: &[&[u32]], row: usize) -> Self {
        let from = |earlier: usize| Self { row: earlier, at: in_common(rows[earlier], rows[row]) };
        let latest = (0..row).map(from).max_by_key(|branch| branch.at);
        latest.filter(|branch| branch.at > 0).unwrap_or(Self { row, at: 0 })
    }
}

/// How many tokens two rows begin with.
pub(crate) fn in_common(a: &[u32], b: &[u32]) -> usize {
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

/// Where pieces of these lengths end, but for the last.
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
        /// Few tokens and many rows, so that beginnings are shared at every depth.
        #[test]
        fn shared_rows_are_whole_again(
            rows in prop::collection::vec(prop::collection::vec(0u32..3, 1..7), 1..12),
        ) {
            let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
            let (laid, tokens) = Rows::sharing(&rows).unwrap();
            let mut distinct = BTreeSet::new();
            for (index, row) in rows.iter().enumerate() {
                let read: Vec<u32> = laid.places(index).map(|place| tokens[place]).collect();
                prop_assert_eq!(&read, row);
                for (position, place) in laid.places(index).enumerate() {
                    prop_assert_eq!(laid.positions()[place], position);
                }
                distinct.extend((1..=row.len()).map(|length| row[..length].to_vec()));
            }
            // Every beginning is there, and none twice.
            prop_assert_eq!(laid.total(), distinct.len());
            prop_assert_eq!(tokens.len(), distinct.len());

            let array = Array::from_slice(&tokens, &[1, tokens.len() as i32]);
            let whole = laid.whole(&array).unwrap();
            let once = laid.once(&whole).unwrap();
            prop_assert_eq!(whole.as_slice::<u32>(), rows.concat());
            prop_assert_eq!(once.as_slice::<u32>(), tokens);
        }
    }
}
