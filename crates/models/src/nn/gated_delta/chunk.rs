//! One chunk of every row and head: `C` tokens as matrix products, forward and backward.
//!
//! Let `c_i` be the sum of log decays up to token `i` of the chunk, `D_ij = exp(c_i - c_j)` for
//! `j <= i`, and `S` the state before the chunk. Token `i` adds `delta_i k_i^T` to the state, where
//! `delta_i` is `beta_i` times the difference of `v_i` and the state's value for `k_i`:
//!
//! ```text
//! (I + A) delta = beta (V - exp(c) K S^T),     A_ij = beta_i (k_i . k_j) D_ij  for j < i
//! Y  = exp(c) Q S^T + (Q K^T * D) delta
//! S' = exp(c_C) S + (exp(c_C - c) delta)^T K
//! ```

use mlx_rs::{Array, ops};

use crate::Result;
use crate::backend::Backend;
use crate::ext::fused::exp;

/// Matrices `[C, C]` of ones and zeros.
pub(super) struct Masks {
    /// On and below the diagonal.
    lower: Array,
    /// Below it.
    strict: Array,
    /// For blocks of 1, 2, 4, .. tokens: the off-diagonal block of each pair of neighbours.
    blocks: Vec<Array>,
    identity: Array,
}

impl Masks {
    /// For chunks of `c` tokens, a power of two.
    pub fn new(c: i32) -> Self {
        let mask = |has: &dyn Fn(i32, i32) -> bool| {
            let ones = (0..c * c).map(|at| if has(at / c, at % c) { 1.0f32 } else { 0.0 });
            Array::from_iter(ones, &[c, c])
        };
        let sizes = (0..).map(|power| 1 << power).take_while(|&size| size < c);
        let block = |size: i32| mask(&|i, j| i / size == j / size + 1 && i / size % 2 == 1);
        Self {
            lower: mask(&|i, j| j <= i),
            strict: mask(&|i, j| j < i),
            blocks: sizes.map(block).collect(),
            identity: mask(&|i, j| i == j),
        }
    }

    /// `(I + a)^-1` for an `a` below the diagonal.
    ///
    /// By block inversion: the inverse of two neighbouring diagonal blocks with inverses `X` and `Z`
    /// has `-Z a X` off the diagonal, so each round doubles the blocks. All entries stay within -1 and
    /// 1, so nothing cancels, as it would in a series of powers of `a`.
    fn inverse(&self, a: &Array) -> Result<Array> {
        let [first, rest @ ..] = self.blocks.as_slice() else { return Ok(self.identity.clone()) };
        let mut inverse = self.identity.subtract(a.multiply(first)?)?;
        for block in rest {
            let between = inverse.matmul(a.multiply(block)?)?.matmul(&inverse)?;
            inverse = inverse.subtract(between)?;
        }
        Ok(inverse)
    }
}

/// The tokens of one chunk.
pub(super) struct Chunk {
    /// `[rows, Hk, 1, C, Dk]`.
    pub queries: Array,
    /// `[rows, Hk, 1, C, Dk]`.
    pub keys: Array,
    /// `[rows, Hk, G, C, Dv]`.
    pub values: Array,
    /// `[rows, Hk, G, C, 1]`.
    pub log_decay: Array,
    /// `[rows, Hk, G, C, 1]`.
    pub beta: Array,
    pub backend: Backend,
}

/// Intermediates of a chunk that both passes compute.
struct Within {
    /// `D`, zero above the diagonal.
    decay: Array,
    /// `exp(c)`, `[.., C, 1]`.
    since_start: Array,
    /// `exp(c_C - c)`, `[.., C, 1]`.
    until_end: Array,
    /// `exp(c_C)`, `[.., 1, 1]`.
    whole: Array,
    /// `K K^T * D` below the diagonal: `A` without `beta`.
    overlap: Array,
    /// `(I + A)^-1`.
    solve: Array,
    /// `K S^T`.
    recalled: Array,
    /// `V - exp(c) K S^T`.
    surprise: Array,
    delta: Array,
}

impl Chunk {
    /// How many rows have this chunk.
    pub fn rows(&self) -> i32 {
        self.values.dim(0)
    }

    fn within(&self, state: &Array, masks: &Masks) -> Result<Within> {
        // A sum for each pair of tokens: differences of running sums would lose small log decays
        // after large ones.
        let spans = self.log_decay.multiply(&masks.strict)?.cumsum(-2, None, None)?;
        let decay = self.decayed(&spans)?.multiply(&masks.lower)?;
        let since_start = self.decayed(&self.log_decay.cumsum(-2, None, None)?)?;
        let until_end = transposed(&last(&decay)?)?;
        let whole = last(&since_start)?;
        let keys = transposed(&self.keys)?;
        let overlap = self.keys.matmul(keys)?.multiply(&masks.strict)?.multiply(&decay)?;
        let solve = masks.inverse(&overlap.multiply(&self.beta)?)?;
        let recalled = self.keys.matmul(transposed(state)?)?;
        let surprise = self.values.subtract(recalled.multiply(&since_start)?)?;
        let delta = solve.matmul(surprise.multiply(&self.beta)?)?;
        Ok(Within {
            decay,
            since_start,
            until_end,
            whole,
            overlap,
            solve,
            recalled,
            surprise,
            delta,
        })
    }

    /// `exp(x)` for a sum of log decays, flushed to 0 below 1e-15: smaller factors do not change the
    /// result, and their products are denormals, which are about 100 times slower.
    fn decayed(&self, x: &Array) -> Result<Array> {
        const LEAST: f32 = -34.5;
        let flushed = x.lt(Array::from_f32(LEAST))?;
        Ok(ops::select(flushed, Array::from_f32(0.0), exp(self.backend, x)?)?)
    }

    fn scores(&self, decay: &Array) -> Result<Array> {
        Ok(self.queries.matmul(transposed(&self.keys)?)?.multiply(decay)?)
    }

    /// The output `[rows, Hk, G, C, Dv]` and the state after the chunk, from the state
    /// `[rows, Hk, G, Dv, Dk]` before it.
    pub fn forward(&self, state: &Array, masks: &Masks) -> Result<(Array, Array)> {
        let Within { decay, since_start, until_end, whole, delta, .. } =
            self.within(state, masks)?;
        let from_state = self.queries.matmul(transposed(state)?)?.multiply(&since_start)?;
        let output = from_state.add(self.scores(&decay)?.matmul(&delta)?)?;
        let added = transposed(&delta.multiply(&until_end)?)?.matmul(&self.keys)?;
        Ok((output, state.multiply(&whole)?.add(added)?))
    }

    /// The gradients of queries, keys, values, log decay and beta, and of the state before the chunk,
    /// given those of the output and of the state after the chunk.
    pub fn backward(
        &self,
        state: &Array,
        output: &Array,
        after: &Array,
        masks: &Masks,
    ) -> Result<([Array; 5], Array)> {
        let Self { queries, keys, beta, .. } = self;
        let w = self.within(state, masks)?;
        let scores = self.scores(&w.decay)?;

        // Through the output and the state after the chunk to `delta`, and through the solve.
        let late_keys = keys.multiply(&w.until_end)?;
        let to_delta = transposed(&scores)?.matmul(output)?;
        let to_delta = to_delta.add(late_keys.matmul(transposed(after)?)?)?;
        let to_right = transposed(&w.solve)?.matmul(&to_delta)?;
        let to_overlap = to_right.matmul(transposed(&w.delta)?)?.negative()?;
        let to_values = to_right.multiply(beta)?;
        let to_scores = output.matmul(transposed(&w.delta)?)?;

        // Terms with the state, scaled as in the forward pass.
        let early_output = output.multiply(&w.since_start)?;
        let early_values = to_values.multiply(&w.since_start)?;
        let output_to_queries = early_output.matmul(state)?;
        let after_to_keys = w.delta.matmul(after)?.multiply(&w.until_end)?;

        // `Q K^T` and `K K^T`, whose gradients all value heads of a key head share.
        let to_products = over_group(&to_scores.multiply(&w.decay)?)?;
        let strict_decay = w.decay.multiply(&masks.strict)?;
        let to_squares = over_group(&to_overlap.multiply(beta)?.multiply(strict_decay)?)?;
        let to_squares = to_squares.add(transposed(&to_squares)?)?;
        let to_queries = over_group(&output_to_queries)?.add(to_products.matmul(keys)?)?;
        let to_keys = after_to_keys.subtract(early_values.matmul(state)?)?;
        let to_keys = over_group(&to_keys)?
            .add(transposed(&to_products)?.matmul(queries)?)?
            .add(to_squares.matmul(keys)?)?;

        let coupled = to_overlap.multiply(&w.overlap)?;
        let to_beta = row_sums(&to_right.multiply(&w.surprise)?)?.add(row_sums(&coupled)?)?;

        // The gradient of a pair of tokens goes to every log decay between them.
        let to_spans = to_scores.multiply(&scores)?.add(coupled.multiply(beta)?)?;
        let to_spans = to_spans.cumsum(-2, true, None)?.multiply(&masks.strict)?;
        // From the start of the chunk; the whole chunk is the span of its last token.
        let to_starts = row_sums(&output_to_queries.multiply(queries)?)?
            .subtract(row_sums(&early_values.multiply(&w.recalled)?)?)?
            .cumsum(-2, true, None)?;
        let to_whole = after.multiply(state)?.sum_axes(&[-1, -2], true)?.multiply(&w.whole)?;
        // To the end of the chunk: all tokens after this one.
        let to_ends = row_sums(&after_to_keys.multiply(keys)?)?.cumsum(-2, None, false)?;
        let to_log_decay = row_sums(&to_spans)?.add(to_starts)?.add(to_whole)?.add(to_ends)?;

        let to_state = after
            .multiply(&w.whole)?
            .add(transposed(&early_output)?.matmul(queries)?)?
            .subtract(transposed(&early_values)?.matmul(keys)?)?;
        Ok(([to_queries, to_keys, to_values, to_log_decay, to_beta], to_state))
    }
}

fn transposed(x: &Array) -> Result<Array> {
    Ok(x.swap_axes(-1, -2)?)
}

/// The last row of each matrix.
fn last(x: &Array) -> Result<Array> {
    let rows = x.dim(-2);
    if rows == 1 {
        return Ok(x.clone());
    }
    Ok(x.split_at_indices(&[rows - 1], -2)?.swap_remove(1))
}

fn row_sums(x: &Array) -> Result<Array> {
    Ok(x.sum_axis(-1, true)?)
}

/// Summed over the value heads of each key head.
fn over_group(x: &Array) -> Result<Array> {
    Ok(if x.dim(2) == 1 { x.clone() } else { x.sum_axis(2, true)? })
}
