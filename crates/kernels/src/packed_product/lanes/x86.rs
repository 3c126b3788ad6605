use std::arch::x86_64::*;

use super::{LANES, Lanes};

/// In one register; needs AVX-512 F, and what [`Avx2`] needs.
#[derive(Clone, Copy)]
pub(in super::super) struct Avx512(__m512);

/// In two registers; needs AVX2 and FMA.
#[derive(Clone, Copy)]
pub(in super::super) struct Avx2(__m256, __m256);

// SAFETY of all blocks below: the caller promises the instructions, and pointers are those of arrays of sixteen values.

impl Lanes for Avx512 {
    const REGISTERS: usize = 32;

    #[inline(always)]
    unsafe fn zero() -> Self {
        unsafe { Self(_mm512_setzero_ps()) }
    }

    #[inline(always)]
    fn prefetch(codes: &[u32]) {
        // SAFETY: a hint, without effect on what is there.
        unsafe { _mm_prefetch(codes.as_ptr().cast(), _MM_HINT_T0) }
    }

    #[inline(always)]
    unsafe fn load(values: &[f32; LANES]) -> Self {
        unsafe { Self(_mm512_loadu_ps(values.as_ptr())) }
    }

    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        unsafe { Self(_mm512_fmadd_ps(a.0, b.0, self.0)) }
    }

    #[inline(always)]
    unsafe fn of_halves(bytes: &[u8; LANES], scale: f32, bias: f32) -> [Self; 2] {
        const CODES: [f32; LANES] =
            [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];
        unsafe {
            // A table of all values, looked up by the lowest four bits of an index.
            let values = Self::scaled(Self::load(&CODES).0, scale, bias);
            let (lower, upper) = (Self::wide(bytes), _mm512_srli_epi32(Self::wide(bytes), 4));
            [lower, upper].map(|codes| Self(_mm512_permutexvar_ps(codes, values)))
        }
    }

    #[inline(always)]
    unsafe fn of_bytes(bytes: &[u8; LANES], scale: f32, bias: f32) -> Self {
        unsafe { Self(Self::scaled(_mm512_cvtepi32_ps(Self::wide(bytes)), scale, bias)) }
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        unsafe {
            let upper = _mm512_extractf64x4_pd(_mm512_castps_pd(self.0), 1);
            Avx2(_mm512_castps512_ps256(self.0), _mm256_castpd_ps(upper)).sum()
        }
    }
}

impl Avx512 {
    #[inline(always)]
    unsafe fn wide(bytes: &[u8; LANES]) -> __m512i {
        unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(bytes.as_ptr().cast())) }
    }

    #[inline(always)]
    unsafe fn scaled(codes: __m512, scale: f32, bias: f32) -> __m512 {
        unsafe { _mm512_add_ps(_mm512_mul_ps(codes, _mm512_set1_ps(scale)), _mm512_set1_ps(bias)) }
    }
}

impl Lanes for Avx2 {
    const REGISTERS: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> Self {
        unsafe { Self(_mm256_setzero_ps(), _mm256_setzero_ps()) }
    }

    #[inline(always)]
    fn prefetch(codes: &[u32]) {
        // SAFETY: a hint, without effect on what is there.
        unsafe { _mm_prefetch(codes.as_ptr().cast(), _MM_HINT_T0) }
    }

    #[inline(always)]
    unsafe fn load(values: &[f32; LANES]) -> Self {
        let at = values.as_ptr();
        unsafe { Self(_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(LANES / 2))) }
    }

    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        unsafe { Self(_mm256_fmadd_ps(a.0, b.0, self.0), _mm256_fmadd_ps(a.1, b.1, self.1)) }
    }

    #[inline(always)]
    unsafe fn of_halves(bytes: &[u8; LANES], scale: f32, bias: f32) -> [Self; 2] {
        unsafe {
            let [a, b] = Self::wide(bytes);
            let mask = _mm256_set1_epi32(15);
            let lower = [_mm256_and_si256(a, mask), _mm256_and_si256(b, mask)];
            let upper = [_mm256_srli_epi32(a, 4), _mm256_srli_epi32(b, 4)];
            [Self::scaled(lower, scale, bias), Self::scaled(upper, scale, bias)]
        }
    }

    #[inline(always)]
    unsafe fn of_bytes(bytes: &[u8; LANES], scale: f32, bias: f32) -> Self {
        unsafe { Self::scaled(Self::wide(bytes), scale, bias) }
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        unsafe {
            let x = _mm256_add_ps(self.0, self.1);
            let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps(x, x, 1)))
        }
    }
}

impl Avx2 {
    #[inline(always)]
    unsafe fn wide(bytes: &[u8; LANES]) -> [__m256i; 2] {
        unsafe {
            let bytes = _mm_loadu_si128(bytes.as_ptr().cast());
            [_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8))]
        }
    }

    #[inline(always)]
    unsafe fn scaled([a, b]: [__m256i; 2], scale: f32, bias: f32) -> Self {
        unsafe {
            let (scale, bias) = (_mm256_set1_ps(scale), _mm256_set1_ps(bias));
            let (a, b) = (_mm256_cvtepi32_ps(a), _mm256_cvtepi32_ps(b));
            Self(
                _mm256_add_ps(_mm256_mul_ps(a, scale), bias),
                _mm256_add_ps(_mm256_mul_ps(b, scale), bias),
            )
        }
    }
}
