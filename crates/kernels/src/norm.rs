use multiversion::multiversion;

use crate::rows::dot;

/// RMS norm of each row, `x / sqrt(mean(x^2) + eps) * weight` (Zhang and Sennrich, 2019). A row is as
/// wide as the weight.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) {
    let width = weight.len().max(1);
    for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
        let shrink = 1.0 / (dot(x, x) / width as f32 + eps).sqrt();
        for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
            *y = x * shrink * weight;
        }
    }
}

/// The gradient with respect to `x`, given the gradient `to` of the result: `r g - r^3 x mean(g x)` with
/// `r = 1 / sqrt(mean(x^2) + eps)` and `g = to * weight`.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub fn rms_norm_backward(x: &[f32], weight: &[f32], eps: f32, to: &[f32], gradient: &mut [f32]) {
    let width = weight.len().max(1);
    let rows = x.chunks_exact(width).zip(to.chunks_exact(width));
    for (gradient, (x, to)) in gradient.chunks_exact_mut(width).zip(rows) {
        let shrink = 1.0 / (dot(x, x) / width as f32 + eps).sqrt();
        for ((gradient, to), weight) in gradient.iter_mut().zip(to).zip(weight) {
            *gradient = to * weight;
        }
        let back = dot(gradient, x) / width as f32 * shrink * shrink;
        for (gradient, x) in gradient.iter_mut().zip(x) {
            *gradient = (*gradient - x * back) * shrink;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn values_and_gradients(
            weight in prop::collection::vec(-2.0f32..2.0, 1..70),
            x in prop::collection::vec(-5.0f32..5.0, 140),
        ) {
            let (width, eps) = (weight.len(), 1e-5f32);
            let x = &x[..2 * width];
            let to: Vec<f32> = x.iter().map(|x| (3.0 * x).cos()).collect();
            let (mut y, mut dx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            rms_norm(x, &weight, eps, &mut y);
            rms_norm_backward(x, &weight, eps, &to, &mut dx);
            for row in 0..2 {
                let at = |i: usize| row * width + i;
                let n = width as f64;
                let double = |values: &[f32], i: usize| f64::from(values[at(i)]);
                let square: f64 = (0..width).map(|i| double(x, i).powi(2)).sum();
                let r = (square / n + f64::from(eps)).sqrt().recip();
                let g = |i: usize| double(&to, i) * f64::from(weight[i]);
                let mean: f64 = (0..width).map(|i| g(i) * double(x, i)).sum::<f64>() / n;
                for (i, &weight) in weight.iter().enumerate() {
                    let value = double(x, i) * r * f64::from(weight);
                    let gradient = r * g(i) - r.powi(3) * double(x, i) * mean;
                    // Relative to the terms, which may cancel.
                    let size = (r * g(i)).abs() + (r.powi(3) * double(x, i) * mean).abs() + r;
                    prop_assert!((double(&y, i) - value).abs() < 2e-6 * value.abs().max(1.0));
                    prop_assert!((double(&dx, i) - gradient).abs() < 4e-6 * size.max(1.0));
                }
            }
        }
    }
}
