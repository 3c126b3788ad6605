//! Computes `softmax(scale * q k^T + mask) v`: short rows in one piece, long rows in tiles.

use std::sync::Arc;

use mlx_rs::fast::{ScaledDotProductAttentionMask as Mask, scaled_dot_product_attention};
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, ops};

use super::AttentionSpec;
use super::masked::{mask, masked};
use super::tiled::{Tile, Tiled, tiled};
use crate::Result;
use crate::backend::Backend;
use crate::ext::fused::softmax;
use crate::nn::{Activations, Rows};

/// Queries in a tile, at most.
const TILE: i32 = 512;

/// How attention of one micro-batch is computed: its rows, and their masks.
#[derive(Clone, Debug)]
pub(crate) struct AttentionKernel {
    backend: Backend,
    rows: Arc<Rows>,
    /// For layers without a window. `None` where MLX's operation needs no mask array.
    full: Option<MaskTile>,
    /// For layers with a window, if a row is longer than the window.
    window: Option<MaskTile>,
}

/// The mask of a tile of queries.
#[derive(Clone, Debug)]
struct MaskTile {
    /// `[size, before + size]`, added to the scores of the keys of the tile and of the `before` tokens
    /// in front of it.
    mask: Array,
    /// Queries in the tile.
    size: i32,
    before: i32,
}

impl MaskTile {
    /// For rows of up to `longest` tokens, each of which attends to the last `window`.
    fn new(longest: i32, window: i32, backend: Backend) -> Result<Self> {
        let size = longest.min(window).min(TILE);
        let last = (longest - 1) / size * size;
        // Whole tiles, so that keys and queries are split at the same positions.
        let before = last.min(((window - 1) as u32).div_ceil(size as u32) as i32 * size);
        let sees = |i, j| j - before <= i && i - (j - before) < window;
        let mask = mask(size, before + size, sees).as_dtype(backend.dtype())?;
        Ok(Self { mask, size, before })
    }

    /// The tile of `queries` queries from position `start` of their row on: its first key and its mask.
    fn at(&self, start: i32, queries: i32) -> Result<Tile> {
        let first = (start - self.before).max(0);
        let columns = self.before - (start - first)..self.before + queries;
        let mask = self.mask.try_index((..queries, columns))?;
        Ok(Tile { first: (first / self.size) as usize, start, mask })
    }
}

/// The scores of attention with so many heads in a row of this length. A row in one piece keeps them
/// for the backward pass: `heads * length` per query. A longer one has those of one tile at a time.
pub(crate) fn scores(heads: usize, length: usize, window: Option<usize>) -> Activations {
    let window = window.unwrap_or(length).min(length);
    let tile = window.min(TILE as usize);
    if length <= tile {
        Activations { kept_per_token: heads * length, at_once: 0 }
    } else {
        Activations { kept_per_token: 0, at_once: heads * tile * length.min(window + tile) }
    }
}

impl AttentionKernel {
    /// For these rows, in a model of which some layers may have a `window`.
    pub fn new(backend: Backend, rows: &Rows, window: Option<usize>) -> Result<Self> {
        let longest = rows.lengths().iter().copied().max().unwrap_or_default();
        let window = window.filter(|&window| window < longest);
        let longest = longest as i32;
        let full = (!backend.is_native() && longest > 1)
            .then(|| MaskTile::new(longest, longest, backend))
            .transpose()?;
        let window = window.map(|size| MaskTile::new(longest, size as i32, backend)).transpose()?;
        Ok(Self { backend, rows: Arc::new(rows.clone()), full, window })
    }

    /// Where it is computed.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// The layout of the rows.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// Rows of one length: queries `[B, heads, t, d]`, keys and values `[B, kv_heads, t, d]`.
    pub fn row(&self, q: &Array, k: &Array, v: &Array, spec: AttentionSpec) -> Result<Array> {
        let length = q.dim(2);
        let tile = match (spec.window, &self.window) {
            (Some(window), Some(tile)) if length as usize > window => Some(tile),
            _ => self.full.as_ref(),
        };
        let Some(tile) = tile else {
            let mask = (length > 1).then_some(Mask::Causal);
            return Ok(scaled_dot_product_attention(q, k, v, spec.scale, mask, None)?);
        };
        if length <= tile.size {
            return masked(self.backend, [q, k, v], spec.scale, &tile.at(0, length)?.mask);
        }
        let starts = (0..length).step_by(tile.size as usize);
        let tiles = starts.map(|start| tile.at(start, tile.size.min(length - start)));
        let tiles = tiles.collect::<Result<_>>()?;
        tiled(Tiled { backend: self.backend, scale: spec.scale, tiles }, [q, k, v])
    }

    /// The tokens of a row after a prefix: queries `[1, heads, t, d]` of these tokens, keys and values
    /// `[1, kv_heads, n, d]` of the whole row.
    pub fn after(&self, q: &Array, k: &Array, v: &Array, spec: AttentionSpec) -> Result<Array> {
        let (own, seen) = (q.dim(2), k.dim(2));
        let window = spec.window.map_or(seen, |window| window as i32);
        if self.backend.is_native() && window >= seen {
            // MLX aligns the last query with the last key.
            let mask = (own > 1).then_some(Mask::Causal);
            return Ok(scaled_dot_product_attention(q, k, v, spec.scale, mask, None)?);
        }
        let cuts: Vec<i32> = (TILE..own).step_by(TILE as usize).collect();
        let mut outputs = Vec::with_capacity(cuts.len() + 1);
        for (q, start) in q.split_at_indices(&cuts, 2)?.iter().zip((0..).step_by(TILE as usize)) {
            let before = seen - own + start;
            let sees = |i, j| j <= before + i && before + i - j < window;
            let mask = mask(q.dim(2), seen, sees).as_dtype(self.backend.dtype())?;
            outputs.push(masked(self.backend, [q, k, v], spec.scale, &mask)?);
        }
        Ok(ops::concatenate(&outputs, 2)?)
    }

    /// Queries `[B, heads, r, d]`, keys and values `[B, heads, n, d]`, a mask that broadcasts to
    /// `[B, heads, r, n]`.
    pub fn weighted(
        &self,
        q: &Array,
        k: &Array,
        v: &Array,
        scale: f32,
        mask: Option<&Array>,
    ) -> Result<Array> {
        if self.backend.is_native() {
            return Ok(scaled_dot_product_attention(q, k, v, scale, mask.map(Mask::Array), None)?);
        }
        let scores = q.matmul(k.swap_axes(-1, -2)?)?;
        Ok(softmax(self.backend, &scores, scale, mask)?.matmul(v)?)
    }
}

#[cfg(test)]
mod tests {
    use mlx_rs::{Array, random, transforms};

    use super::super::KeySource;
    use super::*;
    use crate::backend::Kernels;

    fn noise(seed: u64, shape: &[i32]) -> Array {
        let key = random::key(seed).unwrap();
        random::normal::<f32>(shape, None, None, &key).unwrap()
    }

    /// Values and gradients agree with MLX's own operation and a single mask: rows within a tile or a
    /// window, at its edge and beyond, alone and with a longer one.
    #[test]
    fn tiles_and_blocks_make_the_whole() {
        let backend = Backend::choose(Some(Kernels::Blas)).unwrap();
        for (length, window) in [
            (1, None),
            (2, Some(1)),
            (7, Some(3)),
            (9, Some(3)),
            (40, Some(64)),
            (64, Some(64)),
            (513, None),
            (560, Some(530)),
        ] {
            let heads = |seed, count| noise(seed, &[1, count, length, 4]);
            let qkv = [heads(1, 4), heads(2, 2), heads(3, 2)];
            let spec = AttentionSpec { scale: 0.7, window, keys: KeySource::Own };
            let sees = |i, j| j <= i && window.is_none_or(|window| i - j < window as i32);
            let hidden = mask(length, length, sees);
            let whole = |x: &[Array]| {
                let mask = Some(Mask::Array(&hidden));
                Ok(vec![scaled_dot_product_attention(&x[0], &x[1], &x[2], 0.7, mask, None)?])
            };
            let cotangent = heads(4, 4);
            let run = |f: &dyn Fn(&[Array]) -> mlx_rs::error::Result<Vec<Array>>| {
                let (y, dx) =
                    transforms::fallible_vjp(f, &qkv, std::slice::from_ref(&cotangent)).unwrap();
                [y, dx].concat()
            };
            let expected = run(&whole);
            for longest in [length as usize, length as usize + 515] {
                let rows = Rows::new([length as usize, longest]).unwrap();
                let kernel = AttentionKernel::new(backend, &rows, window).unwrap();
                let found = run(&|x| Ok(vec![kernel.row(&x[0], &x[1], &x[2], spec)?]));
                for (found, expected) in found.iter().zip(&expected) {
                    // Sums of up to 560 terms in f32, in another order.
                    let close = found.all_close(expected, 1e-4, 1e-5, None).unwrap();
                    assert!(close, "{length} tokens, window {window:?}");
                }
            }
        }
    }
}
