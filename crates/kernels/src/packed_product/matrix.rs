/// An affinely quantized matrix as it is stored: each value is `scale * q + bias`, with a scale and a bias for every group of
/// consecutive values of an output's row.
#[derive(Clone, Copy, Debug)]
pub struct PackedMatrix<'a> {
    /// The codes `q`, row by row, a stream of bits that starts with the lowest bit of the first word.
    pub codes: &'a [u32],
    /// By group.
    pub scales: Floats<'a>,
    /// By group.
    pub biases: Floats<'a>,
    /// Values in a group.
    pub group_size: usize,
    /// Bits of a code.
    pub bits: usize,
}

/// Finite numbers in one of the formats that checkpoints have.
#[derive(Clone, Copy, Debug)]
pub enum Floats<'a> {
    /// IEEE 754 single precision.
    F32(&'a [f32]),
    /// IEEE 754 half precision, as bits.
    F16(&'a [u16]),
    /// The upper half of a single-precision number, as bits.
    Bf16(&'a [u16]),
}

impl<'a> PackedMatrix<'a> {
    /// The same matrix without its first outputs, rows of `inputs` values.
    pub fn without_outputs(self, outputs: usize, inputs: usize) -> Self {
        let values = outputs * inputs;
        let groups = values.checked_div(self.group_size).unwrap_or_default();
        Self {
            codes: self.codes.get(values * self.bits / 32..).unwrap_or_default(),
            scales: self.scales.from(groups),
            biases: self.biases.from(groups),
            ..self
        }
    }
}

impl Floats<'_> {
    fn from(self, start: usize) -> Self {
        match self {
            Self::F32(values) => Self::F32(values.get(start..).unwrap_or_default()),
            Self::F16(values) => Self::F16(values.get(start..).unwrap_or_default()),
            Self::Bf16(values) => Self::Bf16(values.get(start..).unwrap_or_default()),
        }
    }

    /// Writes the numbers from `start` on to `to`, in f32. `None` if there are too few.
    #[inline(always)]
    pub(super) fn widened(self, start: usize, to: &mut [f32]) -> Option<()> {
        let range = start..start + to.len();
        match self {
            Self::F32(values) => to.copy_from_slice(values.get(range)?),
            Self::F16(values) => {
                for (to, &bits) in to.iter_mut().zip(values.get(range)?) {
                    *to = from_half(bits);
                }
            }
            Self::Bf16(values) => {
                for (to, &bits) in to.iter_mut().zip(values.get(range)?) {
                    *to = f32::from_bits(u32::from(bits) << 16);
                }
            }
        }
        Some(())
    }
}

/// Exponent and fraction moved to their places in f32; the product corrects the exponent, that of denormals too.
#[inline(always)]
fn from_half(bits: u16) -> f32 {
    /// 2^112, the difference of the exponents' biases.
    const CORRECTION: f32 = f32::from_bits((112 + 127) << 23);
    let (sign, rest) = (u32::from(bits >> 15), u32::from(bits & 0x7fff));
    f32::from_bits(sign << 31 | rest << 13) * CORRECTION
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    #[test]
    fn all_finite_halves_are_exact() {
        for bits in 0..=u16::MAX {
            let expected = f16::from_bits(bits);
            if expected.is_finite() {
                assert_eq!(from_half(bits).to_bits(), expected.to_f32().to_bits(), "{bits:#x}");
            }
        }
    }
}
