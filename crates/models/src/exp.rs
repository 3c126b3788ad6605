//! `exp` and what is made of it, fast on a CPU.
//!
//! MLX's CPU build evaluates `exp`, `sigmoid` and `softmax` one element at a time, at 20 to 30 ns
//! each, where an addition takes 0.3 ns: in a small model they would cost as much as the matrix
//! products. A polynomial out of additions and multiplications takes 5 ns and is as exact as f32
//! can tell. A GPU has an instruction for it, so there the native operations are used.
//!
//! MLX cannot differentiate the bit operations involved, so what is made of them says itself what its
//! gradient is.

use std::f32::consts::LOG2_E;

use mlx_rs::error::Exception;
use mlx_rs::ops::{maximum, minimum, sigmoid as native_sigmoid, softmax_axis};
use mlx_rs::{Array, Dtype, stop_gradient};

use crate::beyond::{self, Differentiable};
use crate::linear::Kernels;
use crate::{Error, Result};

/// `e^x`, elementwise; the gradient does not pass through it.
///
/// For f32 on a CPU the relative error is below 2e-7, beside the rounding of `x * log2(e)`; what
/// would be below 1.2e-38 is 0, since a processor is slow with numbers that small.
///
/// ```
/// use mlx_rs::Array;
///
/// let y = models::exp(&Array::from_slice(&[0.0f32, 1.0, -1.0], &[3]))?;
/// let y = y.as_slice::<f32>();
/// assert_eq!(y[0], 1.0);
/// assert!((y[1] - 1.0f32.exp()).abs() < 1e-6 && (y[2] - (-1.0f32).exp()).abs() < 1e-6);
/// # Ok::<(), models::Error>(())
/// ```
pub fn exp(x: &Array) -> Result<Array> {
    let x = stop_gradient(x)?;
    if by_polynomial(&x)? { polynomial(&x) } else { Ok(x.exp()?) }
}

/// `1 / (1 + e^-x)`.
pub(crate) fn sigmoid(x: &Array) -> Result<Array> {
    applied(Sigmoid, x)
}

/// `x / (1 + e^-x)`.
pub(crate) fn silu(x: &Array) -> Result<Array> {
    applied(Silu, x)
}

fn applied<F: Differentiable>(function: F, x: &Array) -> Result<Array> {
    let y = beyond::apply(function, std::slice::from_ref(x))?.pop();
    y.ok_or_else(|| Exception::custom("a function without a value").into())
}

/// [`sigmoid`], and of all its steps only the result kept for the gradient.
struct Sigmoid;

impl Differentiable for Sigmoid {
    fn forward(&self, inputs: &[Array]) -> Result<Vec<Array>> {
        inputs.iter().map(logistic).collect()
    }

    fn backward(&self, _: &[Array], to: &[Array], outputs: &[Array]) -> Result<Vec<Array>> {
        let slope = |y: &Array| Ok::<_, Error>(y.multiply(rest(y)?)?);
        outputs.iter().zip(to).map(|(y, to)| Ok(to.multiply(slope(y)?)?)).collect()
    }
}

/// [`silu`], with argument and result kept for the gradient.
struct Silu;

impl Differentiable for Silu {
    fn forward(&self, inputs: &[Array]) -> Result<Vec<Array>> {
        inputs.iter().map(|x| Ok(x.multiply(logistic(x)?)?)).collect()
    }

    fn backward(&self, inputs: &[Array], to: &[Array], outputs: &[Array]) -> Result<Vec<Array>> {
        let slope = |x: &Array, y: &Array| {
            let share = logistic(x)?;
            Ok::<_, Error>(y.multiply(rest(&share)?)?.add(share)?)
        };
        let pairs = inputs.iter().zip(outputs).zip(to);
        pairs.map(|((x, y), to)| Ok(to.multiply(slope(x, y)?)?)).collect()
    }
}

/// `1 / (1 + e^-x)`, of which no gradient is asked.
fn logistic(x: &Array) -> Result<Array> {
    if !by_polynomial(x)? {
        return Ok(native_sigmoid(x)?);
    }
    Ok(exp(&x.negative()?)?.add(Array::from_f32(1.0))?.reciprocal()?)
}

/// `1 - y`.
fn rest(y: &Array) -> Result<Array> {
    Ok(Array::from_f32(1.0).as_dtype(y.dtype())?.subtract(y)?)
}

/// Softmax over the last axis.
pub(crate) fn softmax(x: &Array) -> Result<Array> {
    if !by_polynomial(x)? {
        return Ok(softmax_axis(x, -1, true)?);
    }
    let e = exp(&x.subtract(x.max_axis(-1, true)?)?)?;
    let p = e.divide(e.sum_axis(-1, true)?)?;
    // The part of the gradient that the denominator brings is a mean of `x`'s change under `p`.
    let change = x.subtract(stop_gradient(x)?)?;
    let mean = p.multiply(&change)?.sum_axis(-1, true)?;
    Ok(p.add(p.multiply(change.subtract(mean)?)?)?)
}

fn by_polynomial(x: &Array) -> Result<bool> {
    Ok(x.dtype() == Dtype::Float32 && Kernels::of_default_device()? == Kernels::Blas)
}

/// `2^(n + f)` with `n` whole and `f` in -0.5..=0.5: a minimax polynomial for `2^f`, exact at 0
/// (relative error 9.2e-8), times `2^n` put together from bits.
fn polynomial(x: &Array) -> Result<Array> {
    #[expect(
        clippy::approx_constant,
        reason = "fitted coefficients; the last one is only near ln 2"
    )]
    const COEFFICIENTS: [f32; 5] =
        [0.001_326_472_7, 0.009_671_513, 0.055_507_336, 0.240_222_42, 0.693_147];
    /// 1.5 * 2^23: a number this large has no fraction, so adding it rounds, and leaves the whole
    /// number in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    /// The bits of 1.0: the exponent's bias in its place.
    const ONE: u32 = 0x3f80_0000;
    /// Moves the lowest bits to the exponent's place; what lay above them is lost in the overflow.
    const SHIFT: u32 = 1 << 23;
    /// With this exponent all bits are zero, and so is the number.
    const LEAST: f32 = -127.0;
    /// The largest exponent there is room for.
    const MOST: f32 = 127.0;

    let y = maximum(x.multiply(Array::from_f32(LOG2_E))?, Array::from_f32(LEAST))?;
    let y = minimum(y, Array::from_f32(MOST))?;
    let round = Array::from_f32(ROUND);
    let shifted = y.add(&round)?;
    let f = y.subtract(shifted.subtract(&round)?)?;
    let [first, rest @ ..] = COEFFICIENTS;
    let mut p = f.multiply(Array::from_f32(first))?;
    for c in rest {
        p = p.add(Array::from_f32(c))?.multiply(&f)?;
    }
    let p = p.add(Array::from_f32(1.0))?;
    let bits = |bits: u32| Array::from_slice(&[bits], &[]);
    let exponent = shifted.view::<u32>()?.multiply(bits(SHIFT))?.add(bits(ONE))?;
    Ok(p.multiply(exponent.view::<f32>()?)?)
}

#[cfg(test)]
mod tests {
    use mlx_rs::transforms::fallible_vjp;

    use std::slice::from_ref;

    use super::*;

    fn ramp(from: f32, to: f32) -> Array {
        let n = 4001;
        let at = |i: i32| from + (to - from) * i as f32 / (n - 1) as f32;
        Array::from_iter((0..n).map(at), &[n])
    }

    #[test]
    fn exp_is_exact_to_f32() {
        let x = ramp(-87.0, 88.0);
        let y = exp(&x).unwrap();
        for (x, y) in x.as_slice::<f32>().iter().zip(y.as_slice::<f32>()) {
            let exact = f64::from(*x).exp();
            let error = (f64::from(*y) - exact).abs() / exact;
            // Rounding x * log2(e) moves the exponent by half a unit of its last place.
            let rounding = f64::from(x.abs()) * f64::from(f32::EPSILON);
            assert!(error < 2e-7 + rounding, "exp({x}) = {y}, off by {error}");
        }
    }

    #[test]
    fn far_ends_stay_finite() {
        let x = Array::from_slice(&[f32::NEG_INFINITY, -1e30, 1e30], &[3]);
        let y = exp(&x).unwrap();
        let y = y.as_slice::<f32>();
        assert!(y[0] == 0.0 && y[1] == 0.0 && y[2].is_finite() && y[2] > 1e38);
    }

    /// Values and gradients against the native operations, which MLX differentiates itself.
    #[test]
    fn sigmoid_and_softmax_agree_with_the_native_ones() {
        let x = ramp(-9.0, 9.0).reshape(&[1, -1]).unwrap();
        let cotangent = x.sin().unwrap();
        type Function = fn(&Array) -> Result<Array>;
        let pairs: [(Function, Function); 2] =
            [(sigmoid, |x| Ok(native_sigmoid(x)?)), (softmax, |x| Ok(softmax_axis(x, -1, true)?))];
        for (ours, native) in pairs {
            let run = |f: Function| {
                let f = move |x: &[Array]| Ok(vec![f(&x[0])?]);
                let (y, dx) = fallible_vjp(f, from_ref(&x), from_ref(&cotangent)).unwrap();
                [y[0].clone(), dx[0].clone()]
            };
            for (ours, native) in run(ours).iter().zip(run(native)) {
                let close = ours.all_close(&native, 2e-6, 1e-7, None).unwrap();
                assert!(close);
            }
        }
    }
}
