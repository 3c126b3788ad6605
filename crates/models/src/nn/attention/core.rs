//! How softmax(q k) v is computed: in one piece where the row is short, in tiles where it is long.

use mlx_rs::fast::{ScaledDotProductAttentionMask as Mask, scaled_dot_product_attention};
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, ops};

use super::Look;
use super::tiles::{Tile, Tiled, tiled};
use crate::ext::fused::softmax;
use crate::nn::linear::Kernels;
use crate::{Result, Rows};

/// Added to the score of what must not be seen. Finite, so that a difference of two is a number.
pub(crate) const HIDDEN: f32 = -1e30;

/// Queries of a tile, at most.
const TILE: i32 = 512;

/// How softmax(q k) v is computed, and the masks of one micro-batch.
#[derive(Clone, Debug)]
pub(crate) struct Core {
    kernels: Kernels,
    /// For layers that look back at everything. None where the fused operation needs no mask.
    all: Option<Band>,
    /// For layers that look back through a window; where a row is longer than that.
    window: Option<Band>,
}

/// Who sees whom in a tile of queries.
#[derive(Clone, Debug)]
struct Band {
    /// `[tile, before + tile]`: what hides from each query of a tile the keys of the `before` tokens
    /// in front of the tile, and of the tile itself.
    mask: Array,
    tile: i32,
    before: i32,
}

impl Band {
    /// For rows of up to `longest` tokens, each of which sees the last `window`.
    fn new(longest: i32, window: i32, kernels: Kernels) -> Result<Self> {
        let tile = longest.min(window).min(TILE);
        let last = (longest - 1) / tile * tile;
        // Whole tiles, so that keys are cut where queries are.
        let before = last.min(((window - 1) as u32).div_ceil(tile as u32) as i32 * tile);
        let sees = |i, j| j - before <= i && i - (j - before) < window;
        let mask = mask(tile, before + tile, sees).as_dtype(kernels.dtype())?;
        Ok(Self { mask, tile, before })
    }

    /// What `queries` queries that come after `start` others of their row see: from which key on, and
    /// the mask.
    fn tile(&self, start: i32, queries: i32) -> Result<Tile> {
        let first = (start - self.before).max(0);
        let columns = self.before - (start - first)..self.before + queries;
        let mask = self.mask.try_index((..queries, columns))?;
        Ok(Tile { first: (first / self.tile) as usize, start, mask })
    }
}

/// Scores of each query that a layer with so many heads keeps for the backward pass, in a row of
/// this length: those of a row in one piece.
pub(crate) fn scores_kept(heads: usize, length: usize, window: Option<usize>) -> usize {
    if length <= window.unwrap_or(length).min(TILE as usize) { heads * length } else { 0 }
}

/// Scores that exist at one time in a longer row, those of a tile.
pub(crate) fn scores_at_once(heads: usize, length: usize, window: Option<usize>) -> usize {
    let window = window.unwrap_or(length).min(length);
    let tile = window.min(TILE as usize);
    if length <= tile { 0 } else { heads * tile * length.min(window + tile) }
}

impl Core {
    /// For rows of these lengths, in a model some of whose layers may look through a `window`.
    pub fn new(kernels: Kernels, rows: &Rows, window: Option<usize>) -> Result<Self> {
        let longest = rows.lengths().iter().copied().max().unwrap_or_default();
        let window = window.filter(|&window| window < longest);
        let longest = longest as i32;
        let all = (kernels == Kernels::Blas && longest > 1)
            .then(|| Band::new(longest, longest, kernels))
            .transpose()?;
        let window = window.map(|window| Band::new(longest, window as i32, kernels)).transpose()?;
        Ok(Self { kernels, all, window })
    }

    /// Rows of one length: queries `[B, heads, t, d]`, keys and values `[B, kv_heads, t, d]`.
    pub fn row(&self, q: &Array, k: &Array, v: &Array, look: Look) -> Result<Array> {
        let length = q.dim(2);
        let band = match (look.window, &self.window) {
            (Some(window), Some(band)) if length as usize > window => Some(band),
            _ => self.all.as_ref(),
        };
        let Some(band) = band else {
            let mask = (length > 1).then_some(Mask::Causal);
            return Ok(scaled_dot_product_attention(q, k, v, look.scale, mask, None)?);
        };
        if length <= band.tile {
            return self.masked(q, k, v, look.scale, &band.tile(0, length)?.mask);
        }
        let starts = (0..length).step_by(band.tile as usize);
        let tiles = starts.map(|start| band.tile(start, band.tile.min(length - start)));
        let tiles = tiles.collect::<Result<_>>()?;
        tiled(Tiled { core: self.clone(), scale: look.scale, tiles }, [q, k, v])
    }

    /// The last tokens of a row, after a beginning: queries `[1, heads, t, d]`, keys and values
    /// `[1, kv_heads, n, d]` of the whole row.
    pub fn after(&self, q: &Array, k: &Array, v: &Array, look: Look) -> Result<Array> {
        let (own, seen) = (q.dim(2), k.dim(2));
        let window = look.window.map_or(seen, |window| window as i32);
        let cuts: Vec<i32> = (TILE..own).step_by(TILE as usize).collect();
        let mut outputs = Vec::with_capacity(cuts.len() + 1);
        for (q, start) in q.split_at_indices(&cuts, 2)?.iter().zip((0..).step_by(TILE as usize)) {
            let before = seen - own + start;
            let sees = |i, j| j <= before + i && before + i - j < window;
            let mask = mask(q.dim(2), seen, sees).as_dtype(self.kernels.dtype())?;
            outputs.push(self.masked(q, k, v, look.scale, &mask)?);
        }
        Ok(ops::concatenate(&outputs, 2)?)
    }

    /// Queries `[B, heads, t, d]`, keys and values `[B, kv_heads, n, d]`, mask `[t, n]`.
    pub fn masked(
        &self,
        q: &Array,
        k: &Array,
        v: &Array,
        scale: f32,
        mask: &Array,
    ) -> Result<Array> {
        match self.kernels {
            Kernels::Native => {
                Ok(scaled_dot_product_attention(q, k, v, scale, Some(Mask::Array(mask)), None)?)
            }
            Kernels::Blas => grouped(q, k, v, scale, mask),
        }
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
        match self.kernels {
            Kernels::Native => {
                Ok(scaled_dot_product_attention(q, k, v, scale, mask.map(Mask::Array), None)?)
            }
            Kernels::Blas => {
                let scores = q.matmul(k.swap_axes(-1, -2)?)?;
                Ok(softmax(&scores, scale, mask)?.matmul(v)?)
            }
        }
    }
}

/// Spelled out, as MLX would on a CPU too, but with our own softmax and one matrix product for all
/// query heads that share a key head.
fn grouped(q: &Array, k: &Array, v: &Array, scale: f32, mask: &Array) -> Result<Array> {
    let (rows, heads, length, width) = (q.dim(0), q.dim(1), q.dim(2), q.dim(3));
    let (kv_heads, seen) = (k.dim(1), k.dim(2));
    let group = heads / kv_heads;
    let queries = q.reshape(&[rows, kv_heads, group * length, width])?;
    let scores = queries.matmul(k.swap_axes(-1, -2)?)?;
    let scores = scores.reshape(&[rows * kv_heads, group, length, seen])?;
    let weights = softmax(&scores, scale, Some(mask))?;
    let weights = weights.reshape(&[rows, kv_heads, group * length, seen])?;
    Ok(weights.matmul(v)?.reshape(&[rows, heads, length, width])?)
}

/// Zero where query `i` of `rows` sees key `j` of `columns`.
fn mask(rows: i32, columns: i32, sees: impl Fn(i32, i32) -> bool + Copy) -> Array {
    let row = |i: i32| (0..columns).map(move |j| if sees(i, j) { 0.0 } else { HIDDEN });
    Array::from_iter((0..rows).flat_map(row), &[rows, columns])
}

#[cfg(test)]
mod tests {
    use mlx_rs::{Array, random, transforms};

    use super::super::Keys;
    use super::*;

    fn noise(seed: u64, shape: &[i32]) -> Array {
        let key = random::key(seed).unwrap();
        random::normal::<f32>(shape, None, None, &key).unwrap()
    }

    /// Values and gradients against MLX's own operation with one mask for the whole row: rows
    /// within a tile or a window, at its edge and beyond, alone and beside a longer one.
    #[test]
    fn tiles_and_blocks_make_the_whole() {
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
            let look = Look { scale: 0.7, window, keys: Keys::Own };
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
                let core = Core::new(Kernels::Blas, &rows, window).unwrap();
                let found = run(&|x| Ok(vec![core.row(&x[0], &x[1], &x[2], look)?]));
                for (found, expected) in found.iter().zip(&expected) {
                    // Sums of up to 560 terms in f32, in another order.
                    let close = found.all_close(expected, 1e-4, 1e-5, None).unwrap();
                    assert!(close, "{length} tokens, window {window:?}");
                }
            }
        }
    }
}
