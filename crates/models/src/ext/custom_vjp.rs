//! Functions of arrays with a gradient of their own.

use std::ffi::{c_int, c_void};
use std::rc::Rc;

use mlx_rs::{Array, transforms};
use mlx_sys::mlx_vector_array;

use super::call::{ArrayList, answer, arrays, check, wrong_arrays};
use super::depends;
use crate::Result;

/// A function and its vector-Jacobian product.
pub(crate) trait Differentiable: 'static {
    /// The function.
    fn forward(&self, inputs: &[Array]) -> Result<Vec<Array>>;

    /// The gradient of each input, given those of the outputs (`cotangents`).
    fn backward(
        &self,
        inputs: &[Array],
        cotangents: &[Array],
        outputs: &[Array],
    ) -> Result<Vec<Array>>;
}

/// Whether a gradient is being taken with respect to one of these arrays, or to what it was computed from.
pub(crate) fn is_differentiated<'a>(arrays: impl IntoIterator<Item = &'a Array>) -> Result<bool> {
    let mut tracer = false;
    for array in arrays {
        // SAFETY: the handle is valid, and the place for the call.
        check(unsafe { mlx_sys::mlx_array_is_tracer(&mut tracer, array.as_ptr()) })?;
        if tracer {
            break;
        }
    }
    Ok(tracer)
}

/// Applies `function`. Where the result is differentiated, MLX uses the function's own gradient
/// instead of differentiating the operations of its forward pass.
pub(crate) fn apply<F: Differentiable>(function: F, inputs: &[Array]) -> Result<Vec<Array>> {
    // In a decoding step, nodes for a gradient that nobody asks for take much of the time.
    if !is_differentiated(inputs)? {
        return function.forward(inputs);
    }
    let function = Rc::new(function);
    let payload = || Box::into_raw(Box::new(Rc::clone(&function))).cast::<c_void>();
    // SAFETY: each closure owns a payload of the type its functions cast it back to. The handles are
    // freed once; MLX keeps what it needs of them. Freeing cannot fail in a way that matters.
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
        let inputs = ArrayList::of(inputs);
        let outputs = ArrayList::filled(|outputs| {
            match mlx_sys::mlx_custom_vjp(&mut whole, forward, backward) {
                0 => mlx_sys::mlx_closure_apply(outputs, whole, inputs.handle()),
                failed => failed,
            }
        });
        let _ = mlx_sys::mlx_closure_free(whole);
        let _ = mlx_sys::mlx_closure_free(forward);
        let _ = mlx_sys::mlx_closure_custom_free(backward);
        outputs
    }
}

/// [`apply`] where there is one output.
pub(crate) fn apply_one<F: Differentiable>(function: F, inputs: &[&Array]) -> Result<Array> {
    let inputs: Vec<Array> = inputs.iter().copied().cloned().collect();
    apply(function, &inputs)?.pop().ok_or_else(wrong_arrays)
}

/// Applies `function` without keeping its intermediate arrays for the backward pass, which computes
/// those that its gradient needs a second time (activation checkpointing).
pub(crate) fn recomputed<F>(function: F, inputs: &[Array]) -> Result<Vec<Array>>
where
    F: Fn(&[Array]) -> Result<Vec<Array>> + 'static,
{
    apply(Recomputed(function), inputs)
}

struct Recomputed<F>(F);

impl<F: Fn(&[Array]) -> Result<Vec<Array>> + 'static> Differentiable for Recomputed<F> {
    fn forward(&self, inputs: &[Array]) -> Result<Vec<Array>> {
        (self.0)(inputs)
    }

    fn backward(&self, inputs: &[Array], to: &[Array], _: &[Array]) -> Result<Vec<Array>> {
        // Depends on the incoming cotangent, so the recomputation runs during the backward pass and
        // its result is not held from the forward pass on.
        let inputs = depends(inputs, to)?;
        let function = |inputs: &[Array]| Ok((self.0)(inputs)?);
        Ok(transforms::fallible_vjp(function, &inputs, to)?.1)
    }
}

unsafe extern "C" fn forward<F: Differentiable>(
    outputs: *mut mlx_vector_array,
    inputs: mlx_vector_array,
    payload: *mut c_void,
) -> c_int {
    // SAFETY: MLX passes valid lists, and the payload that belongs to this function.
    answer(outputs, || unsafe {
        let function = &*payload.cast::<Rc<F>>();
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
        let function = &*payload.cast::<Rc<F>>();
        function.backward(&arrays(inputs)?, &arrays(cotangents)?, &arrays(outputs)?)
    })
}

unsafe extern "C" fn release<F>(payload: *mut c_void) {
    // SAFETY: MLX calls this once, with what `Box::into_raw` gave.
    drop(unsafe { Box::from_raw(payload.cast::<Rc<F>>()) });
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use mlx_rs::error::Exception;

    use super::*;
    use crate::Error;

    fn failure(name: &'static str) -> Error {
        Error::Argument { name, expected: "one".into(), found: "two".into() }
    }

    struct Fails {
        forward: bool,
    }

    impl Differentiable for Fails {
        fn forward(&self, inputs: &[Array]) -> Result<Vec<Array>> {
            if self.forward { Err(failure("forward")) } else { Ok(inputs.to_vec()) }
        }

        fn backward(&self, _: &[Array], _: &[Array], _: &[Array]) -> Result<Vec<Array>> {
            Err(failure("backward"))
        }
    }

    /// Of two inputs only the first is differentiated, and what is computed from it.
    #[test]
    fn tells_what_is_differentiated() {
        let [x, constant] = [2.0, 3.0].map(Array::from_f32);
        let found = |arrays: &[&Array]| is_differentiated(arrays.iter().copied()).unwrap();
        assert!(!found(&[&x, &constant]));
        let function = |inputs: &[Array]| {
            let [x] = inputs else { return Err(Exception::custom("one input")) };
            let product = x.multiply(&constant)?;
            assert!(found(&[x]) && found(&[&constant, &product]));
            assert!(!found(&[&constant, &constant.square()?]));
            Ok(vec![product])
        };
        let (_, gradient) =
            transforms::fallible_vjp(function, from_ref(&x), from_ref(&constant)).unwrap();
        assert_eq!(gradient[0].item_exact::<f32>(), 9.0);
        assert!(!found(&[&x, &gradient[0]]));
    }

    #[test]
    fn failures_keep_their_message() {
        let x = [Array::from_f32(1.0)];
        let function = |x: &[Array]| Ok(apply(Fails { forward: true }, x)?);
        let error = transforms::fallible_vjp(function, &x, &x).unwrap_err().to_string();
        assert!(error.contains("forward: expected one, found two"), "{error}");

        let function = |x: &[Array]| Ok(apply(Fails { forward: false }, x)?);
        let error = transforms::fallible_vjp(function, &x, &x).unwrap_err().to_string();
        assert!(error.contains("backward: expected one, found two"), "{error}");

        // One inside the other, the outer in its backward pass.
        let function = |x: &[Array]| apply(Fails { forward: false }, x);
        let outer = |x: &[Array]| Ok(recomputed(function, x)?);
        let error = transforms::fallible_vjp(outer, &x, &x).unwrap_err().to_string();
        assert!(error.contains("backward: expected one, found two"), "{error}");

        let panics = |_: &[Array]| -> Result<Vec<Array>> { panic!("out of cheese") };
        let function = |x: &[Array]| Ok(recomputed(panics, x)?);
        let error = transforms::fallible_vjp(function, &x, &x).unwrap_err().to_string();
        assert!(error.contains("panicked: out of cheese"), "{error}");
    }

    #[test]
    fn mlx_failures_keep_their_message() {
        let x = [Array::from_slice(&[1.0f32, 2.0], &[1, 2])];
        let function = |x: &[Array]| Ok(vec![x[0].matmul(&x[0])?]);
        let outer = |x: &[Array]| Ok(recomputed(function, x)?);
        let error = transforms::fallible_vjp(outer, &x, &x).unwrap_err().to_string();
        assert!(error.contains("[matmul]"), "{error}");
    }
}
