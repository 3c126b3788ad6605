//! Attention of a long row, tile by tile.
//!
//! The scores of a tile exist while it is computed, and are recomputed for its gradient: memory grows
//! with the length of the row, not with its square (Dao et al., "FlashAttention", 2022, at the level
//! of matrix products).

use mlx_rs::{Array, ops, transforms};

use super::masked::masked;
use crate::Result;
use crate::backend::Backend;
use crate::ext::{Differentiable, after, apply_one, wrong_arrays};

/// Consecutive queries of a row, and the keys they attend to.
pub(super) struct Tile {
    /// Index of the first tile whose keys these are; the last is this tile.
    pub first: usize,
    /// Position of the first query.
    pub start: i32,
    /// `[queries, keys]`, added to the scores.
    pub mask: Array,
}

/// How a row is computed. Tiles are consecutive.
pub(super) struct Tiled {
    pub backend: Backend,
    pub scale: f32,
    pub tiles: Vec<Tile>,
}

/// Queries `[B, heads, t, d]`, keys and values `[B, kv_heads, t, d]`.
pub(super) fn tiled(how: Tiled, qkv: [&Array; 3]) -> Result<Array> {
    apply_one(how, &qkv)
}

impl Tiled {
    /// Splits an array of the whole row into tiles.
    fn cut(&self, array: &Array) -> Result<Vec<Array>> {
        let cuts: Vec<i32> = self.tiles.iter().skip(1).map(|tile| tile.start).collect();
        Ok(array.split_at_indices(&cuts, 2)?)
    }

    /// The output of a tile, from its queries and the tiles of keys and values it attends to.
    fn one(&self, tile: &Tile, q: &Array, keys: &[Array], values: &[Array]) -> Result<Array> {
        let (k, v) = (ops::concatenate(keys, 2)?, ops::concatenate(values, 2)?);
        masked(self.backend, [q, &k, &v], self.scale, &tile.mask)
    }
}

impl Differentiable for Tiled {
    fn forward(&self, inputs: &[Array]) -> Result<Vec<Array>> {
        let [q, k, v] = inputs else { return Err(wrong_arrays()) };
        let (q, k, v) = (self.cut(q)?, self.cut(k)?, self.cut(v)?);
        let mut outputs: Vec<Array> = Vec::with_capacity(q.len());
        for (index, tile) in self.tiles.iter().enumerate() {
            let seen = tile.first..index + 1;
            // One after the other, so that only one tile's scores are in memory.
            let q = after(&q[index], outputs.last().map_or(&[], std::slice::from_ref))?;
            outputs.push(self.one(tile, &q, &k[seen.clone()], &v[seen])?);
        }
        Ok(vec![ops::concatenate(&outputs, 2)?])
    }

    fn backward(&self, inputs: &[Array], to: &[Array], _: &[Array]) -> Result<Vec<Array>> {
        let ([q, k, v], [to]) = (inputs, to) else { return Err(wrong_arrays()) };
        let (q, k, v, to) = (self.cut(q)?, self.cut(k)?, self.cut(v)?, self.cut(to)?);
        let mut sums: [Vec<Option<Array>>; 2] = [vec![None; k.len()], vec![None; v.len()]];
        let mut queries: Vec<Array> = Vec::with_capacity(q.len());
        // Forces the previous tile's gradients before this tile starts, so that only one tile's scores
        // are alive.
        let mut done: Vec<Array> = Vec::new();
        for (index, tile) in self.tiles.iter().enumerate() {
            let seen = tile.first..index + 1;
            let count = seen.len();
            let mut primals = vec![after(&q[index], &done)?];
            primals.extend(k[seen.clone()].iter().chain(&v[seen.clone()]).cloned());
            let function = |arrays: &[Array]| {
                let (q, rest) = arrays.split_first().ok_or_else(wrong_arrays)?;
                let (keys, values) = rest.split_at(count);
                Ok(vec![self.one(tile, q, keys, values)?])
            };
            let (_, gradients) =
                transforms::fallible_vjp(function, &primals, std::slice::from_ref(&to[index]))?;
            let mut gradients = gradients.into_iter();
            queries.extend(gradients.next());
            done = queries.last().cloned().into_iter().collect();
            for sums in &mut sums {
                for (sum, gradient) in sums[seen.clone()].iter_mut().zip(gradients.by_ref()) {
                    *sum = Some(match sum.take() {
                        Some(sum) => sum.add(gradient)?,
                        None => gradient,
                    });
                    done.extend(sum.clone());
                }
            }
        }
        let whole = |parts: Vec<Array>| ops::concatenate(&parts, 2);
        let [keys, values] = sums.map(|sums| whole(sums.into_iter().flatten().collect()));
        Ok(vec![whole(queries)?, keys?, values?])
    }
}
