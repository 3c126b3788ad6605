use multiversion::multiversion;

use crate::rows::dot;
use crate::softmax::normalize;

/// Queries that attend to the same keys, all of them to all keys.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// `[queries, width]` in row-major order.
    pub queries: &'a [f32],
    /// `[keys, width]`.
    pub keys: &'a [f32],
    /// `[keys, width]`.
    pub values: &'a [f32],
    /// Added to the scaled score of each key. Large negative values mask.
    pub mask: Option<&'a [f32]>,
    /// Factor of the scores.
    pub scale: f32,
    /// Values of a query, a key and a value.
    pub width: usize,
}

/// `softmax(scale * q k^T + mask) v`, `[queries, width]`. `weights` has room for `[queries, keys]`.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub fn attend(attention: Attention, weights: &mut [f32], outputs: &mut [f32]) {
    let Attention { queries, keys, values, mask, scale, width } = attention;
    let width = width.max(1);
    let count = keys.len() / width;
    // By key, so that each is read once for all queries.
    for (index, key) in keys.chunks_exact(width).enumerate() {
        let hidden = mask.and_then(|mask| mask.get(index)).copied().unwrap_or_default();
        let scores = weights.iter_mut().skip(index).step_by(count);
        for (score, query) in scores.zip(queries.chunks_exact(width)) {
            *score = dot(query, key) * scale + hidden;
        }
    }
    weights.chunks_exact_mut(count.max(1)).for_each(normalize);
    outputs.fill(0.0);
    for (index, value) in values.chunks_exact(width).enumerate() {
        let shares = weights.iter().skip(index).step_by(count);
        for (share, output) in shares.zip(outputs.chunks_exact_mut(width)) {
            for (output, value) in output.iter_mut().zip(value) {
                *output += share * value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// From the definition, in f64: sums of at most 70 terms of at most 4 leave 1e-5 in f32.
        #[test]
        fn agrees_with_f64(
            (queries, keys, width) in (1usize..5, 1usize..70, 1usize..40),
            seed in prop::collection::vec(-2.0f32..2.0, 400),
            scale in 0.05f32..1.0,
            masked in any::<bool>(),
        ) {
            let draw = |from: usize, count: usize| -> Vec<f32> {
                (from..from + count).map(|i| seed[i * 7 % 400] * (1.0 + i as f32).sin()).collect()
            };
            let q = draw(0, queries * width);
            let (k, v) = (draw(1000, keys * width), draw(9000, keys * width));
            let mask: Vec<f32> = (0..keys).map(|i| if masked && i % 3 == 1 { -1e30 } else { 0.0 }).collect();
            let (mut weights, mut outputs) = (vec![f32::NAN; queries * keys], vec![f32::NAN; q.len()]);
            let attention = Attention {
                queries: &q, keys: &k, values: &v, mask: masked.then_some(&mask), scale, width,
            };
            attend(attention, &mut weights, &mut outputs);
            for (query, output) in q.chunks(width).zip(outputs.chunks(width)) {
                let scores: Vec<f64> = k.chunks(width).zip(&mask).map(|(key, &hidden)| {
                    let products = query.iter().zip(key).map(|(&q, &k)| f64::from(q) * f64::from(k));
                    products.sum::<f64>() * f64::from(scale) + f64::from(hidden)
                }).collect();
                let peak = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let shares: Vec<f64> = scores.iter().map(|score| (score - peak).exp()).collect();
                let total: f64 = shares.iter().sum();
                for (i, &found) in output.iter().enumerate() {
                    let terms = shares.iter().zip(v.chunks(width));
                    let expected = terms.map(|(share, value)| share / total * f64::from(value[i])).sum::<f64>();
                    prop_assert!((f64::from(found) - expected).abs() < 1e-5, "{found} {expected}");
                }
            }
        }
    }
}
