use multiversion::multiversion;

/// An affinely quantized matrix: each value is `scale * q + bias`, with a scale and a bias for every
/// group of consecutive values.
#[derive(Clone, Copy, Debug)]
pub struct Quantized<'a> {
    /// The codes `q`, a stream of bits that starts with the lowest bit of the first word.
    pub packed: &'a [u32],
    /// By group.
    pub scales: &'a [f32],
    /// By group.
    pub biases: &'a [f32],
    /// Values in a group; the codes of a group fill whole words.
    pub group_size: usize,
    /// Bits of a code, at most 8.
    pub bits: usize,
}

/// Writes the dense matrix in row-major order.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub fn dequantize(matrix: Quantized, values: &mut [f32]) {
    let Quantized { packed, scales, biases, group_size, bits } = matrix;
    let words = group_size * bits / 32;
    if words == 0 {
        return;
    }
    let groups = values.chunks_exact_mut(group_size).zip(packed.chunks_exact(words));
    for ((values, packed), (&scale, &bias)) in groups.zip(scales.iter().zip(biases)) {
        match bits {
            // All eight or four codes of a word at once.
            4 => whole::<8, 4>(packed, scale, bias, values),
            8 => whole::<4, 8>(packed, scale, bias, values),
            2 => whole::<16, 2>(packed, scale, bias, values),
            _ => stream(packed, bits, scale, bias, values),
        }
    }
}

/// For codes that do not cross the boundaries of words.
#[inline(always)]
fn whole<const CODES: usize, const BITS: u32>(
    packed: &[u32],
    scale: f32,
    bias: f32,
    values: &mut [f32],
) {
    let (values, _) = values.as_chunks_mut::<CODES>();
    for (values, &word) in values.iter_mut().zip(packed) {
        for (value, place) in values.iter_mut().zip(0..) {
            let code = word >> (place * BITS) & ((1 << BITS) - 1);
            // Below 256, so the signed conversion, which is a single instruction, is exact.
            *value = code as i32 as f32 * scale + bias;
        }
    }
}

/// For codes that cross the boundaries of words.
#[inline(always)]
fn stream(packed: &[u32], bits: usize, scale: f32, bias: f32, values: &mut [f32]) {
    let mut words = packed.iter();
    let (mut held, mut count) = (0u64, 0);
    for value in values {
        if count < bits {
            let Some(&word) = words.next() else { return };
            held |= u64::from(word) << count;
            count += 32;
        }
        let code = held & ((1 << bits) - 1);
        held >>= bits;
        count -= bits;
        *value = code as f32 * scale + bias;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Agrees with codes that were written into the stream bit by bit.
        #[test]
        fn codes_come_back(
            bits in 1usize..=8,
            group_size in prop::sample::select(vec![32usize, 64, 128]),
            codes in prop::collection::vec(any::<u8>(), 256),
            scales in prop::collection::vec(-2.0f32..2.0, 8),
        ) {
            let codes: Vec<u32> = codes.iter().map(|&code| u32::from(code) & ((1 << bits) - 1)).collect();
            let mut packed = vec![0u32; codes.len() * bits / 32];
            for (i, code) in codes.iter().enumerate() {
                for bit in 0..bits {
                    let at = i * bits + bit;
                    packed[at / 32] |= (code >> bit & 1) << (at % 32);
                }
            }
            let biases: Vec<f32> = scales.iter().map(|scale| scale * 0.3 - 1.0).collect();
            let matrix = Quantized { packed: &packed, scales: &scales, biases: &biases, group_size, bits };
            let mut values = vec![f32::NAN; codes.len()];
            dequantize(matrix, &mut values);
            for (i, &code) in codes.iter().enumerate() {
                let group = i / group_size;
                prop_assert_eq!(values[i], code as f32 * scales[group] + biases[group]);
            }
        }
    }
}
