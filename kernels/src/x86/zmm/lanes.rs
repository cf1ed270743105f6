//! Sixteen f32 for activations and norms.

use core::arch::x86_64::*;

use crate::lanes::Lanes;

impl Lanes for __m512 {
    const COUNT: usize = 16;
    #[inline(always)]
    unsafe fn load(x: *const f32) -> Self {
        // SAFETY: see `splat`; the caller promises the numbers.
        unsafe { _mm512_loadu_ps(x) }
    }
    #[inline(always)]
    unsafe fn store(self, y: *mut f32) {
        // SAFETY: see `splat`; the caller promises the room.
        unsafe { _mm512_storeu_ps(y, self) }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller has AVX-512 F, here and below.
        unsafe { _mm512_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: see `splat`.
        unsafe { _mm512_add_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: see `splat`.
        unsafe { _mm512_sub_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: see `splat`.
        unsafe { _mm512_mul_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        // SAFETY: see `splat`.
        unsafe { _mm512_div_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn fma(self, factor: Self, addend: Self) -> Self {
        // SAFETY: see `splat`.
        unsafe { _mm512_fmadd_ps(self, factor, addend) }
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        // SAFETY: see `splat`.
        unsafe { _mm512_abs_ps(self) }
    }
    #[inline(always)]
    unsafe fn neg(self) -> Self {
        // SAFETY: see `splat`.
        unsafe {
            let sign = _mm512_set1_epi32(i32::MIN);
            _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(self), sign))
        }
    }
    // `vmaxps` and `vminps` return the second operand of equals, and where one is NaN.
    #[inline(always)]
    unsafe fn at_least(self, least: Self) -> Self {
        // SAFETY: see `splat`.
        unsafe { _mm512_max_ps(least, self) }
    }
    #[inline(always)]
    unsafe fn at_most(self, most: Self) -> Self {
        // SAFETY: see `splat`.
        unsafe { _mm512_min_ps(most, self) }
    }
    #[inline(always)]
    unsafe fn if_negative(self, negative: Self, other: Self) -> Self {
        // SAFETY: see `splat`.
        unsafe {
            let below = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self, _mm512_setzero_ps());
            _mm512_mask_mov_ps(other, below, negative)
        }
    }
    #[inline(always)]
    unsafe fn power_of_two(self) -> Self {
        // SAFETY: see `splat`.
        unsafe {
            let exponent = _mm512_add_epi32(_mm512_castps_si512(self), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
        }
    }
}
