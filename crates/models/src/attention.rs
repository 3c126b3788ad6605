//! The attention core: who sees whom, given rotated queries, keys and values.

use mlx_rs::fast::{ScaledDotProductAttentionMask as Mask, scaled_dot_product_attention};
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, ops};

use crate::cache::{Cache, KvCache, State};
use crate::fused::softmax;
use crate::layer::Batch;
use crate::linear::Kernels;
use crate::{Result, Rows};

/// Added to the score of what must not be seen. Finite, so that a difference of two is a number.
pub(crate) const HIDDEN: f32 = -1e30;

/// What a layer attends to, and what it remembers.
pub(crate) enum Attend<'a> {
    /// Every token sees its own row up to itself. Nothing is remembered.
    Rows,
    /// The same, and what a layer remembers of each row is kept, for other rows to begin with.
    Beginnings { kept: &'a mut Vec<Beginning> },
    /// The same after a beginning, for the rows that have one; and what a layer remembers of the rows
    /// goes into the cache: row `i` of the batch becomes row `first + i` of it and ends before column
    /// `width`.
    Prompts {
        cache: &'a mut Cache,
        first: usize,
        width: usize,
        beginnings: &'a [Option<&'a Beginning>],
    },
    /// Every row has one token, which sees the cache up to and including its own `column`, where
    /// `mask` (`[B, 1, 1, column + 1]`, added to the scores) lets it.
    Step { cache: &'a mut Cache, column: usize, mask: Option<&'a Array> },
}

/// What a layer remembers of a row's first tokens.
#[derive(Clone, Debug)]
pub(crate) enum Beginning {
    Keys(Seen),
    State(State),
}

impl Beginning {
    /// The arrays it consists of.
    pub fn arrays(&self) -> [&Array; 2] {
        match self {
            Self::Keys(Seen { keys, values }) => [keys, values],
            Self::State(state) => state.arrays(),
        }
    }
}

/// The keys and values `[1, kv_heads, t, d]` of a row, or of its first tokens.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub keys: Array,
    pub values: Array,
}

/// What distinguishes the attention of one layer from that of another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// What scores are multiplied by.
    pub scale: f32,
    /// How many tokens each one sees, itself included; all before it without a window.
    pub window: Option<usize>,
    /// Whose keys and values these are.
    pub keys: Keys,
}

/// Whose keys and values a layer looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// Its own, which it remembers.
    Own,
    /// Those of an earlier layer, which has put them into the cache already.
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
    batch: &Batch,
    look: Look,
    attend: Attend<'_>,
) -> Result<Array> {
    match attend {
        Attend::Rows => by_run(qkv, batch, look),
        Attend::Beginnings { kept } => by_row(qkv, batch, look, &[], |_, row| {
            if look.keys == Keys::Own {
                kept.push(Beginning::Keys(row.clone()));
            }
            Ok(())
        }),
        Attend::Prompts { cache, first, width, beginnings } => {
            let cache = cache.keys()?;
            by_row(qkv, batch, look, beginnings, |index, row| {
                let length = row.keys.dim(2) as usize;
                match look.keys {
                    Keys::Own => cache.write(first + index, width - length, &row.keys, &row.values),
                    Keys::Shared => Ok(()),
                }
            })
        }
        Attend::Step { cache, column, mask } => {
            step(qkv, &batch.core, look, cache.keys()?, column, mask)
        }
    }
}

/// A row this short costs more to ask for than to compute.
const SHORT: usize = 128;

/// Rows by themselves, as [`by_row`], but short ones of about one length side by side, so that their
/// operations are asked for once. What fills them up comes after all that their tokens see.
fn by_run(qkv: &Projections, batch: &Batch, look: Look) -> Result<Array> {
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

/// Where pieces of these lengths end, but for the last.
fn ends(lengths: impl Iterator<Item = usize>) -> Vec<i32> {
    let mut ends: Vec<i32> = lengths
        .scan(0, |end, length| {
            *end += length as i32;
            Some(*end)
        })
        .collect();
    ends.pop();
    ends
}

/// Each row by itself: cost grows with the sum of the squares of the lengths, where one masked
/// block for all rows would pay for the square of the sum.
fn by_row(
    qkv: &Projections,
    batch: &Batch,
    look: Look,
    beginnings: &[Option<&Beginning>],
    mut remember: impl FnMut(usize, &Seen) -> Result<()>,
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
    for (index, ((q, keys), values)) in queries.iter().zip(keys).zip(values).enumerate() {
        let own = Seen { keys, values };
        let (row, output) = match beginnings.get(index) {
            Some(Some(Beginning::Keys(beginning))) => {
                let row = beginning.followed_by(&own)?;
                let output = batch.core.after(q, &row.keys, &row.values, look)?;
                (row, output)
            }
            _ => {
                let output = batch.core.row(q, &own.keys, &own.values, look)?;
                (own, output)
            }
        };
        remember(index, &row)?;
        outputs.push(output);
    }
    let joined = ops::concatenate(&outputs, 2)?.transpose_axes(&[0, 2, 1, 3])?;
    Ok(joined.flatten(2, -1)?)
}

impl Seen {
    fn followed_by(&self, own: &Self) -> Result<Self> {
        Ok(Self {
            keys: ops::concatenate(&[&self.keys, &own.keys], 2)?,
            values: ops::concatenate(&[&self.values, &own.values], 2)?,
        })
    }
}

/// The query heads that share a key head are laid out as if they were successive tokens of it: one
/// product per key head, not one per query head.
fn step(
    qkv: &Projections,
    core: &Core,
    look: Look,
    cache: &mut KvCache,
    column: usize,
    mask: Option<&Array>,
) -> Result<Array> {
    let (batch, heads, width) = (qkv.queries.dim(1), qkv.queries.dim(2), qkv.queries.dim(3));
    let kv_heads = qkv.keys.dim(2);
    let queries = qkv.queries.reshape(&[batch, kv_heads, heads / kv_heads, width])?;
    if look.keys == Keys::Own {
        let keys = qkv.keys.reshape(&[batch, kv_heads, 1, width])?;
        let values = qkv.values.reshape(&[batch, kv_heads, 1, width])?;
        cache.write(0, column, &keys, &values)?;
    }
    // All rows end at the same column, so the same columns are in every row's window.
    let first = look.window.map_or(0, |window| (column + 1).saturating_sub(window));
    let (keys, values) = cache.columns(first..column + 1)?;
    let mask = match mask {
        Some(mask) if first > 0 => Some(mask.try_index((.., .., .., first as i32..))?),
        mask => mask.cloned(),
    };
    let output = core.weighted(&queries, &keys, &values, look.scale, mask.as_ref())?;
    Ok(output.reshape(&[1, batch, heads * width])?)
}

/// Queries that look at everything before them, at a time: bounds the scores of a long row.
pub(crate) const TILE: i32 = 512;

/// How softmax(q k) v is computed, and the masks of one micro-batch.
#[derive(Clone, Debug)]
pub(crate) struct Core {
    kernels: Kernels,
    /// What the last tile of the longest row sees: hides from each query the keys after its own.
    /// Other tiles see columns of it. None where the fused operation needs none.
    causal: Option<Array>,
    /// What a block of a window's length sees of the block before it and of itself, `[w, 2w]`;
    /// where a row is longer than the window.
    band: Option<Array>,
}

impl Core {
    /// For rows of these lengths, in a model some of whose layers may look through a `window`.
    pub fn new(kernels: Kernels, rows: &Rows, window: Option<usize>) -> Result<Self> {
        let longest = rows.lengths().iter().copied().max().unwrap_or_default();
        let mut core = Self { kernels, causal: None, band: None };
        if kernels == Kernels::Blas && longest > 1 {
            let longest = longest as i32;
            let before = (longest - 1) / TILE * TILE;
            let tile = longest.min(TILE);
            core.causal = Some(mask(tile, before + tile, |i, j| j <= before + i));
        }
        if let Some(w) = window.filter(|&window| window < longest).map(|window| window as i32) {
            core.band = Some(mask(w, 2 * w, |i, j| i < j && j <= i + w).as_dtype(kernels.dtype())?);
        }
        Ok(core)
    }

    /// Rows of one length: queries `[B, heads, t, d]`, keys and values `[B, kv_heads, t, d]`.
    fn row(&self, q: &Array, k: &Array, v: &Array, look: Look) -> Result<Array> {
        match (look.window, &self.band) {
            (Some(window), Some(band)) if (q.dim(2) as usize) > window => {
                self.blocks(q, k, v, look.scale, band)
            }
            _ => self.causal(q, k, v, look.scale),
        }
    }

    /// A row longer than the window, in blocks of the window's length: each sees the block before
    /// it and itself, so that time and memory grow with the length, not with its square.
    fn blocks(&self, q: &Array, k: &Array, v: &Array, scale: f32, band: &Array) -> Result<Array> {
        let (length, window) = (q.dim(2), band.dim(0));
        let cuts: Vec<i32> = (window..length).step_by(window as usize).collect();
        let split = |array: &Array| array.split_at_indices(&cuts, 2);
        let (q, k, v) = (split(q)?, split(k)?, split(v)?);
        let mut outputs = Vec::with_capacity(q.len());
        let mut before: Option<[&Array; 2]> = None;
        for ((q, k), v) in q.iter().zip(&k).zip(&v) {
            outputs.push(match before {
                None => self.causal(q, k, v, scale)?,
                Some([earlier_k, earlier_v]) => {
                    let mask = band.try_index((..q.dim(2), ..window + q.dim(2)))?;
                    let keys = ops::concatenate(&[earlier_k, k], 2)?;
                    let values = ops::concatenate(&[earlier_v, v], 2)?;
                    self.masked(q, &keys, &values, scale, &mask)?
                }
            });
            before = Some([k, v]);
        }
        Ok(ops::concatenate(&outputs, 2)?)
    }

    /// The last tokens of a row, after a beginning: queries `[1, heads, t, d]`, keys and values
    /// `[1, kv_heads, n, d]` of the whole row.
    fn after(&self, q: &Array, k: &Array, v: &Array, look: Look) -> Result<Array> {
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

    /// Each of `t` queries `[1, heads, t, d]` sees the keys before its own, and its own.
    fn causal(&self, q: &Array, k: &Array, v: &Array, scale: f32) -> Result<Array> {
        let length = q.dim(2);
        if self.kernels == Kernels::Native {
            let mask = (length > 1).then_some(Mask::Causal);
            return Ok(scaled_dot_product_attention(q, k, v, scale, mask, None)?);
        }
        if length <= TILE {
            return grouped(q, k, v, scale, self.tile_mask(0, length)?.as_ref());
        }
        let cuts: Vec<i32> = (TILE..length).step_by(TILE as usize).collect();
        let mut outputs = Vec::with_capacity(cuts.len() + 1);
        for (q, start) in q.split_at_indices(&cuts, 2)?.iter().zip((0..).step_by(TILE as usize)) {
            let seen = (.., .., ..start + q.dim(2), ..);
            let (k, v) = (k.try_index(seen)?, v.try_index(seen)?);
            let mask = self.tile_mask(start, q.dim(2))?;
            outputs.push(grouped(q, &k, &v, scale, mask.as_ref())?);
        }
        Ok(ops::concatenate(&outputs, 2)?)
    }

    /// The mask of so many queries that come after `start` others of their row.
    fn tile_mask(&self, start: i32, queries: i32) -> Result<Option<Array>> {
        match &self.causal {
            // A single query is the last, and sees everything.
            Some(causal) if queries > 1 => {
                let first = causal.dim(1) - causal.dim(0) - start;
                let columns = first..first + start + queries;
                Ok(Some(causal.try_index((..queries, columns))?))
            }
            _ => Ok(None),
        }
    }

    /// Queries `[1, heads, t, d]`, keys and values `[1, kv_heads, n, d]`, mask `[t, n]`.
    fn masked(&self, q: &Array, k: &Array, v: &Array, scale: f32, mask: &Array) -> Result<Array> {
        match self.kernels {
            Kernels::Native => {
                Ok(scaled_dot_product_attention(q, k, v, scale, Some(Mask::Array(mask)), None)?)
            }
            Kernels::Blas => grouped(q, k, v, scale, Some(mask)),
        }
    }

    /// Queries `[B, heads, r, d]`, keys and values `[B, heads, n, d]`, a mask that broadcasts to
    /// `[B, heads, r, n]`.
    fn weighted(
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
fn grouped(q: &Array, k: &Array, v: &Array, scale: f32, mask: Option<&Array>) -> Result<Array> {
    let (rows, heads, length, width) = (q.dim(0), q.dim(1), q.dim(2), q.dim(3));
    let (kv_heads, seen) = (k.dim(1), k.dim(2));
    let group = heads / kv_heads;
    let queries = q.reshape(&[rows, kv_heads, group * length, width])?;
    let scores = queries.matmul(k.swap_axes(-1, -2)?)?;
    let scores = scores.reshape(&[rows * kv_heads, group, length, seen])?;
    let weights = softmax(&scores, scale, mask)?;
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
