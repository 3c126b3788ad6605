use multiversion::multiversion;

use crate::exp::of as exp;

/// Activation functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// `x * sigmoid(x)`.
    Silu,
    /// The tanh approximation of GELU, `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`
    /// (Hendrycks and Gimpel, 2016).
    GeluTanh,
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[inline(always)]
fn silu(x: f32) -> f32 {
    x * sigmoid(x)
}

/// `2 * sqrt(2 / pi)`: `(1 + tanh(u)) / 2` is `sigmoid(2 u)`.
const TWICE_ROOT: f32 = 1.595_769;
const CUBIC: f32 = 0.044_715;

#[inline(always)]
fn gelu(x: f32) -> f32 {
    x * sigmoid(x * (TWICE_ROOT + TWICE_ROOT * CUBIC * (x * x)))
}

/// Value and derivative.
#[inline(always)]
fn sigmoid_slope(x: f32) -> (f32, f32) {
    let y = sigmoid(x);
    (y, y * (1.0 - y))
}

#[inline(always)]
fn silu_slope(x: f32) -> (f32, f32) {
    let share = sigmoid(x);
    let y = x * share;
    (y, share + y * (1.0 - share))
}

#[inline(always)]
fn gelu_slope(x: f32) -> (f32, f32) {
    let square = x * x;
    let share = sigmoid(x * (TWICE_ROOT + TWICE_ROOT * CUBIC * square));
    let bend = TWICE_ROOT + 3.0 * TWICE_ROOT * CUBIC * square;
    let y = x * share;
    // Far from 0 the function is linear; the square in the derivative would overflow there.
    let bent = if square < 1e4 { y * (1.0 - share) * bend } else { square * 0.0 };
    (y, share + bent)
}

/// The activation, elementwise.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub fn activate(activation: Activation, x: &[f32], y: &mut [f32]) {
    #[inline(always)]
    fn each(x: &[f32], y: &mut [f32], f: impl Fn(f32) -> f32) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = f(x);
        }
    }
    match activation {
        Activation::Sigmoid => each(x, y, sigmoid),
        Activation::Silu => each(x, y, silu),
        Activation::GeluTanh => each(x, y, gelu),
    }
}

/// The gradient with respect to `x`, given the gradient `to` of the result.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub fn activate_backward(activation: Activation, x: &[f32], to: &[f32], gradient: &mut [f32]) {
    #[inline(always)]
    fn each(x: &[f32], to: &[f32], gradient: &mut [f32], f: impl Fn(f32) -> (f32, f32)) {
        for ((gradient, &x), to) in gradient.iter_mut().zip(x).zip(to) {
            *gradient = to * f(x).1;
        }
    }
    match activation {
        Activation::Sigmoid => each(x, to, gradient, sigmoid_slope),
        Activation::Silu => each(x, to, gradient, silu_slope),
        Activation::GeluTanh => each(x, to, gradient, gelu_slope),
    }
}

/// `activation(gate) * up`, elementwise: the gated activation of an MLP (Shazeer, 2020).
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub fn gate(activation: Activation, gate: &[f32], up: &[f32], y: &mut [f32]) {
    #[inline(always)]
    fn each(gate: &[f32], up: &[f32], y: &mut [f32], f: impl Fn(f32) -> f32) {
        for ((y, &gate), up) in y.iter_mut().zip(gate).zip(up) {
            *y = f(gate) * up;
        }
    }
    match activation {
        Activation::Sigmoid => each(gate, up, y, sigmoid),
        Activation::Silu => each(gate, up, y, silu),
        Activation::GeluTanh => each(gate, up, y, gelu),
    }
}

/// The gradients with respect to both inputs of [`gate`], given the gradient `to` of the result.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub fn gate_backward(
    activation: Activation,
    gate: &[f32],
    up: &[f32],
    to: &[f32],
    gate_gradient: &mut [f32],
    up_gradient: &mut [f32],
) {
    #[inline(always)]
    fn each(
        [gate, up, to]: [&[f32]; 3],
        [gate_gradient, up_gradient]: [&mut [f32]; 2],
        f: impl Fn(f32) -> (f32, f32),
    ) {
        let gradients = gate_gradient.iter_mut().zip(up_gradient.iter_mut());
        for ((((d_gate, d_up), &gate), up), to) in gradients.zip(gate).zip(up).zip(to) {
            let (y, slope) = f(gate);
            *d_gate = to * up * slope;
            *d_up = to * y;
        }
    }
    let (inputs, gradients) = ([gate, up, to], [gate_gradient, up_gradient]);
    match activation {
        Activation::Sigmoid => each(inputs, gradients, sigmoid_slope),
        Activation::Silu => each(inputs, gradients, silu_slope),
        Activation::GeluTanh => each(inputs, gradients, gelu_slope),
    }
}

/// `cap * tanh(x / cap)`, elementwise: soft-capped logits.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub fn soft_cap(cap: f32, x: &[f32], y: &mut [f32]) {
    let twice = 2.0 / cap;
    for (y, x) in y.iter_mut().zip(x) {
        // tanh(z) is 1 - 2 / (e^2z + 1).
        *y = cap - 2.0 * cap / (exp(x * twice) + 1.0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn exact(activation: Activation, x: f64) -> f64 {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        match activation {
            Activation::Sigmoid => sigmoid(x),
            Activation::Silu => x * sigmoid(x),
            Activation::GeluTanh => {
                let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
                x / 2.0 * (1.0 + u.tanh())
            }
        }
    }

    /// The derivative as a central difference, exact to 1e-9 in f64.
    fn slope(activation: Activation, x: f64) -> f64 {
        let step = 1e-5;
        (exact(activation, x + step) - exact(activation, x - step)) / (2.0 * step)
    }

    const ALL: [Activation; 3] = [Activation::Sigmoid, Activation::Silu, Activation::GeluTanh];

    proptest! {
        #[test]
        fn values_and_gradients(
            gates in prop::collection::vec(-12.0f32..12.0, 1..40),
            ups in prop::collection::vec(-3.0f32..3.0, 40),
        ) {
            let n = gates.len();
            let to: Vec<f32> = (0..n).map(|i| (i as f32).cos()).collect();
            for activation in ALL {
                let [mut y, mut single, mut dx, mut d_gate, mut d_up] = [(); 5].map(|()| vec![0.0; n]);
                activate(activation, &gates, &mut single);
                activate_backward(activation, &gates, &to, &mut dx);
                gate(activation, &gates, &ups, &mut y);
                gate_backward(activation, &gates, &ups, &to, &mut d_gate, &mut d_up);
                for i in 0..n {
                    let [x, up, to] = [gates[i], ups[i], to[i]].map(f64::from);
                    let (value, slope) = (exact(activation, x), slope(activation, x));
                    // Roundings of 2^-24 in `1 - sigmoid`, times slopes of its argument of up to 36.
                    let close = |found: f32, exact: f64| {
                        (f64::from(found) - exact).abs() < 4e-6 * exact.abs().max(1.0)
                    };
                    prop_assert!(close(single[i], value) && close(y[i], value * up));
                    prop_assert!(close(dx[i], to * slope), "{} v {}", dx[i], to * slope);
                    prop_assert!(close(d_gate[i], to * up * slope) && close(d_up[i], to * value));
                }
            }
        }

        #[test]
        fn caps(x in -200.0f32..200.0) {
            let mut y = [0.0];
            soft_cap(30.0, &[x], &mut y);
            let exact = 30.0 * (f64::from(x) / 30.0).tanh();
            // Two roundings of values of up to 60.
            prop_assert!((f64::from(y[0]) - exact).abs() < 1e-5, "{} v {exact}", y[0]);
        }
    }

    #[test]
    fn far_from_zero_they_are_linear() {
        for activation in [Activation::Silu, Activation::GeluTanh] {
            for (x, value, slope) in [(-500.0, 0.0, 0.0), (500.0, 500.0, 1.0), (1e15, 1e15, 1.0)] {
                let (mut y, mut dx) = ([0.0], [0.0]);
                activate(activation, &[x], &mut y);
                activate_backward(activation, &[x], &[1.0], &mut dx);
                // The smallest value of an exponential, times 500.
                let close = |found: f32, exact: f32| (found - exact).abs() < 1e-35;
                assert!(close(y[0], value) && close(dx[0], slope), "{activation:?}({x})");
            }
        }
    }

    #[test]
    fn nan_stays_nan() {
        for activation in ALL {
            let (mut y, mut dx) = ([0.0], [0.0]);
            activate(activation, &[f32::NAN], &mut y);
            activate_backward(activation, &[f32::NAN], &[1.0], &mut dx);
            assert!(y[0].is_nan() && dx[0].is_nan());
        }
        let mut y = [0.0];
        soft_cap(30.0, &[f32::NAN], &mut y);
        assert!(y[0].is_nan());
    }
}
