//! Functions of MLX that mlx-rs does not offer: custom gradients, operations of ours, order of
//! evaluation, the gated delta rule's native kernel. The one place of this crate that talks to mlx-c
//! itself.

mod cpu_op;
pub(crate) mod float_format;
pub(crate) mod fused;

pub(crate) use cpu_op::{cpu_op, cpu_op_of_words};

use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use mlx_rs::error::Exception;
use mlx_rs::{Array, Stream, transforms};
use mlx_sys::{mlx_array, mlx_closure, mlx_closure_custom, mlx_vector_array};

use crate::{Error, Result};

const DONE: c_int = 0;
const FAILED: c_int = 1;

/// A function and its gradient, spelled out.
pub(crate) trait Differentiable: 'static {
    /// The function.
    fn forward(&self, inputs: &[Array]) -> Result<Vec<Array>>;

    /// The gradient of each input, given those of the outputs.
    fn backward(
        &self,
        inputs: &[Array],
        cotangents: &[Array],
        outputs: &[Array],
    ) -> Result<Vec<Array>>;
}

/// Applies `function`. Where the result is differentiated, its own gradient is used; MLX never looks
/// into it.
pub(crate) fn apply<F: Differentiable>(function: F, inputs: &[Array]) -> Result<Vec<Array>> {
    let function = std::rc::Rc::new(function);
    let payload = || Box::into_raw(Box::new(std::rc::Rc::clone(&function))).cast::<c_void>();
    // SAFETY: each closure owns a payload of the type its functions cast it back to. The handles are
    // freed once; MLX keeps what it needs of them.
    unsafe {
        let forward = mlx_sys::mlx_closure_new_func_payload(
            Some(forward::<F>),
            payload(),
            Some(release::<F>),
        );
        let backward = mlx_sys::mlx_closure_custom_new_func_payload(
            Some(backward::<F>),
            payload(),
            Some(release::<F>),
        );
        let mut whole = mlx_sys::mlx_closure_new();
        let status = mlx_sys::mlx_custom_vjp(&mut whole, forward, backward);
        let outputs = done(status, "a custom gradient").and_then(|()| {
            let inputs = Vector::of(inputs);
            Vector::filled(|outputs| mlx_sys::mlx_closure_apply(outputs, whole, inputs.0))
        });
        free(whole, forward, backward);
        outputs
    }
}

/// [`apply`] where there is one output.
pub(crate) fn applied<F: Differentiable>(function: F, inputs: &[&Array]) -> Result<Array> {
    let inputs: Vec<Array> = inputs.iter().copied().cloned().collect();
    apply(function, &inputs)?.pop().ok_or_else(wrong_arrays)
}

/// The error of a function that is given other arrays than its own.
pub(crate) fn wrong_arrays() -> Error {
    Error::Mlx(Exception::custom("a function with other arrays than its own"))
}

/// What `function` makes of `inputs`, of whose steps none is kept for the backward pass: there, what
/// its gradient needs is computed again, and only that.
pub(crate) fn computed_again<F>(function: F, inputs: &[Array]) -> Result<Vec<Array>>
where
    F: Fn(&[Array]) -> Result<Vec<Array>> + 'static,
{
    apply(Again(function), inputs)
}

struct Again<F>(F);

impl<F: Fn(&[Array]) -> Result<Vec<Array>> + 'static> Differentiable for Again<F> {
    fn forward(&self, inputs: &[Array]) -> Result<Vec<Array>> {
        (self.0)(inputs)
    }

    fn backward(&self, inputs: &[Array], to: &[Array], _: &[Array]) -> Result<Vec<Array>> {
        // Not before its turn has come: else it would be kept from then on.
        let inputs = all_after(inputs, to)?;
        let function = |inputs: &[Array]| Ok((self.0)(inputs)?);
        Ok(transforms::fallible_vjp(function, &inputs, to)?.1)
    }
}

/// `array`, not to be evaluated before `others`: bounds what must be in memory at once.
pub(crate) fn after(array: &Array, others: &[Array]) -> Result<Array> {
    let mut arrays = all_after(std::slice::from_ref(array), others)?;
    arrays.pop().ok_or_else(|| failed("an order of evaluation"))
}

fn all_after(arrays: &[Array], others: &[Array]) -> Result<Vec<Array>> {
    let (arrays, others) = (Vector::of(arrays), Vector::of(others));
    // SAFETY: all handles are valid.
    Vector::filled(|out| unsafe { mlx_sys::mlx_depends(out, arrays.0, others.0) })
}

/// Whether this device has a kernel for [`gated_delta_update`]; elsewhere MLX goes token by token.
pub(crate) fn has_gated_delta_kernel() -> bool {
    let mut available = false;
    // SAFETY: the pointer is valid for the call.
    let status = unsafe { mlx_sys::mlx_metal_is_available(&mut available) };
    status == DONE && available
}

/// MLX's own gated delta rule: queries and keys `[B, T, Hk, Dk]`, values `[B, T, Hv, Dv]`, decay and
/// beta `[B, T, Hv]`, state `[B, Hv, Dv, Dk]`. Returns the output and the final state.
pub(crate) fn gated_delta_update(inputs: [&Array; 6]) -> Result<[Array; 2]> {
    let [queries, keys, values, decay, beta, state] = inputs.map(Array::as_ptr);
    let stream = Stream::thread_local_or_default();
    // SAFETY: all handles are valid; a null mask means none.
    let outputs = Vector::filled(|out| unsafe {
        let none = mlx_sys::mlx_array_new();
        let stream = stream.as_ref().as_ptr();
        mlx_sys::mlx_fast_gated_delta_update(
            out, queries, keys, values, decay, beta, state, none, stream,
        )
    })?;
    outputs.try_into().map_err(|_| failed("the gated delta rule"))
}

/// A list of arrays as mlx-c passes them.
struct Vector(mlx_vector_array);

impl Vector {
    fn of(arrays: &[Array]) -> Self {
        let handles: Vec<mlx_array> = arrays.iter().map(Array::as_ptr).collect();
        // SAFETY: MLX copies the handles, each of which is valid.
        Self(unsafe { mlx_sys::mlx_vector_array_new_data(handles.as_ptr(), handles.len()) })
    }

    /// What `fill` puts into an empty list.
    fn filled(fill: impl FnOnce(*mut mlx_vector_array) -> c_int) -> Result<Vec<Array>> {
        // SAFETY: an empty list is a valid one.
        let mut list = Self(unsafe { mlx_sys::mlx_vector_array_new() });
        done(fill(&mut list.0), "an operation")?;
        // SAFETY: filled, it is valid still.
        unsafe { arrays(list.0) }
    }
}

impl Drop for Vector {
    fn drop(&mut self) {
        // SAFETY: owned, and freed once. It can fail only for lack of memory.
        let _ = unsafe { mlx_sys::mlx_vector_array_free(self.0) };
    }
}

/// Handles of its own for each array of a list.
///
/// # Safety
/// The list must be valid.
unsafe fn arrays(list: mlx_vector_array) -> Result<Vec<Array>> {
    // SAFETY: the indices are within the list, and each handle is a new one.
    unsafe {
        let array = |index| {
            let mut array = mlx_sys::mlx_array_new();
            done(mlx_sys::mlx_vector_array_get(&mut array, list, index), "a list of arrays")?;
            Ok(Array::from_ptr(array))
        };
        (0..mlx_sys::mlx_vector_array_size(list)).map(array).collect()
    }
}

/// # Safety
/// The handles must be valid, and not used again.
unsafe fn free(whole: mlx_closure, forward: mlx_closure, backward: mlx_closure_custom) {
    // SAFETY: as promised by the caller. Freeing can fail only for lack of memory.
    unsafe {
        let _ = mlx_sys::mlx_closure_free(whole);
        let _ = mlx_sys::mlx_closure_free(forward);
        let _ = mlx_sys::mlx_closure_custom_free(backward);
    }
}

unsafe extern "C" fn forward<F: Differentiable>(
    outputs: *mut mlx_vector_array,
    inputs: mlx_vector_array,
    payload: *mut c_void,
) -> c_int {
    // SAFETY: MLX passes valid lists, and the payload that belongs to this function.
    answer(outputs, || unsafe {
        let function = &*payload.cast::<std::rc::Rc<F>>();
        function.forward(&arrays(inputs)?)
    })
}

unsafe extern "C" fn backward<F: Differentiable>(
    gradients: *mut mlx_vector_array,
    inputs: mlx_vector_array,
    cotangents: mlx_vector_array,
    outputs: mlx_vector_array,
    payload: *mut c_void,
) -> c_int {
    // SAFETY: as in `forward`.
    answer(gradients, || unsafe {
        let function = &*payload.cast::<std::rc::Rc<F>>();
        function.backward(&arrays(inputs)?, &arrays(cotangents)?, &arrays(outputs)?)
    })
}

unsafe extern "C" fn release<F>(payload: *mut c_void) {
    // SAFETY: MLX calls this once, with what `Box::into_raw` gave.
    drop(unsafe { Box::from_raw(payload.cast::<std::rc::Rc<F>>()) });
}

/// Runs what MLX calls back, and puts what it returns where MLX expects it. MLX learns only that
/// something failed; the log says what.
fn answer(place: *mut mlx_vector_array, run: impl FnOnce() -> Result<Vec<Array>>) -> c_int {
    let result = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result,
        // The hook has reported the panic; it must not pass through C++.
        Err(_) => return FAILED,
    };
    match result {
        Ok(arrays) => {
            let list = Vector::of(&arrays);
            // SAFETY: MLX gives a place for a list, which takes a copy.
            unsafe { mlx_sys::mlx_vector_array_set(place, list.0) }
        }
        Err(error) => {
            tracing::error!(%error, "a custom gradient");
            FAILED
        }
    }
}

fn done(status: c_int, what: &str) -> Result<()> {
    if status == DONE { Ok(()) } else { Err(failed(what)) }
}

fn failed(what: &str) -> Error {
    Error::Mlx(Exception::custom(format!("{what} failed")))
}
