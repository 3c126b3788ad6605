//! Operations of MLX's graph that are Rust functions.

use std::array::from_fn;
use std::ffi::c_void;

use mlx_rs::error::Exception;
use mlx_rs::{Array, Dtype, Stream};

use super::call::{ArrayList, wrong_arrays};
use crate::Result;

/// [`cpu_op_of_words`] without words.
pub(crate) fn cpu_op<const I: usize, const O: usize, F>(
    inputs: [&Array; I],
    shapes: [&[i32]; O],
    kernel: F,
) -> Result<[Array; O]>
where
    F: Fn([&[f32]; I], [&mut [f32]; O]) + Send + Sync + 'static,
{
    cpu_op_of_words([], inputs, shapes, move |[], inputs, outputs| kernel(inputs, outputs))
}

/// Arrays of these `shapes` in f32, computed by `kernel` from `words` in u32 and `inputs` in f32 when
/// MLX evaluates them. The kernel sees dense arrays in row-major order. Not differentiable.
///
/// The kernel must write all of an output before it reads any of it, and must not panic: it runs on a
/// thread of MLX, where a panic ends the process.
pub(crate) fn cpu_op_of_words<const W: usize, const I: usize, const O: usize, F>(
    words: [&Array; W],
    inputs: [&Array; I],
    shapes: [&[i32]; O],
    kernel: F,
) -> Result<[Array; O]>
where
    F: Fn([&[u32]; W], [&[f32]; I], [&mut [f32]; O]) + Send + Sync + 'static,
{
    let of = |dtype| move |array: &&Array| array.dtype() == dtype;
    if !(words.iter().all(of(Dtype::Uint32)) && inputs.iter().all(of(Dtype::Float32))) {
        let found: Vec<Dtype> = words.into_iter().chain(inputs).map(Array::dtype).collect();
        let message =
            format!("a CPU kernel: expected {W} arrays of u32 and {I} of f32, found {found:?}");
        return Err(Exception::custom(message).into());
    }
    let inputs: Vec<Array> = words.into_iter().chain(inputs).cloned().collect();
    let inputs = ArrayList::of(&inputs);
    let dims = shapes.map(<[i32]>::len);
    let shapes = shapes.concat();
    let stream = Stream::thread_local_or_default();
    let payload = Box::into_raw(Box::new(kernel)).cast::<c_void>();
    // SAFETY: all handles and lists are valid for the call. The payload is of the type that `run` and
    // `release` cast it back to, may be used by several threads, and is released once.
    let outputs = ArrayList::filled(|outputs| unsafe {
        mlx_sys::mlx_cpu_op(
            outputs,
            inputs.handle(),
            shapes.as_ptr(),
            dims.as_ptr(),
            O,
            Some(run::<W, I, O, F>),
            payload,
            Some(release::<F>),
            stream.as_ref().as_ptr(),
        )
    })?;
    outputs.try_into().map_err(|_| wrong_arrays())
}

unsafe extern "C" fn run<const W: usize, const I: usize, const O: usize, F>(
    inputs: *const *const c_void,
    input_sizes: *const usize,
    input_count: usize,
    outputs: *const *mut f32,
    output_sizes: *const usize,
    output_count: usize,
    payload: *const c_void,
) where
    F: Fn([&[u32]; W], [&[f32]; I], [&mut [f32]; O]),
{
    debug_assert_eq!((input_count, output_count), (W + I, O));
    // SAFETY: MLX passes the arrays that the operation was built with, in number and type, each valid;
    // the outputs are exclusive. An output's memory is not initialized, but any bits are a number; an
    // empty array may have a null pointer. The payload is that of the operation.
    unsafe {
        let words = |i: usize| slice(*inputs.add(i), *input_sizes.add(i));
        let input = |i: usize| slice(*inputs.add(W + i), *input_sizes.add(W + i));
        let output = |i: usize| match *output_sizes.add(i) {
            0 => &mut [],
            size => std::slice::from_raw_parts_mut(*outputs.add(i), size),
        };
        let kernel = &*payload.cast::<F>();
        kernel(from_fn(words), from_fn(input), from_fn(output));
    }
}

/// # Safety
/// `values` must point to `size` values of this type that outlive the slice, unless `size` is 0.
unsafe fn slice<'a, T>(values: *const c_void, size: usize) -> &'a [T] {
    match size {
        0 => &[],
        // SAFETY: as promised by the caller.
        size => unsafe { std::slice::from_raw_parts(values.cast(), size) },
    }
}

unsafe extern "C" fn release<F>(payload: *mut c_void) {
    // SAFETY: MLX calls this once, with what `Box::into_raw` gave.
    drop(unsafe { Box::from_raw(payload.cast::<F>()) });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A transposed input, several outputs, an empty one.
    #[test]
    fn arrays_arrive_dense() {
        let x = Array::from_slice(&[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]);
        let turned = x.transpose().unwrap();
        let one = Array::from_f32(10.0);
        let [copy, sum, nothing] =
            cpu_op([&turned, &one], [&[3, 2], &[1], &[0, 4]], |[x, one], [copy, sum, nothing]| {
                copy.copy_from_slice(x);
                sum[0] = x.iter().sum::<f32>() + one[0];
                nothing.fill(1.0);
            })
            .unwrap();
        assert_eq!(copy.as_slice::<f32>(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        assert_eq!((sum.as_slice::<f32>(), nothing.size()), (&[31.0][..], 0));
    }

    #[test]
    fn other_types_are_refused() {
        let x = Array::from_slice(&[1i32], &[1]);
        assert!(cpu_op([&x], [&[1]], |_, _| ()).is_err());
    }
}
