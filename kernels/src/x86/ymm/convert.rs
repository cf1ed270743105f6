//! Prologues on 256-bit registers: those of AVX2 and AVX-VNNI.

use core::arch::x86_64::*;

use crate::layout::{K_ALIGN, padded_k};
use crate::leaf::QuantizeArgs;

/// Eight source elements as f32.
pub(in crate::arch) trait Source {
    /// One element.
    type Elem: Copy + Default;

    /// # Safety
    ///
    /// The CPU has AVX2 and F16C; eight elements are readable.
    unsafe fn load(x: *const Self::Elem) -> __m256;
}

pub(in crate::arch) struct F32;
pub(in crate::arch) struct F16;
pub(in crate::arch) struct Bf16;

impl Source for F32 {
    type Elem = f32;
    #[target_feature(enable = "avx2,f16c")]
    #[inline]
    unsafe fn load(x: *const f32) -> __m256 {
        // SAFETY: the caller promises eight elements.
        unsafe { _mm256_loadu_ps(x) }
    }
}

impl Source for F16 {
    type Elem = u16;
    #[target_feature(enable = "avx2,f16c")]
    #[inline]
    unsafe fn load(x: *const u16) -> __m256 {
        // SAFETY: the caller promises eight elements.
        _mm256_cvtph_ps(unsafe { _mm_loadu_si128(x.cast()) })
    }
}

impl Source for Bf16 {
    type Elem = u16;
    #[target_feature(enable = "avx2,f16c")]
    #[inline]
    unsafe fn load(x: *const u16) -> __m256 {
        // SAFETY: the caller promises eight elements.
        let bits = unsafe { _mm_loadu_si128(x.cast()) };
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(bits)))
    }
}

/// Thirty-two inputs at a time (eq. 3).
///
/// # Safety
///
/// The CPU has the features below and `args` keeps the promises of [`QuantizeArgs`] for elements of `S`.
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::arch) unsafe fn quantize<S: Source>(args: &QuantizeArgs) {
    let max = _mm256_set1_ps(f32::from(args.max_code));
    let whole = args.k - args.k % K_ALIGN;
    for row in 0..args.m {
        // SAFETY: `x` holds `m` rows of `k` elements, `codes` as many of `padded_k` bytes; `inv`
        // and `t` are readable up to `padded_k`. The last, partial run goes through a buffer.
        unsafe {
            let x = args.x.cast::<S::Elem>().add(row * args.x_stride);
            let codes = args.codes.add(row * args.codes_stride);
            for k in (0..whole).step_by(32) {
                quantize_32::<S>(x.add(k), args, k, max, codes);
            }
            if whole < args.k {
                let mut tail = [S::Elem::default(); K_ALIGN];
                x.add(whole)
                    .copy_to_nonoverlapping(tail.as_mut_ptr(), args.k - whole);
                for k in (whole..padded_k(args.k)).step_by(32) {
                    if k < args.k {
                        quantize_32::<S>(tail.as_ptr().add(k - whole), args, k, max, codes);
                    } else {
                        let zeros = _mm256_set1_epi8(args.code_offset.wrapping_neg() as i8);
                        _mm256_storeu_si256(codes.add(k).cast(), zeros);
                    }
                }
            }
        }
    }
}

/// Thirty-two inputs: one FMA, clamp, round, and pack to bytes (eq. 3).
///
/// # Safety
///
/// As [`quantize`]; `x` points to 32 elements, and `codes` to a row that holds `k + 32`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn quantize_32<S: Source>(
    x: *const S::Elem,
    args: &QuantizeArgs,
    k: usize,
    max: __m256,
    codes: *mut u8,
) {
    let mut parts = [_mm256_setzero_si256(); 4];
    for (i, part) in parts.iter_mut().enumerate() {
        // SAFETY: the caller promises 32 elements of each.
        let (x, inv, t) = unsafe {
            (
                S::load(x.add(8 * i)),
                _mm256_loadu_ps(args.inv.add(k + 8 * i)),
                _mm256_loadu_ps(args.t.add(k + 8 * i)),
            )
        };
        // `vmaxps` returns its second operand when the first is NaN: NaN becomes 0.
        let v = _mm256_max_ps(_mm256_fmadd_ps(x, inv, t), _mm256_setzero_ps());
        *part = _mm256_cvtps_epi32(_mm256_min_ps(v, max));
    }
    let low = _mm256_packus_epi32(parts[0], parts[1]);
    let high = _mm256_packus_epi32(parts[2], parts[3]);
    // `vpack*` work within 128-bit lanes; this puts their 32-bit results back in order.
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    let packed = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(low, high), order);
    let stored = _mm256_sub_epi8(packed, _mm256_set1_epi8(args.code_offset as i8));
    // SAFETY: the caller promises the room.
    unsafe { _mm256_storeu_si256(codes.add(k).cast(), stored) }
}
