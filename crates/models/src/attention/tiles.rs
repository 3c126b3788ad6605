//! Attention of a long row, tile by tile.
//!
//! The scores of a tile exist while it is computed, and are computed again for its gradient: memory
//! grows with the length of the row, not with its square (Dao et al., "FlashAttention", 2022, at the
//! level of matrix products).

use mlx_rs::error::Exception;
use mlx_rs::{Array, ops, transforms};

use super::core::Core;
use crate::Result;
use crate::beyond::{self, Differentiable, after};

/// Some queries of a row, and the keys that they may see.
pub(super) struct Tile {
    /// The first of the keys; the last is the tile's own last.
    pub first: i32,
    /// The first of the queries.
    pub start: i32,
    /// `[queries, keys]`, added to the scores.
    pub mask: Array,
}

/// How a row is computed. Tiles lie one behind the other, and their keys begin where a tile does.
pub(super) struct Tiled {
    pub core: Core,
    pub scale: f32,
    pub tiles: Vec<Tile>,
}

/// Queries `[B, heads, t, d]`, keys and values `[B, kv_heads, t, d]`.
pub(super) fn tiled(how: Tiled, qkv: [&Array; 3]) -> Result<Array> {
    let qkv = qkv.map(Array::clone);
    beyond::apply(how, &qkv)?.pop().ok_or_else(wrong_arrays)
}

impl Tiled {
    /// Queries, keys and values, cut where the tiles are.
    fn cut(&self, qkv: &[Array]) -> Result<[Vec<Array>; 3]> {
        let cuts: Vec<i32> = self.tiles.iter().skip(1).map(|tile| tile.start).collect();
        let cut = |array: &Array| array.split_at_indices(&cuts, 2);
        match qkv {
            [q, k, v] => Ok([cut(q)?, cut(k)?, cut(v)?]),
            _ => Err(wrong_arrays()),
        }
    }

    /// Where among the tiles the keys of the `index`th begin.
    fn first(&self, index: usize) -> usize {
        let first = self.tiles[index].first;
        self.tiles.partition_point(|tile| tile.start < first)
    }

    /// A tile's output, from its own cut of the queries and those of keys and values it sees.
    fn one(&self, tile: &Tile, q: &Array, keys: &[Array], values: &[Array]) -> Result<Array> {
        let (k, v) = (ops::concatenate(keys, 2)?, ops::concatenate(values, 2)?);
        self.core.masked(q, &k, &v, self.scale, &tile.mask)
    }
}

impl Differentiable for Tiled {
    fn forward(&self, inputs: &[Array]) -> Result<Vec<Array>> {
        let [q, k, v] = self.cut(inputs)?;
        let mut outputs: Vec<Array> = Vec::with_capacity(q.len());
        for (index, tile) in self.tiles.iter().enumerate() {
            let seen = self.first(index)..index + 1;
            // One after the other, so that the scores of one tile are in memory.
            let q = after(&q[index], outputs.last().map_or(&[], std::slice::from_ref))?;
            outputs.push(self.one(tile, &q, &k[seen.clone()], &v[seen])?);
        }
        Ok(vec![ops::concatenate(&outputs, 2)?])
    }

    fn backward(&self, inputs: &[Array], to: &[Array], _: &[Array]) -> Result<Vec<Array>> {
        let [to] = to else { return Err(wrong_arrays()) };
        let [q, k, v] = self.cut(inputs)?;
        let cuts: Vec<i32> = self.tiles.iter().skip(1).map(|tile| tile.start).collect();
        let to = to.split_at_indices(&cuts, 2)?;
        let mut sums = [vec![None; k.len()], vec![None; v.len()]];
        let mut queries: Vec<Array> = Vec::with_capacity(q.len());
        // All that the tile before came to: of what it was made from nothing must wait.
        let mut done: Vec<Array> = Vec::new();
        for (index, tile) in self.tiles.iter().enumerate() {
            let seen = self.first(index)..index + 1;
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
                        Some(sum) => add(&sum, gradient)?,
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

fn add(a: &Array, b: Array) -> Result<Array> {
    Ok(a.add(b)?)
}

fn wrong_arrays() -> crate::Error {
    Exception::custom("a function with other arrays than its own").into()
}
