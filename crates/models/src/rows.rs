use crate::{Error, Result};

/// The ragged layout of one micro-batch: examples laid end to end, without padding.
///
/// Hidden states are `[1, T, H]` with `T` the sum of the lengths; no padding token exists.
///
/// ```
/// use models::Rows;
///
/// let rows = Rows::new([3, 1, 4])?;
/// assert_eq!(rows.total(), 8);
/// assert_eq!(rows.starts().collect::<Vec<_>>(), [0, 3, 4]);
/// # Ok::<(), models::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    lengths: Vec<usize>,
}

impl Rows {
    /// Rows of these lengths.
    ///
    /// # Errors
    /// [`Error::Argument`] when there is no row, one is empty, or all together exceed what MLX can
    /// index (2^31).
    pub fn new(lengths: impl Into<Vec<usize>>) -> Result<Self> {
        let lengths = lengths.into();
        let total = lengths
            .iter()
            .try_fold(0i32, |sum, &length| sum.checked_add(i32::try_from(length).ok()?));
        if lengths.is_empty() || lengths.contains(&0) || total.is_none() {
            return Err(Error::Argument {
                name: "row lengths",
                expected: "at least one row, none empty, below 2^31 tokens in all".into(),
                found: format!("{lengths:?}"),
            });
        }
        Ok(Self { lengths })
    }

    /// The length of each row.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// Tokens in all rows.
    pub fn total(&self) -> usize {
        self.lengths.iter().sum()
    }

    /// The place of each row's first token.
    pub fn starts(&self) -> impl Iterator<Item = usize> + '_ {
        self.lengths.iter().scan(0, |next, length| {
            let start = *next;
            *next += length;
            Some(start)
        })
    }

    /// Where an array of all rows is cut to get the single rows.
    pub(crate) fn cuts(&self) -> Vec<i32> {
        ends(self.lengths.iter().copied())
    }

    /// Runs of successive rows of at most `short` tokens which, filled up to their longest, grow
    /// by a quarter at most; every other row is a run of its own.
    pub(crate) fn runs(&self, short: usize) -> Vec<&[usize]> {
        let mut runs = Vec::new();
        let mut rest = self.lengths.as_slice();
        while !rest.is_empty() {
            let fits = |count: &usize| {
                let run = &rest[..*count];
                let longest = run.iter().copied().max().unwrap_or_default();
                longest <= short && 4 * longest * count <= 5 * run.iter().sum::<usize>()
            };
            let count = (2..=rest.len()).take_while(fits).last().unwrap_or(1);
            let (run, later) = rest.split_at(count);
            runs.push(run);
            rest = later;
        }
        runs
    }

    /// The position of every token in its own row.
    pub(crate) fn positions(&self) -> Vec<usize> {
        self.lengths.iter().flat_map(|&length| 0..length).collect()
    }
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
