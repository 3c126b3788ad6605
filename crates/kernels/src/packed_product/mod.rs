//! Products of a quantized matrix with few rows, without dequantizing it: what decoding consists of. They are as fast as
//! the codes can be read, a sixth of what a dense matrix in f32 takes.

mod inputs;
mod lanes;
mod matrix;
mod sums;

use inputs::BLOCK;
pub use inputs::PackedInputs;
use lanes::{Lanes, Portable};
pub use matrix::{Floats, PackedMatrix};

/// `y[o, r] = sum_i w[o, i] x[r, i]` for rows `r` of inputs: the products of an output side by side. `matrix` may have more
/// outputs than `y`.
///
/// Codes have 4 or 8 bits, and groups a multiple of 32 values; otherwise `y` is left unchanged. The values of the matrix are
/// those of [`dequantize`](crate::dequantize), and sums have a fixed order. Unlike other kernels this one fuses
/// multiplications with additions, so processors that can and those that cannot differ by roundings.
pub fn packed_product(matrix: PackedMatrix, x: &PackedInputs, y: &mut [f32]) {
    let PackedMatrix { group_size, bits, .. } = matrix;
    let whole = group_size.is_multiple_of(BLOCK) && x.width().is_multiple_of(group_size);
    if x.rows() == 0 || group_size == 0 || !whole {
        return;
    }
    match bits {
        4 => on_this_processor::<4>(matrix, x, y),
        8 => on_this_processor::<8>(matrix, x, y),
        _ => (),
    }
}

fn on_this_processor<const BITS: usize>(matrix: PackedMatrix, x: &PackedInputs, y: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the processor has these instructions.
        return unsafe {
            match is_x86_feature_detected!("avx512f") {
                true => with_avx512::<BITS>(matrix, x, y),
                false => with_avx2::<BITS>(matrix, x, y),
            }
        };
    }
    // SAFETY: needs no instructions.
    unsafe { all_rows::<Portable, BITS>(matrix, x, y) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
fn with_avx512<const BITS: usize>(matrix: PackedMatrix, x: &PackedInputs, y: &mut [f32]) {
    // SAFETY: the function is called with these instructions.
    unsafe { all_rows::<lanes::Avx512, BITS>(matrix, x, y) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn with_avx2<const BITS: usize>(matrix: PackedMatrix, x: &PackedInputs, y: &mut [f32]) {
    // SAFETY: as above.
    unsafe { all_rows::<lanes::Avx2, BITS>(matrix, x, y) }
}

/// Several outputs at a time, if there are few rows: with few sums, an addition waits for the one before it. All sums of a
/// step stay in registers.
///
/// # Safety
/// The processor must have the instructions of `L`.
#[inline(always)]
unsafe fn all_rows<L: Lanes, const BITS: usize>(
    matrix: PackedMatrix,
    x: &PackedInputs,
    y: &mut [f32],
) {
    let mut first = 0;
    // SAFETY: as promised by the caller.
    unsafe {
        while first < x.rows() {
            first += match x.rows() - first {
                8.. if L::REGISTERS >= 32 => sums::of_rows::<L, 2, 8, BITS>(matrix, x, first, y),
                4.. => sums::of_rows::<L, 2, 4, BITS>(matrix, x, first, y),
                2.. => sums::of_rows::<L, 4, 2, BITS>(matrix, x, first, y),
                _ => sums::of_rows::<L, 4, 1, BITS>(matrix, x, first, y),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};
    use proptest::prelude::*;

    use super::*;
    use crate::Quantized;

    /// Random numbers (Knuth's linear congruential generator).
    struct Noise(u64);

    impl Noise {
        fn word(&mut self) -> u32 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (self.0 >> 32) as u32
        }

        fn values(&mut self, count: usize) -> Vec<f32> {
            (0..count).map(|_| self.word() as f32 / 2f32.powi(31) - 1.0).collect()
        }
    }

    /// Numbers in one of the formats, and their values in f32.
    struct Stored {
        format: usize,
        values: Vec<f32>,
        halves: Vec<u16>,
    }

    impl Stored {
        fn new(format: usize, values: &[f32]) -> Self {
            let halves = values.iter().map(|&value| match format {
                1 => f16::from_f32(value).to_bits(),
                _ => bf16::from_f32(value).to_bits(),
            });
            let halves: Vec<u16> = halves.collect();
            let wide = |&bits: &u16| match format {
                1 => f16::from_bits(bits).to_f32(),
                _ => bf16::from_bits(bits).to_f32(),
            };
            let values = match format {
                0 => values.to_vec(),
                _ => halves.iter().map(wide).collect(),
            };
            Self { format, values, halves }
        }

        fn floats(&self) -> Floats<'_> {
            match self.format {
                0 => Floats::F32(&self.values),
                1 => Floats::F16(&self.halves),
                _ => Floats::Bf16(&self.halves),
            }
        }
    }

    type Product = fn(PackedMatrix, &PackedInputs, &mut [f32]);

    fn portable<const BITS: usize>(matrix: PackedMatrix, x: &PackedInputs, y: &mut [f32]) {
        // SAFETY: needs no instructions.
        unsafe { all_rows::<Portable, BITS>(matrix, x, y) }
    }

    #[cfg(target_arch = "x86_64")]
    fn avx2<const BITS: usize>(matrix: PackedMatrix, x: &PackedInputs, y: &mut [f32]) {
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor has these instructions.
            unsafe { with_avx2::<BITS>(matrix, x, y) }
        } else {
            packed_product(matrix, x, y);
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    use portable as avx2;

    proptest! {
        /// Agrees with the dequantized matrix in f64, on every kind of processor; those that fuse agree to the bit.
        #[test]
        fn equals_the_dequantized_product(
            (rows, outputs, groups) in (1usize..11, 1usize..10, 1usize..4),
            bits in prop::sample::select(vec![4usize, 8]),
            group_size in prop::sample::select(vec![32usize, 64, 128]),
            format in 0usize..3,
            seed in any::<u64>(),
        ) {
            let (width, mut noise) = (groups * group_size, Noise(seed));
            let packed: Vec<u32> = (0..outputs * width * bits / 32).map(|_| noise.word()).collect();
            let [scales, biases] = [(); 2].map(|()| Stored::new(format, &noise.values(outputs * groups)));
            let x = noise.values(rows * width);
            let mut dense = vec![0.0; outputs * width];
            let (wide_scales, wide_biases) = (&scales.values, &biases.values);
            crate::dequantize(
                Quantized { packed: &packed, scales: wide_scales, biases: wide_biases, group_size, bits },
                &mut dense,
            );
            let (scales, biases) = (scales.floats(), biases.floats());
            let matrix = PackedMatrix { codes: &packed, scales, biases, group_size, bits };
            let inputs = PackedInputs::new(&x, width, bits);
            prop_assert_eq!(inputs.rows(), rows);
            let products: [Product; 3] = match bits {
                4 => [packed_product, avx2::<4>, portable::<4>],
                _ => [packed_product, avx2::<8>, portable::<8>],
            };
            let [best, avx2, portable] = products.map(|product| {
                let mut y = vec![f32::NAN; outputs * rows];
                product(matrix, &inputs, &mut y);
                y
            });
            prop_assert_eq!(&best, &avx2);
            for y in [best, portable] {
                for (at, found) in y.into_iter().enumerate() {
                    let (w, x) = (&dense[at / rows * width..][..width], &x[at % rows * width..][..width]);
                    let terms = w.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x));
                    let (exact, size) = terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
                    // 24 additions to each of 16 sums, and four of these.
                    let error = (f64::from(found) - exact).abs();
                    prop_assert!(error <= 28.0 * size * f64::from(f32::EPSILON), "{found} v {exact}");
                }
            }
        }
    }

    /// Inputs that do not fit change nothing beyond what is there.
    #[test]
    fn what_does_not_fit_is_left_unchanged() {
        let ones = Floats::F32(&[1.0; 2]);
        let codes = &[u32::MAX; 8];
        let matrix = PackedMatrix { codes, scales: ones, biases: ones, group_size: 32, bits: 4 };
        let x = [1.0; 32];
        let run = |matrix: PackedMatrix, width: usize, bits: usize| {
            let mut y = [-1.0; 3];
            packed_product(matrix, &PackedInputs::new(&x, width, bits), &mut y);
            y
        };
        // Sixteen times 32, for the two outputs that there are.
        assert_eq!(run(matrix, 32, 4), [512.0, 512.0, -1.0]);
        assert_eq!(run(matrix.without_outputs(1, 32), 32, 4), [512.0, -1.0, -1.0]);
        assert_eq!(run(matrix.without_outputs(9, 32), 32, 4), [-1.0; 3]);
        assert_eq!(run(PackedMatrix { bits: 3, ..matrix }, 32, 3), [-1.0; 3]);
        assert_eq!(run(PackedMatrix { group_size: 0, ..matrix }, 32, 4), [-1.0; 3]);
        assert_eq!(run(matrix, 0, 4), [-1.0; 3]);
        assert_eq!(run(matrix, 64, 4), [-1.0; 3]);
    }
}
