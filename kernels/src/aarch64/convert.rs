//! Elements as vectors, and the prologues of all aarch64 rows, on ARMv8.0 instructions alone: `fcvtl` and
//! `fcvtn` convert f16 on every CPU, bf16 is integer arithmetic.

use core::arch::aarch64::*;

use crate::layout::{K_ALIGN, padded_k};
use crate::leaf::QuantizeArgs;

/// Eight elements of a matrix.
pub(super) trait Format {
    /// One element.
    type Elem: Copy + Default;

    /// Converts exactly.
    ///
    /// # Safety
    ///
    /// The CPU has NEON; eight elements are readable.
    unsafe fn load(x: *const Self::Elem) -> [float32x4_t; 2];

    /// Rounds to nearest, ties to even, and stores.
    ///
    /// # Safety
    ///
    /// The CPU has NEON; eight elements are writable.
    unsafe fn store(y: *mut Self::Elem, v: [float32x4_t; 2]);
}

pub(super) struct F32;
pub(super) struct F16;
pub(super) struct Bf16;

impl Format for F32 {
    type Elem = f32;
    #[target_feature(enable = "neon")]
    #[inline]
    unsafe fn load(x: *const f32) -> [float32x4_t; 2] {
        // SAFETY: the caller promises eight elements.
        unsafe { [vld1q_f32(x), vld1q_f32(x.add(4))] }
    }

    #[target_feature(enable = "neon")]
    #[inline]
    unsafe fn store(y: *mut f32, [low, high]: [float32x4_t; 2]) {
        // SAFETY: the caller promises eight elements.
        unsafe {
            vst1q_f32(y, low);
            vst1q_f32(y.add(4), high);
        }
    }
}

impl Format for F16 {
    type Elem = u16;
    #[target_feature(enable = "neon")]
    #[inline]
    unsafe fn load(x: *const u16) -> [float32x4_t; 2] {
        // SAFETY: the caller promises eight elements.
        let halves = vreinterpretq_f16_u16(unsafe { vld1q_u16(x) });
        [
            vcvt_f32_f16(vget_low_f16(halves)),
            vcvt_high_f32_f16(halves),
        ]
    }

    #[target_feature(enable = "neon")]
    #[inline]
    unsafe fn store(y: *mut u16, [low, high]: [float32x4_t; 2]) {
        let halves = vcvt_high_f16_f32(vcvt_f16_f32(low), high);
        // SAFETY: the caller promises eight elements.
        unsafe { vst1q_u16(y, vreinterpretq_u16_f16(halves)) }
    }
}

impl Format for Bf16 {
    type Elem = u16;
    #[target_feature(enable = "neon")]
    #[inline]
    unsafe fn load(x: *const u16) -> [float32x4_t; 2] {
        // SAFETY: the caller promises eight elements.
        let upper = unsafe { vld1q_u16(x) };
        [
            vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_low_u16(upper))),
            vreinterpretq_f32_u32(vshll_high_n_u16::<16>(upper)),
        ]
    }

    #[target_feature(enable = "neon")]
    #[inline]
    unsafe fn store(y: *mut u16, v: [float32x4_t; 2]) {
        // Round to nearest even on the upper half. An output is never NaN (eq. 9), so the carry
        // cannot turn one into ∞.
        let [low, high] = v.map(|v| {
            let bits = vreinterpretq_u32_f32(v);
            let odd = vandq_u32(vshrq_n_u32::<16>(bits), vdupq_n_u32(1));
            vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)))
        });
        let upper = vshrn_high_n_u32::<16>(vshrn_n_u32::<16>(low), high);
        // SAFETY: the caller promises eight elements.
        unsafe { vst1q_u16(y, upper) }
    }
}

/// Sixteen inputs at a time (eq. 3).
///
/// # Safety
///
/// The CPU has NEON and `args` keeps the promises of [`QuantizeArgs`] for elements of `S`.
#[target_feature(enable = "neon")]
pub(super) unsafe fn quantize<S: Format>(args: &QuantizeArgs) {
    let whole = args.k - args.k % K_ALIGN;
    for row in 0..args.m {
        // SAFETY: `x` holds `m` rows of `k` elements, `codes` as many of `padded_k` bytes; `inv`
        // and `t` are readable up to `padded_k`. The last, partial run goes through a buffer.
        unsafe {
            let x = args.x.cast::<S::Elem>().add(row * args.x_stride);
            let codes = args.codes.add(row * args.codes_stride);
            for k in (0..whole).step_by(16) {
                quantize_16::<S>(x.add(k), args, k, codes);
            }
            if whole < args.k {
                let mut tail = [S::Elem::default(); K_ALIGN];
                x.add(whole)
                    .copy_to_nonoverlapping(tail.as_mut_ptr(), args.k - whole);
                for k in (whole..padded_k(args.k)).step_by(16) {
                    quantize_16::<S>(tail.as_ptr().add(k - whole), args, k, codes);
                }
            }
        }
    }
}

/// Sixteen inputs: one FMA, round, pack to bytes, clamp (eq. 3).
///
/// # Safety
///
/// As [`quantize`]; `x` points to 16 elements, and `codes` to a row that holds `k + 16`.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn quantize_16<S: Format>(x: *const S::Elem, args: &QuantizeArgs, k: usize, codes: *mut u8) {
    let mut words = [vdupq_n_u16(0); 2];
    for (i, words) in words.iter_mut().enumerate() {
        // SAFETY: the caller promises 16 elements of each.
        let (x, inv, t) = unsafe {
            let (inv, t) = (args.inv.add(k + 8 * i), args.t.add(k + 8 * i));
            (S::load(x.add(8 * i)), F32::load(inv), F32::load(t))
        };
        // `fcvtnu` rounds ties to even, saturates at both ends and makes NaN 0; `uqxtn` go on
        // saturating. The upper limit is an integer, so it may as well come after rounding.
        let low = vcvtnq_u32_f32(vfmaq_f32(t[0], x[0], inv[0]));
        let high = vcvtnq_u32_f32(vfmaq_f32(t[1], x[1], inv[1]));
        *words = vqmovn_high_u32(vqmovn_u32(low), high);
    }
    let bytes = vqmovn_high_u16(vqmovn_u16(words[0]), words[1]);
    let limited = vminq_u8(bytes, vdupq_n_u8(args.max_code));
    let stored = vsubq_u8(limited, vdupq_n_u8(args.code_offset));
    // SAFETY: the caller promises the room.
    unsafe { vst1q_u8(codes.add(k), stored) }
}
