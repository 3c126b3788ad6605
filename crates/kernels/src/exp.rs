use std::f32::consts::LOG2_E;

use multiversion::multiversion;

/// `exp(x)`, elementwise.
///
/// The relative error is below 2e-7, beside the rounding of `x * log2(e)`. Results below 1.2e-38 are
/// flushed to 0, since denormals are slow; results above 3.4e38 become the largest power of two that
/// f32 represents. NaN stays NaN.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub fn exp(x: &[f32], y: &mut [f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = of(x);
    }
}

/// `2^(n + f)` with an integer `n` and `f` in -0.5..=0.5: a minimax polynomial for `2^f`, exact at 0
/// (relative error 9.2e-8), times `2^n` constructed from bits. Without branches, so that a loop over
/// it compiles to vector instructions.
#[inline(always)]
pub(crate) fn of(x: f32) -> f32 {
    #[expect(
        clippy::approx_constant,
        reason = "fitted coefficients; the last one is only near ln 2"
    )]
    const COEFFICIENTS: [f32; 5] =
        [0.001_326_472_7, 0.009_671_513, 0.055_507_336, 0.240_222_42, 0.693_147];
    /// 1.5 * 2^23: floats of this size have no fraction, so adding it rounds and leaves the integer in
    /// the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    /// The bits of 1.0: the bias of the exponent.
    const ONE: u32 = 0x3f80_0000;
    /// Position of the exponent's bits.
    const SHIFT: u32 = 23;
    /// With this exponent all bits are zero: the result is 0.
    const LEAST: f32 = -127.0;
    /// The largest exponent.
    const MOST: f32 = 127.0;

    let y = x * LOG2_E;
    // Comparisons rather than `max` and `min`, which would replace NaN.
    let y = if y < LEAST { LEAST } else { y };
    let y = if y > MOST { MOST } else { y };
    let shifted = y + ROUND;
    let f = y - (shifted - ROUND);
    let [first, rest @ ..] = COEFFICIENTS;
    let mut p = f * first;
    for c in rest {
        p = (p + c) * f;
    }
    (p + 1.0) * f32::from_bits((shifted.to_bits() << SHIFT).wrapping_add(ONE))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn exact_to_f32(x in -87.0f32..88.0) {
            let exact = f64::from(x).exp();
            let error = (f64::from(of(x)) - exact).abs() / exact;
            // Rounding x * log2(e) moves the exponent by half a unit of its last place.
            let rounding = f64::from(x.abs()) * f64::from(f32::EPSILON);
            prop_assert!(error < 2e-7 + rounding, "exp({x}) is off by {error}");
        }

        /// Whole vectors and the remainder use different instructions.
        #[test]
        fn independent_of_position(x in prop::collection::vec(-90.0f32..90.0, 0..70)) {
            let mut y = vec![f32::NAN; x.len()];
            exp(&x, &mut y);
            let single: Vec<f32> = x.iter().map(|&x| of(x)).collect();
            prop_assert_eq!(y, single);
        }
    }

    #[test]
    fn extremes() {
        for (x, expected) in [(f32::NEG_INFINITY, 0.0), (-1e30, 0.0), (-88.1, 0.0), (0.0, 1.0)] {
            assert_eq!(of(x), expected, "exp({x})");
        }
        assert!(of(1e30).is_finite() && of(f32::INFINITY) > 1e38);
        assert!(of(f32::NAN).is_nan());
    }
}
