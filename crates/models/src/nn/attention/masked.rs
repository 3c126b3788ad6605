use mlx_rs::Array;
use mlx_rs::fast::{ScaledDotProductAttentionMask as Mask, scaled_dot_product_attention};

use crate::Result;
use crate::backend::Backend;
use crate::ext::fused::softmax;

/// Added to the scores of masked keys. Finite, so that the difference of two is not NaN.
pub(crate) const MASKED: f32 = -1e30;

/// Queries `[B, heads, t, d]`, keys and values `[B, kv_heads, n, d]`, mask `[t, n]`.
///
/// On a CPU the same operations as MLX's, but with the fused softmax and one matrix product for all
/// query heads that share a key head.
pub(super) fn masked(
    backend: Backend,
    [q, k, v]: [&Array; 3],
    scale: f32,
    mask: &Array,
) -> Result<Array> {
    if backend.is_native() {
        return Ok(scaled_dot_product_attention(q, k, v, scale, Some(Mask::Array(mask)), None)?);
    }
    let (rows, heads, length, width) = (q.dim(0), q.dim(1), q.dim(2), q.dim(3));
    let (kv_heads, seen) = (k.dim(1), k.dim(2));
    let group = heads / kv_heads;
    let queries = q.reshape(&[rows, kv_heads, group * length, width])?;
    let scores = queries.matmul(k.swap_axes(-1, -2)?)?;
    let scores = scores.reshape(&[rows * kv_heads, group, length, seen])?;
    let weights = softmax(backend, &scores, scale, Some(mask))?;
    let weights = weights.reshape(&[rows, kv_heads, group * length, seen])?;
    Ok(weights.matmul(v)?.reshape(&[rows, heads, length, width])?)
}

/// `[rows, columns]`: 0 where query `i` attends to key `j`, else [`MASKED`].
pub(super) fn mask(rows: i32, columns: i32, sees: impl Fn(i32, i32) -> bool + Copy) -> Array {
    let row = |i: i32| (0..columns).map(move |j| if sees(i, j) { 0.0 } else { MASKED });
    Array::from_iter((0..rows).flat_map(row), &[rows, columns])
}
