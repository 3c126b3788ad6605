use std::ops::Range;

use mlx_rs::ops::indexing::{TryIndexMutOp, TryIndexOp};
use mlx_rs::{Array, Dtype, ops};

use crate::Result;

/// The keys and values one layer remembers for a batch of rows: `[rows, kv_heads, columns, d]`.
///
/// All rows end at the same column, so that a step of the whole batch writes one column. A prompt
/// shorter than the longest leaves columns before it unused; the step's mask hides them.
#[derive(Debug)]
pub(crate) struct KvCache {
    keys: Array,
    values: Array,
}

/// The size of a [`KvCache`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct CacheShape {
    pub rows: usize,
    pub kv_heads: usize,
    pub columns: usize,
    pub head_dim: usize,
    pub dtype: Dtype,
}

impl KvCache {
    /// An empty cache.
    pub fn new(shape: CacheShape) -> Result<Self> {
        let CacheShape { rows, kv_heads, columns, head_dim, dtype } = shape;
        let dims = [rows as i32, kv_heads as i32, columns as i32, head_dim as i32];
        Ok(Self { keys: ops::zeros_dtype(&dims, dtype)?, values: ops::zeros_dtype(&dims, dtype)? })
    }

    /// Writes `[n, kv_heads, t, d]` at the given row and column. MLX does it in place, because no
    /// one else holds the arrays.
    pub fn write(&mut self, row: usize, column: usize, keys: &Array, values: &Array) -> Result<()> {
        let rows = row as i32..row as i32 + keys.dim(0);
        let columns = column as i32..column as i32 + keys.dim(2);
        self.keys.try_index_mut((rows.clone(), .., columns.clone(), ..), keys)?;
        self.values.try_index_mut((rows, .., columns, ..), values)?;
        Ok(())
    }

    /// These columns of all rows.
    pub fn columns(&self, columns: Range<usize>) -> Result<(Array, Array)> {
        let view = (.., .., columns.start as i32..columns.end as i32, ..);
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
