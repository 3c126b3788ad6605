//! Short rows of about one length, computed side by side.

use mlx_rs::{Array, ops};

use super::{Look, Projections};
use crate::Result;
use crate::layer::Batch;
use crate::rows::ends;

/// A row this short costs more to ask for than to compute.
const SHORT: usize = 128;

/// Rows by themselves, as [`by_row`], but short ones of about one length side by side, so that their
/// operations are asked for once. What fills them up comes after all that their tokens see.
pub(super) fn by_run(qkv: &Projections, batch: &Batch, look: Look) -> Result<Array> {
    let runs = batch.rows.runs(SHORT);
    let cuts = ends(runs.iter().map(|run| run.iter().sum()));
    let split = |array: &Array| -> Result<Vec<Array>> {
        Ok(if cuts.is_empty() { vec![array.clone()] } else { array.split_at_indices(&cuts, 1)? })
    };
    let (queries, keys, values) = (split(&qkv.queries)?, split(&qkv.keys)?, split(&qkv.values)?);
    let mut outputs = Vec::with_capacity(runs.len());
    for (((run, q), k), v) in runs.iter().zip(&queries).zip(&keys).zip(&values) {
        let [q, k, v] = [side_by_side(q, run)?, side_by_side(k, run)?, side_by_side(v, run)?];
        outputs.extend(end_to_end(&batch.core.row(&q, &k, &v, look)?, run)?);
    }
    match outputs.as_slice() {
        [output] => Ok(output.clone()),
        _ => Ok(ops::concatenate(&outputs, 1)?),
    }
}

/// `[1, sum of lengths, heads, d]` as `[rows, heads, longest, d]`.
fn side_by_side(array: &Array, lengths: &[usize]) -> Result<Array> {
    let longest = lengths.iter().copied().max().unwrap_or_default();
    let (heads, width) = (array.dim(2), array.dim(3));
    let rows = lengths.len() as i32;
    let filled = if longest * lengths.len() == array.dim(1) as usize {
        array.clone()
    } else {
        let own = array.split_at_indices(&ends(lengths.iter().copied()), 1)?;
        let mut parts = Vec::with_capacity(2 * own.len());
        for (row, length) in own.into_iter().zip(lengths) {
            parts.push(row);
            if *length < longest {
                let shape = [1, (longest - length) as i32, heads, width];
                parts.push(ops::zeros_dtype(&shape, array.dtype())?);
            }
        }
        ops::concatenate(&parts, 1)?
    };
    let rows = filled.reshape(&[rows, longest as i32, heads, width])?;
    Ok(rows.transpose_axes(&[0, 2, 1, 3])?)
}

/// The reverse, heads joined: pieces `[1, length, heads * d]`.
fn end_to_end(array: &Array, lengths: &[usize]) -> Result<Vec<Array>> {
    let longest = array.dim(2) as usize;
    let joined = array.transpose_axes(&[0, 2, 1, 3])?;
    let joined = joined.reshape(&[1, -1, array.dim(1) * array.dim(3)])?;
    if lengths.iter().all(|length| *length == longest) {
        return Ok(vec![joined]);
    }
    let filling = lengths.iter().map(|length| longest - length);
    let pieces: Vec<usize> =
        lengths.iter().copied().zip(filling).flat_map(<[usize; 2]>::from).collect();
    let own = joined.split_at_indices(&ends(pieces.into_iter()), 1)?;
    Ok(own.into_iter().step_by(2).collect())
}
