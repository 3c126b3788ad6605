//! Operations of MLX's graph that are functions of ours.

use std::ffi::c_void;

use mlx_rs::{Array, Stream};

use super::{Vector, failed};
use crate::Result;

/// The arrays of these `shapes` that `kernel` makes of `inputs` when MLX evaluates them: all in f32,
/// passed as they lie in memory, row by row. Not differentiable by itself.
///
/// The kernel writes all of its outputs before it reads any of them, and does not panic: there is
/// nobody to catch it, and the process would end.
pub(crate) fn cpu_op<const I: usize, const O: usize, F>(
    inputs: [&Array; I],
    shapes: [&[i32]; O],
    kernel: F,
) -> Result<[Array; O]>
where
    F: Fn([&[f32]; I], [&mut [f32]; O]) + Send + Sync + 'static,
{
    let inputs = inputs.map(Array::clone);
    let inputs = Vector::of(&inputs);
    let dims = shapes.map(<[i32]>::len);
    let shapes = shapes.concat();
    let stream = Stream::thread_local_or_default();
    let payload = Box::into_raw(Box::new(kernel)).cast::<c_void>();
    // SAFETY: all handles and lists are valid for the call. The payload is of the type that `run` and
    // `release` cast it back to, may be used by several threads, and is released once.
    let outputs = Vector::filled(|outputs| unsafe {
        mlx_sys::mlx_cpu_op(
            outputs,
            inputs.0,
            shapes.as_ptr(),
            dims.as_ptr(),
            O,
            Some(run::<I, O, F>),
            payload,
            Some(release::<F>),
            stream.as_ref().as_ptr(),
        )
    })?;
    outputs.try_into().map_err(|_| failed("an operation of ours"))
}

unsafe extern "C" fn run<const I: usize, const O: usize, F>(
    inputs: *const *const f32,
    input_sizes: *const usize,
    input_count: usize,
    outputs: *const *mut f32,
    output_sizes: *const usize,
    output_count: usize,
    payload: *const c_void,
) where
    F: Fn([&[f32]; I], [&mut [f32]; O]),
{
    debug_assert_eq!((input_count, output_count), (I, O));
    // SAFETY: MLX passes as many arrays as the operation was made with, each valid and, the outputs,
    // nobody else's. An output's memory is fresh, but any bits are a number; an empty array may have
    // none at all. The payload is what the operation was made with.
    unsafe {
        let input = |i: usize| match *input_sizes.add(i) {
            0 => &[],
            size => std::slice::from_raw_parts(*inputs.add(i), size),
        };
        let output = |i: usize| match *output_sizes.add(i) {
            0 => &mut [],
            size => std::slice::from_raw_parts_mut(*outputs.add(i), size),
        };
        (*payload.cast::<F>())(std::array::from_fn(input), std::array::from_fn(output));
    }
}

unsafe extern "C" fn release<F>(payload: *mut c_void) {
    // SAFETY: MLX calls this once, with what `Box::into_raw` gave.
    drop(unsafe { Box::from_raw(payload.cast::<F>()) });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inputs that do not lie row by row, several outputs, an empty one.
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
