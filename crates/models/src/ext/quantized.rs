//! Products with packed matrices, in every encoding that MLX has.

use std::ffi::CStr;

use mlx_rs::{Array, Stream};
use mlx_sys::mlx_optional_int;

use super::call::filled;
use crate::Result;

/// A packed matrix `[.., out, in]` and its encoding, in MLX's terms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packed<'a> {
    pub values: &'a Array,
    pub scales: &'a Array,
    /// Only of affine quantization.
    pub biases: Option<&'a Array>,
    pub group_size: i32,
    pub bits: i32,
    pub mode: &'static CStr,
}

/// `x W^T`, or `x W` unless `transposed`.
pub(crate) fn quantized_matmul(x: &Array, w: Packed<'_>, transposed: bool) -> Result<Array> {
    let stream = Stream::thread_local_or_default();
    // SAFETY: all handles are valid; a null array means none.
    filled(|result| unsafe {
        mlx_sys::mlx_quantized_matmul(
            result,
            x.as_ptr(),
            w.values.as_ptr(),
            w.scales.as_ptr(),
            w.biases.map_or(mlx_sys::mlx_array_new(), Array::as_ptr),
            transposed,
            some(w.group_size),
            some(w.bits),
            w.mode.as_ptr(),
            stream.as_ref().as_ptr(),
        )
    })
}

/// `x W_i^T` for the matrix `i = chosen[..]` of a stack; `sorted` if these indices ascend.
pub(crate) fn gather_qmm(x: &Array, w: Packed<'_>, chosen: &Array, sorted: bool) -> Result<Array> {
    let stream = Stream::thread_local_or_default();
    // SAFETY: as above.
    filled(|result| unsafe {
        let none = mlx_sys::mlx_array_new();
        mlx_sys::mlx_gather_qmm(
            result,
            x.as_ptr(),
            w.values.as_ptr(),
            w.scales.as_ptr(),
            w.biases.map_or(none, Array::as_ptr),
            none,
            chosen.as_ptr(),
            true,
            some(w.group_size),
            some(w.bits),
            w.mode.as_ptr(),
            sorted,
            stream.as_ref().as_ptr(),
        )
    })
}

fn some(value: i32) -> mlx_optional_int {
    mlx_optional_int { value, has_value: true }
}
