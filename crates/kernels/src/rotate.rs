use multiversion::multiversion;

/// Which values of a head form the pairs that are rotated together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// `(i, i + width / 2)`.
    Halves,
    /// `(2i, 2i + 1)`.
    Neighbours,
}

/// The rotations of a sequence of tokens.
#[derive(Clone, Copy, Debug)]
pub struct Rotation<'a> {
    /// `[tokens, width]`: the cosine of the angle of each value's pair.
    pub cos: &'a [f32],
    /// `[tokens, width]`: the sine.
    pub sin: &'a [f32],
    /// Which values are paired.
    pub pairs: Pairs,
    /// Values of a head.
    pub width: usize,
    /// 1 to rotate, -1 to rotate back; the latter is also the gradient.
    pub direction: f32,
}

/// Rotary embedding (Su et al., 2021) of `[tokens, heads, width]`: the pair `(a, b)` at angle `t`
/// becomes `(a cos t - b sin t, b cos t + a sin t)`.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub fn rotate(rotation: Rotation, x: &[f32], y: &mut [f32]) {
    let Rotation { cos, sin, pairs, width, direction } = rotation;
    let tokens = cos.len().checked_div(width).unwrap_or_default();
    let token = x.len().checked_div(tokens).unwrap_or_default();
    if token == 0 {
        return;
    }
    let half = width / 2;
    let tables = cos.chunks_exact(width).zip(sin.chunks_exact(width));
    let all = y.chunks_exact_mut(token).zip(x.chunks_exact(token)).zip(tables);
    for ((y, x), (cos, sin)) in all {
        for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            match pairs {
                Pairs::Halves => {
                    let ((y_a, y_b), (a, b)) = (y.split_at_mut(half), x.split_at(half));
                    let tables = cos.iter().zip(sin);
                    for ((((y_a, y_b), a), b), (cos, sin)) in
                        y_a.iter_mut().zip(y_b).zip(a).zip(b).zip(tables)
                    {
                        let sin = sin * direction;
                        *y_a = a * cos - b * sin;
                        *y_b = b * cos + a * sin;
                    }
                }
                Pairs::Neighbours => {
                    let (y, _) = y.as_chunks_mut::<2>();
                    let ((x, _), (cos, _), (sin, _)) =
                        (x.as_chunks::<2>(), cos.as_chunks::<2>(), sin.as_chunks::<2>());
                    for (((y, [a, b]), [cos, _]), [sin, _]) in y.iter_mut().zip(x).zip(cos).zip(sin)
                    {
                        let sin = sin * direction;
                        *y = [a * cos - b * sin, b * cos + a * sin];
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Agrees with complex numbers in f64, and rotates back.
        #[test]
        fn turns_pairs(
            half in 1usize..20,
            heads in 1usize..4,
            x in prop::collection::vec(-5.0f32..5.0, 3 * 4 * 40),
            neighbours in any::<bool>(),
        ) {
            let (tokens, width) = (3, 2 * half);
            let x = &x[..tokens * heads * width];
            let pairs = if neighbours { Pairs::Neighbours } else { Pairs::Halves };
            let place = |pair: usize| match pairs {
                Pairs::Halves => [pair, pair + half],
                Pairs::Neighbours => [2 * pair, 2 * pair + 1],
            };
            let angle = |token: usize, pair: usize| (token * 5 + pair) as f64 * 0.7;
            let (mut cos, mut sin) = (vec![0.0; tokens * width], vec![0.0; tokens * width]);
            for token in 0..tokens {
                for pair in 0..half {
                    for value in place(pair) {
                        cos[token * width + value] = angle(token, pair).cos() as f32;
                        sin[token * width + value] = angle(token, pair).sin() as f32;
                    }
                }
            }
            let rotation = Rotation { cos: &cos, sin: &sin, pairs, width, direction: 1.0 };
            let (mut y, mut back) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            rotate(rotation, x, &mut y);
            rotate(Rotation { direction: -1.0, ..rotation }, &y, &mut back);
            for token in 0..tokens {
                for head in 0..heads {
                    for pair in 0..half {
                        let [a, b] = place(pair).map(|i| (token * heads + head) * width + i);
                        let (sin, cos) = angle(token, pair).sin_cos();
                        let (x_a, x_b) = (f64::from(x[a]), f64::from(x[b]));
                        // Three roundings of values of at most 7.1.
                        prop_assert!((f64::from(y[a]) - (x_a * cos - x_b * sin)).abs() < 3e-6);
                        prop_assert!((f64::from(y[b]) - (x_b * cos + x_a * sin)).abs() < 3e-6);
                        prop_assert!((back[a] - x[a]).abs() < 4e-6 && (back[b] - x[b]).abs() < 4e-6);
                    }
                }
            }
        }
    }
}
