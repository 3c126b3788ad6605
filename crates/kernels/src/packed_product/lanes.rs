//! Sixteen numbers at once, on different processors.

#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

/// Numbers that are computed together.
pub(super) const LANES: usize = 16;

/// Sixteen numbers in f32.
///
/// # Safety
/// Of all functions: the processor must have the type's instructions.
pub(super) trait Lanes: Copy {
    /// How many of these the processor holds in registers.
    const REGISTERS: usize;

    unsafe fn zero() -> Self;

    /// Asks for the cache line of these codes, which will be read soon.
    fn prefetch(codes: &[u32]);

    unsafe fn load(values: &[f32; LANES]) -> Self;

    /// `self + a * b`, fused where that is one instruction.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;

    /// `scale * q + bias`, not fused, as in [`dequantize`](crate::dequantize): `q` are the lower halves of the bytes, then
    /// the upper ones.
    unsafe fn of_halves(bytes: &[u8; LANES], scale: f32, bias: f32) -> [Self; 2];

    /// The same where `q` are the bytes.
    unsafe fn of_bytes(bytes: &[u8; LANES], scale: f32, bias: f32) -> Self;

    /// The sum: the halves are added to each other, and the halves of that.
    unsafe fn sum(self) -> f32;
}

/// For any processor.
pub(super) type Portable = [f32; LANES];

impl Lanes for Portable {
    /// 32 registers of four numbers, or fewer.
    const REGISTERS: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> Self {
        [0.0; LANES]
    }

    #[inline(always)]
    fn prefetch(_: &[u32]) {}

    #[inline(always)]
    unsafe fn load(values: &[f32; LANES]) -> Self {
        *values
    }

    #[inline(always)]
    unsafe fn add_product(mut self, a: Self, b: Self) -> Self {
        for ((sum, a), b) in self.iter_mut().zip(a).zip(b) {
            *sum = match cfg!(any(target_feature = "fma", target_arch = "aarch64")) {
                true => a.mul_add(b, *sum),
                false => a * b + *sum,
            };
        }
        self
    }

    #[inline(always)]
    unsafe fn of_halves(bytes: &[u8; LANES], scale: f32, bias: f32) -> [Self; 2] {
        let (lower, upper) = (bytes.map(|byte| byte & 15), bytes.map(|byte| byte >> 4));
        // SAFETY: needs no instructions.
        unsafe { [Self::of_bytes(&lower, scale, bias), Self::of_bytes(&upper, scale, bias)] }
    }

    #[inline(always)]
    unsafe fn of_bytes(bytes: &[u8; LANES], scale: f32, bias: f32) -> Self {
        bytes.map(|byte| f32::from(byte) * scale + bias)
    }

    #[inline(always)]
    unsafe fn sum(mut self) -> f32 {
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                self[i] += self[i + half];
            }
        }
        self[0]
    }
}
