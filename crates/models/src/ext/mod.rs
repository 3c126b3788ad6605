//! What mlx-rs lacks: custom gradients, CPU operations in Rust, evaluation order, fused elementwise
//! operations, small float formats, products with them. The one place of this crate that calls mlx-c itself.

mod call;
mod cpu_op;
mod custom_vjp;
mod device;
mod distributed;
pub(crate) mod float_format;
pub(crate) mod fused;
mod packed_product;
mod quantized;

pub(crate) use call::wrong_arrays;
pub(crate) use cpu_op::{cpu_op, cpu_op_of_words};
pub(crate) use custom_vjp::{Differentiable, apply, apply_one, is_differentiated, recomputed};
pub(crate) use device::{recommended_memory, wire_memory};
pub(crate) use distributed::{Collective, ConnectedGroup};
pub(crate) use packed_product::PackedWeight;
pub(crate) use quantized::{Packed, gather_qmm, quantized_matmul};

use mlx_rs::{Array, Stream};

use crate::Result;
use crate::backend::Backend;
use call::ArrayList;

/// `array`, not evaluated before `others`: limits what is in memory at one time.
pub(crate) fn after(array: &Array, others: &[Array]) -> Result<Array> {
    depends(std::slice::from_ref(array), others)?.pop().ok_or_else(wrong_arrays)
}

/// `arrays`, none of them evaluated before `others`.
fn depends(arrays: &[Array], others: &[Array]) -> Result<Vec<Array>> {
    let (arrays, others) = (ArrayList::of(arrays), ArrayList::of(others));
    // SAFETY: all handles are valid.
    ArrayList::filled(|out| unsafe { mlx_sys::mlx_depends(out, arrays.handle(), others.handle()) })
}

/// Whether the device has a kernel for [`gated_delta_update`]: Metal has. Elsewhere MLX computes the
/// rule token by token.
pub(crate) fn has_gated_delta_kernel(backend: Backend) -> bool {
    if backend.is_cpu() || !backend.is_native() {
        return false;
    }
    let mut available = false;
    // SAFETY: the pointer is valid for the call.
    let status = unsafe { mlx_sys::mlx_metal_is_available(&mut available) };
    status == 0 && available
}

/// MLX's own gated delta rule: queries and keys `[B, T, Hk, Dk]`, values `[B, T, Hv, Dv]`, decay and
/// beta `[B, T, Hv]`, state `[B, Hv, Dv, Dk]`. Returns the output and the final state.
pub(crate) fn gated_delta_update(inputs: [&Array; 6]) -> Result<[Array; 2]> {
    let [queries, keys, values, decay, beta, state] = inputs.map(Array::as_ptr);
    let stream = Stream::thread_local_or_default();
    // SAFETY: all handles are valid; a null mask means none.
    let outputs = ArrayList::filled(|out| unsafe {
        let none = mlx_sys::mlx_array_new();
        let stream = stream.as_ref().as_ptr();
        mlx_sys::mlx_fast_gated_delta_update(
            out, queries, keys, values, decay, beta, state, none, stream,
        )
    })?;
    outputs.try_into().map_err(|_| wrong_arrays())
}
