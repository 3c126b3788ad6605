//! The attention core: who sees whom, given rotated queries, keys and values.

use std::collections::BTreeMap;

use mlx_rs::fast::{ScaledDotProductAttentionMask as Mask, scaled_dot_product_attention};
use mlx_rs::{Array, ops};

use crate::cache::KvCache;
use crate::exp::softmax;
use crate::layer::Batch;
use crate::linear::Kernels;
use crate::{Result, Rows};

/// Added to the score of what must not be seen. Finite, so that a difference of two is a number.
pub(crate) const HIDDEN: f32 = -1e30;

/// What a layer attends to, and what it remembers.
pub(crate) enum Attend<'a> {
    /// Every token sees its own row up to itself. Nothing is remembered.
    Rows,
    /// The same, and the rows' keys and values go into the cache: row `i` of the batch becomes row
    /// `first + i` of the cache and ends before column `width`.
    Prompts { cache: &'a mut KvCache, first: usize, width: usize },
    /// Every row has one token, which sees the cache up to and including its own `column`, where
    /// `mask` (`[B, 1, 1, column + 1]`, added to the scores) lets it.
    Step { cache: &'a mut KvCache, column: usize, mask: Option<&'a Array> },
}

/// Queries `[1, T, heads, d]`, keys and values `[1, T, kv_heads, d]`.
pub(crate) struct Projections {
    pub queries: Array,
    pub keys: Array,
    pub values: Array,
}

/// Attends, and returns `[1, T, heads * d]`.
pub(crate) fn attend(
    qkv: &Projections,
    batch: &Batch,
    scale: f32,
    attend: Attend<'_>,
) -> Result<Array> {
    match attend {
        Attend::Rows => by_row(qkv, batch, scale, |_, _, _| Ok(())),
        Attend::Prompts { cache, first, width } => by_row(qkv, batch, scale, |row, k, v| {
            let length = k.dim(2) as usize;
            cache.write(first + row, width - length, k, v)
        }),
        Attend::Step { cache, column, mask } => step(qkv, &batch.core, scale, cache, column, mask),
    }
}

/// Each row by itself: cost grows with the sum of the squares of the lengths, where one masked
/// block for all rows would pay for the square of the sum.
fn by_row(
    qkv: &Projections,
    batch: &Batch,
    scale: f32,
    mut remember: impl FnMut(usize, &Array, &Array) -> Result<()>,
) -> Result<Array> {
    let cuts = batch.rows.cuts();
    // `split` rather than slices: its gradient is one concatenation, that of a slice an array of
    // the whole batch for every row.
    let split = |array: &Array| -> Result<Vec<Array>> {
        let array = array.transpose_axes(&[0, 2, 1, 3])?;
        Ok(if cuts.is_empty() { vec![array] } else { array.split_at_indices(&cuts, 2)? })
    };
    let (queries, keys, values) = (split(&qkv.queries)?, split(&qkv.keys)?, split(&qkv.values)?);
    let mut outputs = Vec::with_capacity(queries.len());
    for (row, ((q, k), v)) in queries.iter().zip(&keys).zip(&values).enumerate() {
        remember(row, k, v)?;
        outputs.push(batch.core.causal(q, k, v, scale)?);
    }
    let joined = ops::concatenate(&outputs, 2)?.transpose_axes(&[0, 2, 1, 3])?;
    Ok(joined.flatten(2, -1)?)
}

/// The query heads that share a key head are laid out as if they were successive tokens of it: one
/// product per key head, not one per query head.
fn step(
    qkv: &Projections,
    core: &Core,
    scale: f32,
    cache: &mut KvCache,
    column: usize,
    mask: Option<&Array>,
) -> Result<Array> {
    let (batch, heads, width) = (qkv.queries.dim(1), qkv.queries.dim(2), qkv.queries.dim(3));
    let kv_heads = qkv.keys.dim(2);
    let queries = qkv.queries.reshape(&[batch, kv_heads, heads / kv_heads, width])?;
    let keys = qkv.keys.reshape(&[batch, kv_heads, 1, width])?;
    let values = qkv.values.reshape(&[batch, kv_heads, 1, width])?;
    cache.write(0, column, &keys, &values)?;
    let (keys, values) = cache.up_to(column + 1)?;
    let output = core.masked(&queries, &keys, &values, scale, mask)?;
    Ok(output.reshape(&[1, batch, heads * width])?)
}

/// How softmax(q k) v is computed.
#[derive(Clone, Debug)]
pub(crate) enum Core {
    /// By the device's fused operation.
    Fused,
    /// Spelled out, as MLX would on a CPU too, but with our own softmax and one matrix product for
    /// all query heads that share a key head. The causal masks by row length.
    Spelled { causal: BTreeMap<i32, Array> },
}

impl Core {
    pub fn new(kernels: Kernels, rows: &Rows) -> Self {
        match kernels {
            Kernels::Native => Self::Fused,
            Kernels::Blas => {
                let lengths = rows.lengths().iter().map(|&length| length as i32);
                let masked = lengths.filter(|&length| length > 1);
                Self::Spelled { causal: masked.map(|n| (n, causal_mask(n))).collect() }
            }
        }
    }

    /// One row: queries `[1, heads, t, d]`, keys and values `[1, kv_heads, t, d]`.
    fn causal(&self, q: &Array, k: &Array, v: &Array, scale: f32) -> Result<Array> {
        let Self::Spelled { causal } = self else {
            let mask = (q.dim(2) > 1).then_some(Mask::Causal);
            return Ok(scaled_dot_product_attention(q, k, v, scale, mask, None)?);
        };
        let (heads, length, width) = (q.dim(1), q.dim(2), q.dim(3));
        let (kv_heads, group) = (k.dim(1), heads / k.dim(1));
        let queries = q.reshape(&[1, kv_heads, group * length, width])?;
        let scores = scores(&queries, k, scale)?.reshape(&[kv_heads, group, length, length])?;
        let scores = match causal.get(&length) {
            Some(mask) => scores.add(mask)?,
            None => scores,
        };
        let weights = softmax(&scores)?.reshape(&[1, kv_heads, group * length, length])?;
        Ok(weights.matmul(v)?.reshape(&[1, heads, length, width])?)
    }

    /// Queries `[B, heads, r, d]`, keys and values `[B, heads, n, d]`, a mask that broadcasts to
    /// `[B, heads, r, n]`.
    fn masked(
        &self,
        q: &Array,
        k: &Array,
        v: &Array,
        scale: f32,
        mask: Option<&Array>,
    ) -> Result<Array> {
        match self {
            Self::Fused => {
                Ok(scaled_dot_product_attention(q, k, v, scale, mask.map(Mask::Array), None)?)
            }
            Self::Spelled { .. } => {
                let scores = scores(q, k, scale)?;
                let scores = match mask {
                    Some(mask) => scores.add(mask)?,
                    None => scores,
                };
                Ok(softmax(&scores)?.matmul(v)?)
            }
        }
    }
}

fn scores(queries: &Array, keys: &Array, scale: f32) -> Result<Array> {
    let queries = queries.multiply(Array::from_f32(scale))?;
    Ok(queries.matmul(keys.swap_axes(-1, -2)?)?)
}

fn causal_mask(length: i32) -> Array {
    let row = |i: i32| (0..length).map(move |j| if j <= i { 0.0 } else { HIDDEN });
    Array::from_iter((0..length).flat_map(row), &[length, length])
}
