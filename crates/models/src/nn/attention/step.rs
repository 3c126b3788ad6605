//! Attention of one token of each row to its cache: a step of decoding.

use std::ops::Range;

use mlx_rs::Array;
use mlx_rs::ops::indexing::TryIndexOp;
use rayon::prelude::*;

use super::{AttentionKernel, AttentionSpec, KeySource, Projections};
use crate::Result;
use crate::ext::cpu_op;
use crate::nn::KvCache;

/// Multiplications that are worth waking another core.
const PARALLEL: usize = 1 << 19;

/// One token of each row. The query heads that share a key head are laid out like consecutive tokens of it.
pub(super) fn step(
    qkv: &Projections,
    kernel: &AttentionKernel,
    spec: AttentionSpec,
    cache: &mut KvCache,
    columns: Range<usize>,
    mask: Option<&Array>,
) -> Result<Array> {
    let (batch, heads, width) = (qkv.queries.dim(1), qkv.queries.dim(2), qkv.queries.dim(3));
    let kv_heads = qkv.keys.dim(2);
    let queries = qkv.queries.reshape(&[batch, kv_heads, heads / kv_heads, width])?;
    if spec.keys == KeySource::Own {
        let keys = qkv.keys.reshape(&[batch, kv_heads, 1, width])?;
        let values = qkv.values.reshape(&[batch, kv_heads, 1, width])?;
        cache.write(0, columns.end - 1, &keys, &values)?;
    }
    // All rows end at the same column, so the same columns are in every row's window.
    let outside = spec.window.map_or(0, |window| columns.len().saturating_sub(window));
    let columns = columns.start + outside..columns.end;
    let mask = match mask {
        Some(mask) if outside > 0 => Some(mask.try_index((.., .., .., outside as i32..))?),
        mask => mask.cloned(),
    };
    let output = if kernel.backend().fuses(&queries) {
        fused(&queries, cache, columns, spec.scale, mask.as_ref())?
    } else {
        let (keys, values) = cache.columns(batch as usize, columns)?;
        kernel.weighted(&queries, &keys, &values, spec.scale, mask.as_ref())?
    };
    Ok(output.reshape(&[1, batch, heads * width])?)
}

/// One operation, which reads keys and values where they are cached.
fn fused(
    queries: &Array,
    cache: &KvCache,
    columns: Range<usize>,
    scale: f32,
    mask: Option<&Array>,
) -> Result<Array> {
    let [keys, values] = cache.arrays();
    let heads = Heads {
        of_a_row: queries.dim(1) as usize,
        queries: queries.dim(2) as usize,
        width: queries.dim(3) as usize,
        held: keys.dim(2) as usize,
        columns: cache.places(columns),
        scale,
    };
    let shape = [queries.shape()];
    let [output] = match mask {
        Some(mask) => cpu_op([queries, keys, values, mask], shape, move |[q, k, v, m], [y]| {
            heads.attend([q, k, v], Some(m), y);
        }),
        None => cpu_op([queries, keys, values], shape, move |[q, k, v], [y]| {
            heads.attend([q, k, v], None, y);
        }),
    }?;
    Ok(output)
}

/// The key heads of a batch of rows.
struct Heads {
    of_a_row: usize,
    /// That share a key head.
    queries: usize,
    width: usize,
    /// Columns of the cache.
    held: usize,
    /// Those that are attended to.
    columns: Range<usize>,
    scale: f32,
}

impl Heads {
    /// Queries and output `[rows, heads, queries, width]`, keys and values `[.., heads, held, width]` of at least so many
    /// rows, mask `[rows, columns]`.
    fn attend(
        &self,
        [queries, keys, values]: [&[f32]; 3],
        mask: Option<&[f32]>,
        output: &mut [f32],
    ) {
        let (size, seen) = (self.queries * self.width, self.columns.len());
        if size == 0 || self.of_a_row == 0 {
            return;
        }
        let room = || vec![0.0; self.queries * seen];
        let head = |weights: &mut Vec<f32>,
                    (index, (queries, output)): (usize, (&[f32], &mut [f32]))| {
            let start = (index * self.held + self.columns.start) * self.width;
            let place = start..start + seen * self.width;
            let [keys, values] =
                [keys, values].map(|cached| cached.get(place.clone()).unwrap_or_default());
            let row = index / self.of_a_row;
            let attention = kernels::Attention {
                queries,
                keys,
                values,
                mask: mask.and_then(|mask| mask.get(row * seen..(row + 1) * seen)),
                scale: self.scale,
                width: self.width,
            };
            kernels::attend(attention, weights, output);
        };
        if queries.len() * seen < PARALLEL {
            let heads = queries.chunks_exact(size).zip(output.chunks_exact_mut(size)).enumerate();
            let mut weights = room();
            heads.for_each(|one| head(&mut weights, one));
        } else {
            let heads = queries.par_chunks_exact(size).zip(output.par_chunks_exact_mut(size));
            heads.enumerate().for_each_init(room, |weights, one| head(weights, one));
        }
    }
}
