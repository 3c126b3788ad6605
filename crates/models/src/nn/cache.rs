use std::ops::Range;

use mlx_rs::ops::indexing::{TryIndexMutOp, TryIndexOp};
use mlx_rs::{Array, Dtype, ops};

use crate::{Error, Result};

/// What a layer caches of each row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CacheShape {
    /// Keys and values, of all tokens or of those within a window.
    Keys { kv_heads: usize, head_dim: usize, window: Option<usize> },
    /// A state of a size that does not depend on the number of tokens.
    State(StateShape),
}

/// The shape of a [`RecurrentState`] of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StateShape {
    /// The last inputs of a convolution, `[n, channels]`.
    pub inputs: [usize; 2],
    /// `[heads, Dv, Dk]`.
    pub state: [usize; 3],
}

impl CacheShape {
    /// Bytes of a row of so many tokens, with values of `value_bytes`.
    pub fn bytes(self, tokens: usize, value_bytes: usize) -> usize {
        match self {
            Self::Keys { kv_heads, head_dim, window } => {
                2 * kv_heads * head_dim * held(tokens, window) * value_bytes
            }
            Self::State(StateShape { inputs, state }) => {
                inputs.iter().product::<usize>() * value_bytes
                    + state.iter().product::<usize>() * size_of::<f32>()
            }
        }
    }
}

/// How many of `columns` columns are held: with a window, 1.5 times its size, so that they need not be
/// moved at each step.
fn held(columns: usize, window: Option<usize>) -> usize {
    window.map_or(columns, |window| columns.min(window + window.div_ceil(2)))
}

/// The columns of a batch whose prompts end before column `width`: column `i` holds a token of every row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Columns {
    pub width: usize,
    /// With those of generated tokens, at most.
    pub total: usize,
}

/// What one layer caches of a batch of rows.
#[derive(Debug)]
pub(crate) enum Cache {
    Keys(KvCache),
    State(RecurrentState),
}

impl Cache {
    /// An empty cache for so many rows.
    pub fn new(shape: CacheShape, rows: usize, columns: Columns, dtype: Dtype) -> Result<Self> {
        Ok(match shape {
            CacheShape::Keys { kv_heads, head_dim, window } => {
                let held = held(columns.total, window);
                let first = match window {
                    Some(window) if held < columns.total => columns.width.saturating_sub(window),
                    _ => 0,
                };
                let shape = [rows, kv_heads, held, head_dim].map(|size| size as i32);
                Self::Keys(KvCache::new(shape, first, dtype)?)
            }
            CacheShape::State(shape) => Self::State(RecurrentState::new(shape, rows, dtype)?),
        })
    }

    /// The cache of an attention layer.
    pub fn keys(&mut self) -> Result<&mut KvCache> {
        match self {
            Self::Keys(cache) => Ok(cache),
            Self::State(_) => Err(wrong_kind("keys and values")),
        }
    }

    /// The state of a recurrent layer.
    pub fn state(&mut self) -> Result<&mut RecurrentState> {
        match self {
            Self::State(state) => Ok(state),
            Self::Keys(_) => Err(wrong_kind("a state")),
        }
    }

    /// Keeps only the given rows.
    pub fn keep(&mut self, rows: &Array) -> Result<()> {
        match self {
            Self::Keys(cache) => cache.keep(rows),
            Self::State(state) => state.keep(rows),
        }
    }

    /// The arrays it consists of.
    pub fn arrays(&self) -> [&Array; 2] {
        match self {
            Self::Keys(cache) => cache.arrays(),
            Self::State(state) => state.arrays(),
        }
    }
}

fn wrong_kind(expected: &str) -> Error {
    Error::Argument { name: "cache", expected: expected.into(), found: "another kind".into() }
}

/// The state of a recurrent layer for a batch of rows. Its size does not depend on their lengths.
#[derive(Clone, Debug)]
pub(crate) struct RecurrentState {
    /// The last inputs of the convolution, `[rows, n, channels]`.
    pub inputs: Array,
    /// `[rows, heads, Dv, Dk]`, f32.
    pub state: Array,
}

impl RecurrentState {
    /// The state before the first token.
    pub fn new(shape: StateShape, rows: usize, dtype: Dtype) -> Result<Self> {
        let [n, channels] = shape.inputs.map(|size| size as i32);
        let [heads, value_dim, key_dim] = shape.state.map(|size| size as i32);
        Ok(Self {
            inputs: ops::zeros_dtype(&[rows as i32, n, channels], dtype)?,
            state: ops::zeros::<f32>(&[rows as i32, heads, value_dim, key_dim])?,
        })
    }

    /// The states of several rows from those of single rows.
    pub fn joined(rows: &[Self]) -> Result<Self> {
        let join = |pick: fn(&Self) -> &Array| {
            ops::concatenate(&rows.iter().map(pick).collect::<Vec<_>>(), 0)
        };
        Ok(Self { inputs: join(|row| &row.inputs)?, state: join(|row| &row.state)? })
    }

    /// The reverse of [`joined`](Self::joined).
    pub fn by_row(&self) -> Result<Vec<Self>> {
        let rows = self.state.dim(0);
        let inputs = self.inputs.split_equal(rows, 0)?;
        let states = self.state.split_equal(rows, 0)?;
        Ok(inputs.into_iter().zip(states).map(|(inputs, state)| Self { inputs, state }).collect())
    }

    /// Writes the rows of `other` from row `first` on.
    pub fn write(&mut self, first: usize, other: &Self) -> Result<()> {
        let rows = first as i32..first as i32 + other.state.dim(0);
        self.inputs.try_index_mut(rows.clone(), &other.inputs)?;
        self.state.try_index_mut(rows, &other.state)?;
        Ok(())
    }

    fn keep(&mut self, rows: &Array) -> Result<()> {
        self.inputs = self.inputs.take_axis(rows, 0)?;
        self.state = self.state.take_axis(rows, 0)?;
        Ok(())
    }

    /// The arrays it consists of.
    pub fn arrays(&self) -> [&Array; 2] {
        [&self.inputs, &self.state]
    }
}

/// The keys and values of one layer for a batch of rows: `[rows, kv_heads, columns, d]`.
///
/// All rows end at the same column, so that a step of the whole batch writes one column. A prompt
/// shorter than the longest leaves columns before it unused, which the mask hides. Where only some
/// columns are held, they are the last ones.
#[derive(Debug)]
pub(crate) struct KvCache {
    keys: Array,
    values: Array,
    /// The first column that is held.
    first: usize,
}

impl KvCache {
    /// An empty cache of this shape, whose first column is `first`.
    fn new(shape: [i32; 4], first: usize, dtype: Dtype) -> Result<Self> {
        let empty = || ops::zeros_dtype(&shape, dtype);
        Ok(Self { keys: empty()?, values: empty()?, first })
    }

    /// Writes `[n, kv_heads, t, d]` at the given row and column, as far as these columns are held. MLX
    /// does it in place, because nothing else refers to the arrays.
    pub fn write(&mut self, row: usize, column: usize, keys: &Array, values: &Array) -> Result<()> {
        let end = column + keys.dim(2) as usize;
        let missing = end.saturating_sub(self.first + self.held());
        if missing > 0 {
            // A third at a time, so that columns are moved seldom.
            self.drop_oldest(missing.max(self.held() / 3))?;
        }
        let dropped = self.first.saturating_sub(column) as i32;
        if dropped >= keys.dim(2) {
            return Ok(());
        }
        let rows = row as i32..row as i32 + keys.dim(0);
        let from = column.saturating_sub(self.first) as i32;
        let columns = from..(end - self.first) as i32;
        let kept = (.., .., dropped.., ..);
        let target = (rows, .., columns, ..);
        self.keys.try_index_mut(target.clone(), keys.try_index(kept.clone())?)?;
        self.values.try_index_mut(target, values.try_index(kept)?)?;
        Ok(())
    }

    fn held(&self) -> usize {
        self.keys.dim(2) as usize
    }

    /// Drops so many of the oldest columns, and adds as many empty ones.
    fn drop_oldest(&mut self, columns: usize) -> Result<()> {
        let count = columns.min(self.held()) as i32;
        for array in [&mut self.keys, &mut self.values] {
            let (oldest, rest) = (array.try_index((.., .., ..count, ..))?, (.., .., count.., ..));
            *array = ops::concatenate(&[array.try_index(rest)?, ops::zeros_like(oldest)?], 2)?;
        }
        self.first += count as usize;
        Ok(())
    }

    /// These columns of all rows.
    pub fn columns(&self, columns: Range<usize>) -> Result<(Array, Array)> {
        let place = |column: usize| column.saturating_sub(self.first) as i32;
        let view = (.., .., place(columns.start)..place(columns.end), ..);
        Ok((self.keys.try_index(view.clone())?, self.values.try_index(view)?))
    }

    /// Keeps only the given rows.
    pub fn keep(&mut self, rows: &Array) -> Result<()> {
        self.keys = self.keys.take_axis(rows, 0)?;
        self.values = self.values.take_axis(rows, 0)?;
        Ok(())
    }

    /// The arrays it consists of.
    pub fn arrays(&self) -> [&Array; 2] {
        [&self.keys, &self.values]
    }
}
