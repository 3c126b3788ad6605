//! Fused elementwise operations: activations, softmax, norms, dequantization.
//!
//! MLX's CPU build goes through memory once for every addition, and evaluates `exp` one element at a
//! time, at 20 to 30 ns each: in a small model that would cost as much as the matrix products. So on
//! a CPU, in f32, these are operations of the `kernels` crate. Each has a gradient of its own, so
//! that only its inputs, or only its outputs, are kept for the backward pass. On a GPU, MLX's own
//! operations are used.

use kernels::{Exponentials, Quantized, Scores};
use mlx_rs::ops::{self, broadcast_to, softmax_axis, tanh};
use mlx_rs::{Array, Dtype, Stream, fast, stop_gradient, with_stream};

use super::{Differentiable, apply_one, cpu_op, cpu_op_of_words, wrong_arrays};
use crate::Result;
use crate::backend::Backend;

pub(crate) use kernels::Activation;

/// `exp(x)`, elementwise. The gradient does not pass through it.
///
/// For f32 on a CPU the relative error is below 2e-7, beside the rounding of `x * log2(e)`; results
/// below 1.2e-38 are flushed to 0.
pub(crate) fn exp(backend: Backend, x: &Array) -> Result<Array> {
    let x = stop_gradient(x)?;
    if !backend.fuses(&x) {
        return Ok(x.exp()?);
    }
    let [y] = cpu_op([&x], [x.shape()], |[x], [y]| kernels::exp(x, y))?;
    Ok(y)
}

/// The parts of a softmax over each row: `exp(x - max)`, the row's maximum and the sum of the
/// exponentials, the latter two `[.., 1]`. Those of several parts of a row can be combined (online
/// softmax). The gradient does not pass through them.
pub(crate) fn exponentials(backend: Backend, x: &Array) -> Result<[Array; 3]> {
    let x = stop_gradient(x)?;
    if !backend.fuses(&x) {
        let peak = x.max_axis(-1, true)?;
        let e = x.subtract(&peak)?.exp()?;
        let total = e.sum_axis(-1, true)?;
        return Ok([e, peak, total]);
    }
    let width = x.dim(-1) as usize;
    let mut single = x.shape().to_vec();
    if let Some(last) = single.last_mut() {
        *last = 1;
    }
    cpu_op([&x], [x.shape(), &single, &single], move |[x], [values, peaks, totals]| {
        kernels::exponentials(x, width, Exponentials { values, peaks, totals });
    })
}

/// `cap * tanh(x / cap)`, elementwise.
pub(crate) fn soft_cap(backend: Backend, x: &Array, cap: f32) -> Result<Array> {
    if !backend.fuses(x) {
        let cap = Array::from_f32(cap).as_dtype(x.dtype())?;
        return Ok(tanh(x.divide(&cap)?)?.multiply(cap)?);
    }
    apply_one(SoftCap(cap), &[x])
}

/// The derivative of [`soft_cap`] where its value is `y`: `1 - (y / cap)^2`.
pub(crate) fn soft_cap_slope(y: &Array, cap: f32) -> Result<Array> {
    let scalar = |value: f32| Array::from_f32(value).as_dtype(y.dtype());
    Ok(y.square()?.multiply(scalar(-(cap * cap).recip())?)?.add(scalar(1.0)?)?)
}

/// The activation, elementwise.
pub(crate) fn activate(backend: Backend, activation: Activation, x: &Array) -> Result<Array> {
    if !backend.fuses(x) {
        return native(activation, x);
    }
    apply_one(Activate(activation), &[x])
}

/// `activation(gate) * up`.
pub(crate) fn gate(
    backend: Backend,
    activation: Activation,
    gate: &Array,
    up: &Array,
) -> Result<Array> {
    if !backend.fuses(gate) || gate.shape() != up.shape() || up.dtype() != Dtype::Float32 {
        return Ok(activate(backend, activation, gate)?.multiply(up)?);
    }
    apply_one(Gate(activation), &[gate, up])
}

/// RMS norm over the last axis, times `weight` `[d]`. The weight gets no gradient.
pub(crate) fn rms_norm(
    backend: Backend,
    x: &Array,
    weight: Option<&Array>,
    eps: f32,
) -> Result<Array> {
    if !backend.fuses(x) {
        return Ok(fast::rms_norm(x, weight, eps)?);
    }
    let weight = match weight {
        Some(weight) => weight.as_dtype(Dtype::Float32)?,
        None => ops::ones::<f32>(&[x.dim(-1)])?,
    };
    apply_one(RmsNorm { weight, eps }, &[x])
}

/// Softmax of `scale * scores + mask` over the last axis. The mask broadcasts and gets no gradient.
pub(crate) fn softmax(
    backend: Backend,
    scores: &Array,
    scale: f32,
    mask: Option<&Array>,
) -> Result<Array> {
    if !backend.fuses(scores) {
        let scale = Array::from_f32(scale).as_dtype(scores.dtype())?;
        let scores = scores.multiply(scale)?;
        let scores = match mask {
            Some(mask) => scores.add(mask)?,
            None => scores,
        };
        return Ok(softmax_axis(scores, -1, true)?);
    }
    // The kernel repeats a mask from its start, which broadcasts leading axes only.
    let mask = match mask {
        Some(mask) if !scores.shape().ends_with(mask.shape()) => {
            Some(broadcast_to(mask, scores.shape())?)
        }
        mask => mask.cloned(),
    };
    apply_one(Softmax { scale, mask }, &[scores])
}

/// The dense form of an affinely quantized matrix, given by codes, scales and biases, in the type of its
/// scales.
pub(crate) fn dequantize(
    backend: Backend,
    [packed, scales, biases]: [&Array; 3],
    group_size: i32,
    bits: i32,
) -> Result<Array> {
    if !backend.fuses(scales) {
        return Ok(ops::dequantize(packed, scales, biases, group_size, bits)?);
    }
    dequantize_f32([packed, scales, biases], group_size, bits)
}

/// The same for groups of any size, with scales in f32, computed on the CPU whatever the device.
pub(crate) fn dequantize_on_cpu(
    backend: Backend,
    quantized: [&Array; 3],
    group_size: i32,
    bits: i32,
) -> Result<Array> {
    let dequantize = || dequantize_f32(quantized, group_size, bits);
    if backend.is_cpu() { dequantize() } else { with_stream(&Stream::cpu(), dequantize) }
}

fn dequantize_f32(
    [packed, scales, biases]: [&Array; 3],
    group_size: i32,
    bits: i32,
) -> Result<Array> {
    let mut shape = packed.shape().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = *last * 32 / bits;
    }
    let (group_size, bits) = (group_size as usize, bits as usize);
    let [matrix] = cpu_op_of_words(
        [packed],
        [scales, biases],
        [&shape],
        move |[packed], [scales, biases], [values]| {
            kernels::dequantize(Quantized { packed, scales, biases, group_size, bits }, values);
        },
    )?;
    Ok(matrix)
}

/// The activation as operations of MLX.
fn native(activation: Activation, x: &Array) -> Result<Array> {
    const TWICE_ROOT: f32 = 1.595_769; // 2 * sqrt(2 / pi)
    const CUBIC: f32 = 0.044_715;
    let scalar = |value: f32| Array::from_f32(value).as_dtype(x.dtype());
    Ok(match activation {
        Activation::Sigmoid => ops::sigmoid(x)?,
        Activation::Silu => x.multiply(ops::sigmoid(x)?)?,
        // `x / 2 * (1 + tanh(u))` is `x * sigmoid(2 u)`.
        Activation::GeluTanh => {
            let factor =
                x.square()?.multiply(scalar(CUBIC * TWICE_ROOT)?)?.add(scalar(TWICE_ROOT)?)?;
            x.multiply(ops::sigmoid(&x.multiply(factor)?)?)?
        }
    })
}

struct Activate(Activation);

impl Differentiable for Activate {
    fn forward(&self, inputs: &[Array]) -> Result<Vec<Array>> {
        let [x] = inputs else { return Err(wrong_arrays()) };
        let activation = self.0;
        let kernel = move |[x]: [&[f32]; 1], [y]: [&mut [f32]; 1]| {
            kernels::activate(activation, x, y);
        };
        Ok(cpu_op([x], [x.shape()], kernel)?.into())
    }

    fn backward(&self, inputs: &[Array], to: &[Array], _: &[Array]) -> Result<Vec<Array>> {
        let ([x], [to]) = (inputs, to) else { return Err(wrong_arrays()) };
        let activation = self.0;
        let kernel = move |[x, to]: [&[f32]; 2], [dx]: [&mut [f32]; 1]| {
            kernels::activate_backward(activation, x, to, dx);
        };
        Ok(cpu_op([x, to], [x.shape()], kernel)?.into())
    }
}

struct Gate(Activation);

impl Differentiable for Gate {
    fn forward(&self, inputs: &[Array]) -> Result<Vec<Array>> {
        let [gate, up] = inputs else { return Err(wrong_arrays()) };
        let activation = self.0;
        let kernel = move |[gate, up]: [&[f32]; 2], [y]: [&mut [f32]; 1]| {
            kernels::gate(activation, gate, up, y);
        };
        Ok(cpu_op([gate, up], [gate.shape()], kernel)?.into())
    }

    fn backward(&self, inputs: &[Array], to: &[Array], _: &[Array]) -> Result<Vec<Array>> {
        let ([gate, up], [to]) = (inputs, to) else { return Err(wrong_arrays()) };
        let activation = self.0;
        let kernel = move |[gate, up, to]: [&[f32]; 3], [d_gate, d_up]: [&mut [f32]; 2]| {
            kernels::gate_backward(activation, gate, up, to, d_gate, d_up);
        };
        Ok(cpu_op([gate, up, to], [gate.shape(), up.shape()], kernel)?.into())
    }
}

struct SoftCap(f32);

impl Differentiable for SoftCap {
    fn forward(&self, inputs: &[Array]) -> Result<Vec<Array>> {
        let [x] = inputs else { return Err(wrong_arrays()) };
        let cap = self.0;
        Ok(cpu_op([x], [x.shape()], move |[x], [y]| kernels::soft_cap(cap, x, y))?.into())
    }

    fn backward(&self, _: &[Array], to: &[Array], outputs: &[Array]) -> Result<Vec<Array>> {
        let ([to], [y]) = (to, outputs) else { return Err(wrong_arrays()) };
        Ok(vec![to.multiply(soft_cap_slope(y, self.0)?)?])
    }
}

struct RmsNorm {
    weight: Array,
    eps: f32,
}

impl Differentiable for RmsNorm {
    fn forward(&self, inputs: &[Array]) -> Result<Vec<Array>> {
        let [x] = inputs else { return Err(wrong_arrays()) };
        let eps = self.eps;
        let kernel = move |[x, weight]: [&[f32]; 2], [y]: [&mut [f32]; 1]| {
            kernels::rms_norm(x, weight, eps, y);
        };
        Ok(cpu_op([x, &self.weight], [x.shape()], kernel)?.into())
    }

    fn backward(&self, inputs: &[Array], to: &[Array], _: &[Array]) -> Result<Vec<Array>> {
        let ([x], [to]) = (inputs, to) else { return Err(wrong_arrays()) };
        let eps = self.eps;
        let kernel = move |[x, weight, to]: [&[f32]; 3], [dx]: [&mut [f32]; 1]| {
            kernels::rms_norm_backward(x, weight, eps, to, dx);
        };
        Ok(cpu_op([x, &self.weight, to], [x.shape()], kernel)?.into())
    }
}

struct Softmax {
    scale: f32,
    mask: Option<Array>,
}

impl Differentiable for Softmax {
    fn forward(&self, inputs: &[Array]) -> Result<Vec<Array>> {
        let [scores] = inputs else { return Err(wrong_arrays()) };
        let (scale, width) = (self.scale, scores.dim(-1) as usize);
        let weights = match &self.mask {
            Some(mask) => cpu_op([scores, mask], [scores.shape()], move |[values, mask], [p]| {
                kernels::softmax(Scores { values, mask: Some(mask), scale, width }, p);
            }),
            None => cpu_op([scores], [scores.shape()], move |[values], [p]| {
                kernels::softmax(Scores { values, mask: None, scale, width }, p);
            }),
        };
        Ok(weights?.into())
    }

    fn backward(&self, _: &[Array], to: &[Array], outputs: &[Array]) -> Result<Vec<Array>> {
        let ([to], [p]) = (to, outputs) else { return Err(wrong_arrays()) };
        let (scale, width) = (self.scale, p.dim(-1) as usize);
        let kernel = move |[p, to]: [&[f32]; 2], [dx]: [&mut [f32]; 1]| {
            kernels::softmax_backward(p, to, scale, width, dx);
        };
        Ok(cpu_op([p, to], [p.shape()], kernel)?.into())
    }
}

#[cfg(test)]
mod tests {
    use mlx_rs::{random, transforms};

    use super::*;
    use crate::backend::Kernels;

    fn noise(seed: u64, shape: &[i32]) -> Array {
        let key = random::key(seed).unwrap();
        random::normal::<f32>(shape, None, None, &key).unwrap()
    }

    /// The same function as operations of MLX, differentiated by MLX.
    type Function<'a> = &'a dyn Fn(&[Array]) -> Result<Array>;

    /// Values and gradients of both agree.
    fn agree(inputs: &[Array], ours: Function<'_>, native: Function<'_>) {
        let run = |f: Function<'_>| {
            let cotangent = f(inputs).unwrap().sin().unwrap();
            let f = |x: &[Array]| Ok(vec![f(x)?]);
            let (y, dx) = transforms::fallible_vjp(f, inputs, &[cotangent]).unwrap();
            [y, dx].concat()
        };
        for (ours, native) in run(ours).iter().zip(run(native)) {
            assert_eq!(ours.shape(), native.shape());
            // Roundings of sums of a few dozen numbers near one.
            assert!(ours.all_close(&native, 1e-5, 2e-6, None).unwrap());
        }
    }

    #[test]
    fn values_and_gradients_are_those_of_mlx() {
        let backend = Backend::choose(Some(Kernels::Blas)).unwrap();
        // One input is transposed.
        let x = noise(1, &[5, 37, 3]).swap_axes(1, 2).unwrap();
        let up = noise(2, &[5, 3, 37]);
        for activation in [Activation::Sigmoid, Activation::Silu, Activation::GeluTanh] {
            let ours = |x: &[Array]| activate(backend, activation, &x[0]);
            agree(std::slice::from_ref(&x), &ours, &|x| native(activation, &x[0]));
            let native = |x: &[Array]| Ok(native(activation, &x[0])?.multiply(&x[1])?);
            agree(&[x.clone(), up.clone()], &|x| gate(backend, activation, &x[0], &x[1]), &native);
        }
        let native = |x: &[Array]| {
            Ok(tanh(x[0].divide(Array::from_f32(2.5))?)?.multiply(Array::from_f32(2.5))?)
        };
        agree(std::slice::from_ref(&x), &|x| soft_cap(backend, &x[0], 2.5), &native);
        let weight = noise(3, &[37]);
        for weight in [None, Some(&weight)] {
            let ours = |x: &[Array]| rms_norm(backend, &x[0], weight, 1e-5);
            let native = |x: &[Array]| Ok(fast::rms_norm(&x[0], weight, 1e-5)?);
            agree(std::slice::from_ref(&x), &ours, &native);
        }
        for mask in [None, Some(noise(4, &[3, 37])), Some(noise(5, &[5, 1, 37]))] {
            let ours = |x: &[Array]| softmax(backend, &x[0], 0.3, mask.as_ref());
            let native = |x: &[Array]| {
                let scores = x[0].multiply(Array::from_f32(0.3))?;
                let scores = mask.as_ref().map_or(Ok(scores.clone()), |mask| scores.add(mask))?;
                Ok(softmax_axis(scores, -1, true)?)
            };
            agree(std::slice::from_ref(&x), &ours, &native);
        }
    }
}
