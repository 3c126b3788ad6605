//! Gathering hidden states at positions, and scattering gradients back.

use mlx_rs::ops::zeros_dtype;
use mlx_rs::{Array, transforms};

use crate::Result;

/// The hidden states `[1, T, H]` at these positions, `[n, H]`.
pub(super) fn at(hidden: &Array, positions: &[u32]) -> Result<Array> {
    let flat = hidden.reshape(&[-1, hidden.dim(-1)])?;
    let indices = Array::from_slice(positions, &[positions.len() as i32]);
    Ok(flat.take_axis(indices, 0)?)
}

/// A gradient at these positions as that of all hidden states.
pub(super) fn scattered(gradient: Array, positions: &[u32], hidden: &Array) -> Result<Array> {
    let tokens = hidden.size() / hidden.dim(-1).max(1) as usize;
    let scattered = scatter_add(gradient, positions, tokens)?;
    Ok(scattered.reshape(hidden.shape())?.as_dtype(hidden.dtype())?)
}

/// Adds `rows` `[n, d]` into zeros `[total, d]` at these `n` indices.
pub(super) fn scatter_add(rows: Array, indices: &[u32], total: usize) -> Result<Array> {
    // mlx-rs has no scatter-add, but it is the gradient of a gather.
    let indices = Array::from_slice(indices, &[indices.len() as i32]);
    let sums = zeros_dtype(&[total as i32, rows.dim(-1)], rows.dtype())?;
    let gather = |sums: &[Array]| Ok(vec![sums[0].take_axis(&indices, 0)?]);
    let (_, mut sums) = transforms::fallible_vjp(gather, &[sums], &[rows])?;
    Ok(sums.remove(0))
}
