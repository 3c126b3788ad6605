//! The attention core: who sees whom, given rotated queries, keys and values.

mod core;
mod runs;
mod tiles;

use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, ops};

use crate::Result;
use crate::nn::cache::{Cache, KvCache, State};
use crate::model::layer::Batch;

pub(crate) use core::{Core, HIDDEN, scores_at_once, scores_kept};
use runs::by_run;

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
