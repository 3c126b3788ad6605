use multiversion::multiversion;

use crate::exp::of as exp;
use crate::rows::{dot, max, sum};

/// The input of a softmax: `scale * values + mask`, in rows of `width` values.
#[derive(Clone, Copy, Debug)]
pub struct Scores<'a> {
    /// In row-major order.
    pub values: &'a [f32],
    /// Added to the scaled values, and repeated from its start as often as needed: a mask `[t, n]` is
    /// broadcast over heads. Large negative values mask.
    pub mask: Option<&'a [f32]>,
    /// Factor of the values.
    pub scale: f32,
    /// Values in a row.
    pub width: usize,
}

/// Softmax of each row.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub fn softmax(scores: Scores, weights: &mut [f32]) {
    let Scores { values, mask, scale, width } = scores;
    let width = width.max(1);
    let mut masks = mask.map(|mask| mask.chunks_exact(width).cycle());
    for (weights, values) in weights.chunks_exact_mut(width).zip(values.chunks_exact(width)) {
        match masks.as_mut().and_then(Iterator::next) {
            Some(mask) => {
                for ((weight, value), mask) in weights.iter_mut().zip(values).zip(mask) {
                    *weight = value * scale + mask;
                }
            }
            None => {
                for (weight, value) in weights.iter_mut().zip(values) {
                    *weight = value * scale;
                }
            }
        }
        normalize(weights);
    }
}

/// Softmax in place.
#[inline(always)]
pub(crate) fn normalize(values: &mut [f32]) {
    let peak = max(values);
    for value in values.iter_mut() {
        *value = exp(*value - peak);
    }
    let share = 1.0 / sum(values);
    for value in values.iter_mut() {
        *value *= share;
    }
}

/// The gradient with respect to the values of [`Scores`], given the gradient `to` of the weights:
/// `scale * p * (dp - sum(p * dp))`.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub fn softmax_backward(
    weights: &[f32],
    cotangent: &[f32],
    scale: f32,
    width: usize,
    gradient: &mut [f32],
) {
    let width = width.max(1);
    let rows = weights.chunks_exact(width).zip(cotangent.chunks_exact(width));
    for (gradient, (p, dp)) in gradient.chunks_exact_mut(width).zip(rows) {
        let mean = dot(p, dp);
        for ((gradient, p), dp) in gradient.iter_mut().zip(p).zip(dp) {
            *gradient = p * (dp - mean) * scale;
        }
    }
}

/// The outputs of [`exponentials`].
#[derive(Debug)]
pub struct Exponentials<'a> {
    /// `exp(x - peak)`, of the same shape as `x`.
    pub values: &'a mut [f32],
    /// The largest value of each row.
    pub peaks: &'a mut [f32],
    /// The sum of each row's exponentials.
    pub totals: &'a mut [f32],
}

/// The terms of a softmax over a part of each row, which can be combined with those of other parts
/// (online softmax: Milakov and Gimelshein, 2018).
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub fn exponentials(x: &[f32], width: usize, to: Exponentials) {
    let width = width.max(1);
    let rows = to.values.chunks_exact_mut(width).zip(x.chunks_exact(width));
    for (((values, x), peak), total) in rows.zip(to.peaks).zip(to.totals) {
        let most = max(x);
        for (value, x) in values.iter_mut().zip(x) {
            *value = exp(x - most);
        }
        *peak = most;
        *total = sum(values);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Softmax and its gradient from the definition, in f64.
    fn reference(scores: &[f64], cotangent: &[f32], scale: f64) -> (Vec<f64>, Vec<f64>) {
        let peak = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let e: Vec<f64> = scores.iter().map(|score| (score - peak).exp()).collect();
        let total: f64 = e.iter().sum();
        let p: Vec<f64> = e.iter().map(|e| e / total).collect();
        let mean: f64 = p.iter().zip(cotangent).map(|(p, &dp)| p * f64::from(dp)).sum();
        let gradient = p.iter().zip(cotangent).map(|(p, &dp)| scale * p * (f64::from(dp) - mean));
        let gradient = gradient.collect();
        (p, gradient)
    }

    proptest! {
        #[test]
        fn softmax_agrees_with_f64(
            width in 1usize..70,
            seed in prop::collection::vec(-4.0f32..4.0, 70 * 4),
            scale in 0.05f32..1.0,
            masked in any::<bool>(),
        ) {
            let rows = 4;
            let values = &seed[..width * rows];
            let cotangent: Vec<f32> = values.iter().map(|v| (v * 7.0).sin()).collect();
            // Two rows of mask for four of scores; the first value of a row is never masked.
            let mask: Vec<f32> = (0..2 * width)
                .map(|i| if i % width > 0 && i % 3 == 0 { -1e30 } else { 0.0 })
                .collect();
            let mask = masked.then_some(mask.as_slice());
            let mut weights = vec![0.0; values.len()];
            softmax(Scores { values, mask, scale, width }, &mut weights);
            let mut gradient = vec![0.0; values.len()];
            softmax_backward(&weights, &cotangent, scale, width, &mut gradient);
            for row in 0..rows {
                let at = row * width..(row + 1) * width;
                let hidden = |i: usize| mask.map_or(0.0, |mask| f64::from(mask[row % 2 * width + i]));
                let scores: Vec<f64> = values[at.clone()].iter().enumerate()
                    .map(|(i, &v)| f64::from(v) * f64::from(scale) + hidden(i))
                    .collect();
                let (p, dx) = reference(&scores, &cotangent[at.clone()], f64::from(scale));
                for (i, at) in at.enumerate() {
                    // A few roundings of values of at most 1.
                    prop_assert!((f64::from(weights[at]) - p[i]).abs() < 1e-6);
                    prop_assert!((f64::from(gradient[at]) - dx[i]).abs() < 2e-6);
                }
            }
        }

        #[test]
        fn parts_combine_to_the_whole(x in prop::collection::vec(-20.0f32..20.0, 1..200)) {
            let (mut values, mut peaks, mut totals) = (vec![0.0; x.len()], [0.0], [0.0]);
            let to = Exponentials { values: &mut values, peaks: &mut peaks, totals: &mut totals };
            exponentials(&x, x.len(), to);
            let exact: f64 = x.iter().map(|&x| f64::from(x).exp()).sum();
            let found = f64::from(totals[0]).ln() + f64::from(peaks[0]);
            // Logarithms near 20 in f32, and a sum of 200 rounded values.
            prop_assert!((found - exact.ln()).abs() < 1e-5);
        }
    }

    #[test]
    fn nan_affects_its_row_only() {
        let mut weights = [0.0; 4];
        let values = &[f32::NAN, 1.0, 2.0, 3.0];
        softmax(Scores { values, mask: None, scale: 1.0, width: 2 }, &mut weights);
        assert!(
            weights[..2].iter().all(|w| w.is_nan()) && weights[2..].iter().all(|w| !w.is_nan())
        );
    }

    #[test]
    fn fully_masked_rows_are_uniform() {
        let mut weights = [0.0; 2];
        let mask = Some([-1e30, -1e30]);
        let values = &[1.0, -3.0];
        softmax(
            Scores { values, mask: mask.as_ref().map(|m| &m[..]), scale: 1.0, width: 2 },
            &mut weights,
        );
        assert_eq!(weights, [0.5, 0.5]);
    }
}
