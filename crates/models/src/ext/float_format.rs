//! Weights of 4 and 8 bits that are small floating point numbers: the OCP's microscaling formats
//! (MXFP4, MXFP8) and NVIDIA's NVFP4, as MLX packs them.

use mlx_rs::{Array, Dtype};

use crate::Result;

/// How the numbers of a group and their common scale are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FloatFormat {
    /// E2M1 in groups of 32, the scale a power of two (E8M0).
    Mxfp4,
    /// E4M3 in groups of 32, the scale a power of two (E8M0).
    Mxfp8,
    /// E2M1 in groups of 16, the scale an E4M3 number.
    Nvfp4,
}

impl FloatFormat {
    /// The names MLX has for them, and for what is no float.
    pub const MODES: [&str; 4] = ["affine", "mxfp4", "mxfp8", "nvfp4"];

    /// The one with so many bits in groups of so many.
    pub fn of(bits: usize, group_size: usize) -> Option<Self> {
        match (bits, group_size) {
            (4, 32) => Some(Self::Mxfp4),
            (8, 32) => Some(Self::Mxfp8),
            (4, 16) => Some(Self::Nvfp4),
            _ => None,
        }
    }

    /// The plain matrices of packed words `[.., columns * bits / 32]` and scales `[.., groups]`: each
    /// byte looked up in a table of the numbers it can hold.
    pub fn dense(self, packed: &Array, scales: &Array, dtype: Dtype) -> Result<Array> {
        let (numbers, scale) = match self {
            Self::Mxfp4 => (table(4, e2m1), table(8, e8m0)),
            Self::Mxfp8 => (table(8, e4m3), table(8, e8m0)),
            Self::Nvfp4 => (table(4, e2m1), table(8, e4m3)),
        };
        let groups = scales.shape();
        let grouped = [groups, &[-1]].concat();
        let values = numbers.take_axis(packed.view::<u8>()?, 0)?.reshape(&grouped)?;
        let scaled = values.multiply(scale.take_axis(scales, 0)?)?;
        let rows = &groups[..groups.len().saturating_sub(1)];
        Ok(scaled.reshape(&[rows, &[-1]].concat())?.as_dtype(dtype)?)
    }
}

/// What each byte holds, `[256, numbers in a byte]` in f32, the lowest bits first.
fn table(bits: u32, value: fn(u32) -> f32) -> Array {
    let numbers = 8 / bits;
    let in_byte = |byte: u32| {
        (0..numbers).map(move |number| value((byte >> (number * bits)) & ((1 << bits) - 1)))
    };
    Array::from_iter((0..256).flat_map(in_byte), &[256, numbers as i32])
}

/// Sign, two bits of exponent, one of mantissa.
fn e2m1(code: u32) -> f32 {
    const MAGNITUDES: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    let magnitude = MAGNITUDES[(code & 7) as usize];
    if code & 8 == 0 { magnitude } else { -magnitude }
}

/// Sign, four bits of exponent around 7, three of mantissa; all ones is no number.
fn e4m3(code: u32) -> f32 {
    let (exponent, mantissa) = ((code >> 3) & 15, (code & 7) as f32 / 8.0);
    let magnitude = match (exponent, code & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa * 2f32.powi(-6),
        _ => (1.0 + mantissa) * 2f32.powi(exponent as i32 - 7),
    };
    if code & 128 == 0 { magnitude } else { -magnitude }
}

/// A power of two; all ones is no number.
fn e8m0(code: u32) -> f32 {
    if code == 255 { f32::NAN } else { 2f32.powi(code as i32 - 127) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The formats' own tables of extremes (OCP Microscaling Formats 1.0, section 5.3).
    #[test]
    fn codes_stand_for_what_the_formats_say() {
        let largest = |codes: u32, f: fn(u32) -> f32| (0..codes).map(f).fold(0.0, f32::max);
        assert_eq!((largest(16, e2m1), e2m1(1), e2m1(9)), (6.0, 0.5, -0.5));
        assert_eq!((largest(256, e4m3), e4m3(1), e4m3(8)), (448.0, 2f32.powi(-9), 2f32.powi(-6)));
        assert!(e4m3(0x7f).is_nan() && e4m3(0xff).is_nan() && e8m0(255).is_nan());
        assert_eq!((e8m0(127), e8m0(254), e8m0(0)), (1.0, 2f32.powi(127), 2f32.powi(-127)));
    }
}
