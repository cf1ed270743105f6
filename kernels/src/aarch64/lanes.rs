//! Four f32 for activations and norms.

use core::arch::aarch64::*;

use crate::lanes::Lanes;

impl Lanes for float32x4_t {
    const COUNT: usize = 4;
    #[inline(always)]
    unsafe fn load(x: *const f32) -> Self {
        // SAFETY: see `splat`; the caller promises the numbers.
        unsafe { vld1q_f32(x) }
    }
    #[inline(always)]
    unsafe fn store(self, y: *mut f32) {
        // SAFETY: see `splat`; the caller promises the room.
        unsafe { vst1q_f32(y, self) }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller has NEON, here and below.
        unsafe { vdupq_n_f32(value) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: see `splat`.
        unsafe { vaddq_f32(self, other) }
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: see `splat`.
        unsafe { vsubq_f32(self, other) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: see `splat`.
        unsafe { vmulq_f32(self, other) }
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        // SAFETY: see `splat`.
        unsafe { vdivq_f32(self, other) }
    }
    #[inline(always)]
    unsafe fn fma(self, factor: Self, addend: Self) -> Self {
        // SAFETY: see `splat`.
        unsafe { vfmaq_f32(addend, self, factor) }
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        // SAFETY: see `splat`.
        unsafe { vabsq_f32(self) }
    }
    #[inline(always)]
    unsafe fn neg(self) -> Self {
        // SAFETY: see `splat`.
        unsafe { vnegq_f32(self) }
    }
    #[inline(always)]
    unsafe fn at_least(self, least: Self) -> Self {
        // SAFETY: see `splat`.
        unsafe { vbslq_f32(vcltq_f32(self, least), least, self) }
    }
    #[inline(always)]
    unsafe fn at_most(self, most: Self) -> Self {
        // SAFETY: see `splat`.
        unsafe { vbslq_f32(vcgtq_f32(self, most), most, self) }
    }
    #[inline(always)]
    unsafe fn if_negative(self, negative: Self, other: Self) -> Self {
        // SAFETY: see `splat`.
        unsafe { vbslq_f32(vcltzq_f32(self), negative, other) }
    }
    #[inline(always)]
    unsafe fn power_of_two(self) -> Self {
        // SAFETY: see `splat`.
        unsafe {
            let exponent = vaddq_u32(vreinterpretq_u32_f32(self), vdupq_n_u32(127));
            vreinterpretq_f32_u32(vshlq_n_u32::<23>(exponent))
        }
    }
}
