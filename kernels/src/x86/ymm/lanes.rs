//! Eight f32 for activations and norms.

use core::arch::x86_64::*;

use crate::lanes::Lanes;

impl Lanes for __m256 {
    const COUNT: usize = 8;
    #[inline(always)]
    unsafe fn load(x: *const f32) -> Self {
        // SAFETY: see `splat`; the caller promises the numbers.
        unsafe { _mm256_loadu_ps(x) }
    }
    #[inline(always)]
    unsafe fn store(self, y: *mut f32) {
        // SAFETY: see `splat`; the caller promises the room.
        unsafe { _mm256_storeu_ps(y, self) }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller has AVX2 and FMA, here and below.
        unsafe { _mm256_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: see `splat`.
        unsafe { _mm256_add_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: see `splat`.
        unsafe { _mm256_sub_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: see `splat`.
        unsafe { _mm256_mul_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        // SAFETY: see `splat`.
        unsafe { _mm256_div_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn fma(self, factor: Self, addend: Self) -> Self {
        // SAFETY: see `splat`.
        unsafe { _mm256_fmadd_ps(self, factor, addend) }
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        // SAFETY: see `splat`.
        unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), self) }
    }
    #[inline(always)]
    unsafe fn neg(self) -> Self {
        // SAFETY: see `splat`.
        unsafe { _mm256_xor_ps(self, _mm256_set1_ps(-0.0)) }
    }
    // `vmaxps` and `vminps` return the second operand of equals, and where one is NaN.
    #[inline(always)]
    unsafe fn at_least(self, least: Self) -> Self {
        // SAFETY: see `splat`.
        unsafe { _mm256_max_ps(least, self) }
    }
    #[inline(always)]
    unsafe fn at_most(self, most: Self) -> Self {
        // SAFETY: see `splat`.
        unsafe { _mm256_min_ps(most, self) }
    }
    #[inline(always)]
    unsafe fn if_negative(self, negative: Self, other: Self) -> Self {
        // SAFETY: see `splat`.
        unsafe {
            let below = _mm256_cmp_ps::<_CMP_LT_OQ>(self, _mm256_setzero_ps());
            _mm256_blendv_ps(other, negative, below)
        }
    }
    #[inline(always)]
    unsafe fn power_of_two(self) -> Self {
        // SAFETY: see `splat`.
        unsafe {
            let exponent = _mm256_add_epi32(_mm256_castps_si256(self), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
        }
    }
}
