//! Weights as floating-point numbers of 4 or 8 bits with a scale per group: OCP microscaling formats
//! (MXFP4, MXFP8) and NVIDIA's NVFP4, as MLX packs them.

use std::ffi::CStr;

use mlx_rs::{Array, Dtype};

use crate::Result;

/// The encoding of the values of a group and of their scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FloatFormat {
    /// E2M1 in groups of 32, the scale in E8M0 (a power of two).
    Mxfp4,
    /// E4M3 in groups of 32, the scale in E8M0 (a power of two).
    Mxfp8,
    /// E2M1 in groups of 16, the scale in E4M3.
    Nvfp4,
}

impl FloatFormat {
    /// MLX's names of these and of affine quantization.
    pub const MODES: [&str; 4] = ["affine", "mxfp4", "mxfp8", "nvfp4"];

    /// MLX's name, the values per group and the bits of a value.
    pub fn encoding(self) -> (&'static CStr, i32, i32) {
        match self {
            Self::Mxfp4 => (c"mxfp4", 32, 4),
            Self::Mxfp8 => (c"mxfp8", 32, 8),
            Self::Nvfp4 => (c"nvfp4", 16, 4),
        }
    }

    /// The format with so many bits per value and values per group.
    pub fn of(bits: usize, group_size: usize) -> Option<Self> {
        match (bits, group_size) {
            (4, 32) => Some(Self::Mxfp4),
            (8, 32) => Some(Self::Mxfp8),
            (4, 16) => Some(Self::Nvfp4),
            _ => None,
        }
    }

    /// The dense matrices of packed words `[.., columns * bits / 32]` and scales `[.., groups]`. Each byte
    /// is an index into a table of the values it encodes.
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

/// The values each byte encodes, `[256, values per byte]` in f32, the lowest bits first.
fn table(bits: u32, value: fn(u32) -> f32) -> Array {
    let values = 8 / bits;
    let in_byte = |byte: u32| {
        (0..values).map(move |index| value((byte >> (index * bits)) & ((1 << bits) - 1)))
    };
    Array::from_iter((0..256).flat_map(in_byte), &[256, values as i32])
}

/// Sign, two bits of exponent, one bit of mantissa.
fn e2m1(code: u32) -> f32 {
    const MAGNITUDES: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    let magnitude = MAGNITUDES[(code & 7) as usize];
    if code & 8 == 0 { magnitude } else { -magnitude }
}

/// Sign, four bits of exponent with bias 7, three bits of mantissa; all ones is NaN.
fn e4m3(code: u32) -> f32 {
    let (exponent, mantissa) = ((code >> 3) & 15, (code & 7) as f32 / 8.0);
    let magnitude = match (exponent, code & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa * 2f32.powi(-6),
        _ => (1.0 + mantissa) * 2f32.powi(exponent as i32 - 7),
    };
    if code & 128 == 0 { magnitude } else { -magnitude }
}

/// A power of two with bias 127; all ones is NaN.
fn e8m0(code: u32) -> f32 {
    if code == 255 { f32::NAN } else { 2f32.powi(code as i32 - 127) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The extremes of OCP Microscaling Formats 1.0, section 5.3.
    #[test]
    fn codes_stand_for_what_the_formats_say() {
        let largest = |codes: u32, f: fn(u32) -> f32| (0..codes).map(f).fold(0.0, f32::max);
        assert_eq!((largest(16, e2m1), e2m1(1), e2m1(9)), (6.0, 0.5, -0.5));
        assert_eq!((largest(256, e4m3), e4m3(1), e4m3(8)), (448.0, 2f32.powi(-9), 2f32.powi(-6)));
        assert!(e4m3(0x7f).is_nan() && e4m3(0xff).is_nan() && e8m0(255).is_nan());
        assert_eq!((e8m0(127), e8m0(254), e8m0(0)), (1.0, 2f32.powi(127), 2f32.powi(-127)));
    }
}
