use std::ops::Range;

use mlx_rs::ops::indexing::{TryIndexMutOp, TryIndexOp};
use mlx_rs::{Array, Dtype, ops, transforms};

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

/// What a layer caches of the first tokens of a row.
#[derive(Clone, Debug)]
pub(crate) enum Prefix {
    Keys(KeyValues),
    State(RecurrentState),
}

impl Prefix {
    /// The arrays it consists of.
    pub fn arrays(&self) -> [&Array; 2] {
        match self {
            Self::Keys(KeyValues { keys, values }) => [keys, values],
            Self::State(state) => state.arrays(),
        }
    }

    /// A copy that shares no buffer with arrays of other rows.
    pub fn detached(&self) -> Result<Self> {
        Ok(match self {
            Self::Keys(KeyValues { keys, values }) => {
                Self::Keys(KeyValues { keys: copy(keys)?, values: copy(values)? })
            }
            Self::State(RecurrentState { inputs, state }) => {
                Self::State(RecurrentState { inputs: copy(inputs)?, state: copy(state)? })
            }
        })
    }
}

/// A copy with a buffer of its own.
fn copy(array: &Array) -> Result<Array> {
    let copy = array.contiguous()?;
    transforms::eval([&copy])?;
    Ok(copy)
}

/// The keys and values `[1, kv_heads, t, d]` of a row, or of its first tokens.
#[derive(Clone, Debug)]
pub(crate) struct KeyValues {
    pub keys: Array,
    pub values: Array,
}

impl KeyValues {
    /// These columns, then those of `own`.
    pub fn followed_by(&self, own: &Self) -> Result<Self> {
        Ok(Self {
            keys: ops::concatenate(&[&self.keys, &own.keys], 2)?,
            values: ops::concatenate(&[&self.values, &own.values], 2)?,
        })
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

    /// A cache without rows and columns, which [`reserve`](Self::reserve) makes room in.
    pub fn without_rows(shape: CacheShape, dtype: Dtype) -> Result<Self> {
        Ok(match shape {
            CacheShape::Keys { kv_heads, head_dim, .. } => {
                Self::Keys(KvCache::new([0, kv_heads as i32, 0, head_dim as i32], 0, dtype)?)
            }
            CacheShape::State(shape) => Self::State(RecurrentState::new(shape, 0, dtype)?),
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

    /// Makes room for one more token of each of so many rows: in these columns, of which the last is
    /// that token's.
    pub fn reserve(&mut self, shape: CacheShape, rows: usize, columns: Range<usize>) -> Result<()> {
        match (self, shape) {
            (Self::Keys(cache), CacheShape::Keys { window, .. }) => {
                cache.reserve(rows, columns, window)
            }
            _ => Ok(()),
        }
    }

    /// Writes a row behind the last of `rows` rows, ending before column `end`. There must be
    /// [room](Self::reserve) for it.
    pub fn push(&mut self, rows: usize, row: &Prefix, end: usize) -> Result<()> {
        match (self, row) {
            (Self::Keys(cache), Prefix::Keys(KeyValues { keys, values })) => {
                cache.write(rows, end - keys.dim(2) as usize, keys, values)
            }
            (Self::State(state), Prefix::State(row)) => {
                *state = RecurrentState::joined(&[state.clone(), row.clone()])?;
                Ok(())
            }
            (Self::Keys(_), _) => Err(wrong_kind("keys and values")),
            (Self::State(_), _) => Err(wrong_kind("a state")),
        }
    }

    /// Removes one of `rows` rows; the last one takes its place.
    pub fn swap_remove(&mut self, row: usize, rows: usize) -> Result<()> {
        match self {
            Self::Keys(cache) if row + 1 < rows => cache.replace_by_last(row, rows),
            Self::Keys(_) => Ok(()),
            Self::State(state) => {
                let mut kept: Vec<u32> = (0..rows as u32).collect();
                kept.swap_remove(row);
                state.keep(&Array::from_slice(&kept, &[kept.len() as i32]))
            }
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

/// The columns to hold for so many in use: half as many again, and at least 64.
fn grown(columns: usize) -> usize {
    (columns + columns / 2).max(64)
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

    /// Where these columns are held.
    pub fn places(&self, columns: Range<usize>) -> Range<usize> {
        columns.start.saturating_sub(self.first)..columns.end.saturating_sub(self.first)
    }

    /// These columns of the first `rows` rows.
    pub fn columns(&self, rows: usize, columns: Range<usize>) -> Result<(Array, Array)> {
        let places = self.places(columns);
        let view = (..rows as i32, .., places.start as i32..places.end as i32, ..);
        Ok((self.keys.try_index(view.clone())?, self.values.try_index(view)?))
    }

    /// Makes room for so many rows and these columns, within the window if there is one; what is held
    /// of them stays. Room for further ones is added, so that arrays are seldom copied.
    fn reserve(&mut self, rows: usize, columns: Range<usize>, window: Option<usize>) -> Result<()> {
        let start = columns.start.max(columns.end.saturating_sub(window.unwrap_or(columns.end)));
        let (held_rows, held) = (self.keys.dim(0) as usize, self.held());
        let fits = self.first <= start && columns.end <= self.first + held;
        if fits && rows <= held_rows {
            return Ok(());
        }
        let rows = if rows > held_rows { rows.next_power_of_two() } else { held_rows };
        let needed = columns.end - start;
        // Dropping the columns before `start` frees at least a quarter, or a third is added.
        let size = if needed * 4 <= held * 3 { held } else { grown(needed) };
        let old = start.max(self.first)..columns.end.min(self.first + held);
        for array in [&mut self.keys, &mut self.values] {
            let shape = [rows as i32, array.dim(1), size as i32, array.dim(3)];
            let mut larger = ops::zeros_dtype(&shape, array.dtype())?;
            if !old.is_empty() && held_rows > 0 {
                let place = |column: usize, first: usize| (column - first) as i32;
                let from = place(old.start, self.first)..place(old.end, self.first);
                let to = place(old.start, start)..place(old.end, start);
                let kept = array.try_index((.., .., from, ..))?;
                larger.try_index_mut((..held_rows as i32, .., to, ..), kept)?;
            }
            *array = larger;
        }
        self.first = start;
        Ok(())
    }

    /// Copies the last of `rows` rows over this one.
    fn replace_by_last(&mut self, row: usize, rows: usize) -> Result<()> {
        let (row, last) = (row as i32, rows as i32 - 1);
        for array in [&mut self.keys, &mut self.values] {
            // A view of the last row would keep the update from being done in place.
            let last = copy(&array.try_index(last..last + 1)?)?;
            array.try_index_mut(row..row + 1, last)?;
        }
        Ok(())
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
