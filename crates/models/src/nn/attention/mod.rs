//! Attention over rows of a micro-batch, given rotated queries, keys and values: in training, prefill
//! and decoding.

mod kernel;
mod masked;
mod runs;
mod step;
mod tiled;

use std::ops::Range;

use mlx_rs::{Array, ops};

use crate::Result;
use crate::nn::cache::KeyValues;
use crate::nn::{Cache, Prefix};

pub(crate) use kernel::{AttentionKernel, scores};
pub(crate) use masked::MASKED;
use runs::by_run;
use step::step;

/// What a layer attends to, and what it caches.
pub(crate) enum AttentionMode<'a> {
    /// Every token attends to its own row up to itself. Nothing is cached.
    Rows,
    /// The same after the prefix `before`, for the rows that have one. What a layer caches of each row,
    /// prefix included, is kept in `kept`, as a prefix of other rows or of the row's next tokens.
    Prefixes { before: &'a [Option<&'a Prefix>], kept: &'a mut Vec<Prefix> },
    /// The same after a prefix, for the rows that have one. What a layer caches of the rows goes into
    /// the cache: row `i` of the batch becomes its row `first + i` and ends before column `width`.
    Prompts { cache: &'a mut Cache, first: usize, width: usize, prefixes: &'a [Option<&'a Prefix>] },
    /// Every row has one token, which attends to these columns of the cache; the last one is its own.
    /// `mask`, `[B, 1, 1, columns]`, is added to the scores.
    Step { cache: &'a mut Cache, columns: Range<usize>, mask: Option<&'a Array> },
}

/// The attention of one layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttentionSpec {
    /// Scores are multiplied by this.
    pub scale: f32,
    /// How many tokens each one attends to, itself included; without a window, all before it.
    pub window: Option<usize>,
    /// Whose keys and values these are.
    pub keys: KeySource,
}

/// Which layer's keys and values a layer attends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeySource {
    /// Its own, which it caches.
    Own,
    /// Those of an earlier layer, which has cached them already.
    Shared,
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
    kernel: &AttentionKernel,
    spec: AttentionSpec,
    mode: AttentionMode<'_>,
) -> Result<Array> {
    match mode {
        AttentionMode::Rows => by_run(qkv, kernel, spec),
        AttentionMode::Prefixes { before, kept } => by_row(qkv, kernel, spec, before, |_, row| {
            if spec.keys == KeySource::Own {
                kept.push(Prefix::Keys(row.clone()));
            }
            Ok(())
        }),
        AttentionMode::Prompts { cache, first, width, prefixes } => {
            let cache = cache.keys()?;
            by_row(qkv, kernel, spec, prefixes, |index, row| {
                let column = width - row.keys.dim(2) as usize;
                match spec.keys {
                    KeySource::Own => cache.write(first + index, column, &row.keys, &row.values),
                    KeySource::Shared => Ok(()),
                }
            })
        }
        AttentionMode::Step { cache, columns, mask } => {
            step(qkv, kernel, spec, cache.keys()?, columns, mask)
        }
    }
}

/// Each row by itself: the cost is the sum of the squares of the lengths, where one masked block for
/// all rows would cost the square of the sum. `cache` gets each row's keys and values.
fn by_row(
    qkv: &Projections,
    kernel: &AttentionKernel,
    spec: AttentionSpec,
    prefixes: &[Option<&Prefix>],
    mut cache: impl FnMut(usize, &KeyValues) -> Result<()>,
) -> Result<Array> {
    // `split` rather than slices: its gradient is one concatenation, that of a slice an array of
    // the whole batch for every row.
    let split = |array: &Array| -> Result<Vec<Array>> {
        kernel.rows().split(&array.transpose_axes(&[0, 2, 1, 3])?, 2)
    };
    let (queries, keys, values) = (split(&qkv.queries)?, split(&qkv.keys)?, split(&qkv.values)?);
    let mut outputs = Vec::with_capacity(queries.len());
    for (index, ((q, keys), values)) in queries.iter().zip(keys).zip(values).enumerate() {
        let own = KeyValues { keys, values };
        let (row, output) = match prefixes.get(index) {
            Some(Some(Prefix::Keys(prefix))) => {
                let row = prefix.followed_by(&own)?;
                let output = kernel.after(q, &row.keys, &row.values, spec)?;
                (row, output)
            }
            _ => {
                let output = kernel.row(q, &own.keys, &own.values, spec)?;
                (own, output)
            }
        };
        cache(index, &row)?;
        outputs.push(output);
    }
    let joined = ops::concatenate(&outputs, 2)?.transpose_axes(&[0, 2, 1, 3])?;
    Ok(joined.flatten(2, -1)?)
}
