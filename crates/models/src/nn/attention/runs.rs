//! Attention of short rows of similar length, computed as one batch.

use std::ops::Range;

use mlx_rs::{Array, Dtype, ops};

use super::{AttentionKernel, AttentionSpec, Projections};
use crate::Result;
use crate::nn::{Rows, ends};

/// Rows up to this length cost more to dispatch than to compute.
const SHORT: usize = 128;

/// Rows by themselves, as [`by_row`](super::by_row), but short rows of similar length padded to one
/// batch. Padding follows the row, so causal masks hide it. Shared prefixes are computed with each of
/// their rows, and returned once.
pub(super) fn by_run(
    qkv: &Projections,
    kernel: &AttentionKernel,
    spec: AttentionSpec,
) -> Result<Array> {
    let rows = kernel.rows();
    let (queries, keys) = (rows.pieces(&qkv.queries)?, rows.pieces(&qkv.keys)?);
    let values = rows.pieces(&qkv.values)?;
    let mut outputs = Vec::with_capacity(queries.len());
    for run in rows.runs(SHORT) {
        let run = Run::new(rows, run);
        let [q, k, v] = [&queries, &keys, &values].map(|pieces| run.batched(pieces));
        run.unbatched(&kernel.row(&q?, &k?, &v?, spec)?, &mut outputs)?;
    }
    joined(outputs)
}

/// Consecutive rows, padded to the longest.
struct Run {
    rows: usize,
    parts: Vec<Part>,
}

/// Consecutive tokens of a row.
struct Part {
    /// The index of their piece; `None` for padding.
    piece: Option<usize>,
    length: usize,
}

impl Run {
    fn new(rows: &Rows, run: Range<usize>) -> Self {
        let lengths = &rows.lengths()[run.clone()];
        let longest = lengths.iter().copied().max().unwrap_or_default();
        let (count, mut parts) = (run.len(), Vec::new());
        for (row, length) in run.zip(lengths) {
            let path = rows.path(row);
            parts.extend(path.map(|(piece, length)| Part { piece: Some(piece), length }));
            if *length < longest {
                parts.push(Part { piece: None, length: longest - length });
            }
        }
        Self { rows: count, parts }
    }

    /// Pieces `[1, length, heads, d]` as `[rows, heads, longest, d]`.
    fn batched(&self, pieces: &[Array]) -> Result<Array> {
        let (heads, width, dtype) =
            pieces.first().map_or((0, 0, Dtype::Float32), |p| (p.dim(2), p.dim(3), p.dtype()));
        let parts = self.parts.iter().map(|part| match part.piece {
            Some(piece) => Ok(pieces[piece].clone()),
            None => Ok(ops::zeros_dtype(&[1, part.length as i32, heads, width], dtype)?),
        });
        let all = joined(parts.collect::<Result<_>>()?)?;
        let all = all.reshape(&[self.rows as i32, -1, heads, width])?;
        Ok(all.transpose_axes(&[0, 2, 1, 3])?)
    }

    /// The reverse, heads joined: appends the pieces `[1, length, heads * d]` that `pieces` does not
    /// have yet. Pieces are numbered in this order.
    fn unbatched(&self, array: &Array, pieces: &mut Vec<Array>) -> Result<()> {
        let all = array.transpose_axes(&[0, 2, 1, 3])?;
        let all = all.reshape(&[1, -1, array.dim(1) * array.dim(3)])?;
        let parts = all.split_at_indices(&ends(self.parts.iter().map(|part| part.length)), 1)?;
        for (part, array) in self.parts.iter().zip(parts) {
            if part.piece == Some(pieces.len()) {
                pieces.push(array);
            }
        }
        Ok(())
    }
}

/// Concatenates along the tokens.
fn joined(mut parts: Vec<Array>) -> Result<Array> {
    match parts.len() {
        1 => Ok(parts.remove(0)),
        _ => Ok(ops::concatenate(&parts, 1)?),
    }
}
