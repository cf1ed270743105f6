//! Prologues on 512-bit registers: those of AVX-512-VNNI and AMX.

use core::arch::x86_64::*;

use crate::layout::K_ALIGN;
use crate::leaf::QuantizeArgs;

/// Sixteen source elements as f32.
pub(in crate::arch) trait Source {
    /// Bytes of one element.
    const SIZE: usize;

    /// Loads the elements of `mask`, zero elsewhere.
    ///
    /// # Safety
    ///
    /// The CPU has AVX-512 F, BW and VL; the elements of `mask` are readable.
    unsafe fn load(x: *const u8, mask: __mmask16) -> __m512;
}

pub(in crate::arch) struct F32;
pub(in crate::arch) struct F16;
pub(in crate::arch) struct Bf16;

impl Source for F32 {
    const SIZE: usize = 4;
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    #[inline]
    unsafe fn load(x: *const u8, mask: __mmask16) -> __m512 {
        // SAFETY: the caller promises the elements of `mask`.
        unsafe { _mm512_maskz_loadu_ps(mask, x.cast()) }
    }
}

impl Source for F16 {
    const SIZE: usize = 2;
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    #[inline]
    unsafe fn load(x: *const u8, mask: __mmask16) -> __m512 {
        // SAFETY: the caller promises the elements of `mask`.
        _mm512_cvtph_ps(unsafe { _mm256_maskz_loadu_epi16(mask, x.cast()) })
    }
}

impl Source for Bf16 {
    const SIZE: usize = 2;
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    #[inline]
    unsafe fn load(x: *const u8, mask: __mmask16) -> __m512 {
        // SAFETY: the caller promises the elements of `mask`.
        let bits = unsafe { _mm256_maskz_loadu_epi16(mask, x.cast()) };
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(bits)))
    }
}

/// Sixty-four inputs at a time: one FMA, clamp, round, and pack to bytes (eq. 3).
///
/// # Safety
///
/// The CPU has the features below and `args` keeps the promises of [`QuantizeArgs`] for elements of `S`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(in crate::arch) unsafe fn quantize<S: Source>(args: &QuantizeArgs) {
    let whole = args.k / K_ALIGN * K_ALIGN;
    let mask = (1u64 << (args.k - whole)) - 1;
    for row in 0..args.m {
        // SAFETY: the row exists; `mask` keeps to the inputs past the `whole` ones.
        unsafe {
            for k in (0..whole).step_by(K_ALIGN) {
                line::<S, 4>(args, row, k, u64::MAX);
            }
            match args.k - whole {
                0 => {}
                1..=16 => line::<S, 1>(args, row, whole, mask),
                17..=32 => line::<S, 2>(args, row, whole, mask),
                33..=48 => line::<S, 3>(args, row, whole, mask),
                _ => line::<S, 4>(args, row, whole, mask),
            }
        }
    }
}

/// The codes of the inputs of `mask` from `k` on, and zeros up to 64: `V` vectors hold the inputs.
///
/// # Safety
///
/// As [`quantize`]; row and inputs exist, `k` is a multiple of 64, and `mask` is below `2^(16 V)`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
unsafe fn line<S: Source, const V: usize>(args: &QuantizeArgs, row: usize, k: usize, mask: u64) {
    let max = _mm512_set1_ps(f32::from(args.max_code));
    let offset = _mm512_set1_epi8(args.code_offset as i8);
    // `vpack*` work within 128-bit lanes; this puts their 32-bit results back in order.
    let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    let mut parts = [_mm512_setzero_si512(); 4];
    for (i, part) in parts[..V].iter_mut().enumerate() {
        let (k, mask) = (k + 16 * i, (mask >> (16 * i)) as __mmask16);
        // SAFETY: the mask keeps loads of `x` to its elements; `inv` and `t` are readable up to `padded_k`.
        let (x, inv, t) = unsafe {
            let x = args.x.wrapping_add((row * args.x_stride + k) * S::SIZE);
            (
                S::load(x, mask),
                _mm512_loadu_ps(args.inv.add(k)),
                _mm512_loadu_ps(args.t.add(k)),
            )
        };
        // `vmaxps` returns its second operand when the first is NaN: NaN becomes 0.
        let v = _mm512_max_ps(_mm512_fmadd_ps(x, inv, t), _mm512_setzero_ps());
        *part = _mm512_cvtps_epi32(_mm512_min_ps(v, max));
    }
    let low = _mm512_packus_epi32(parts[0], parts[1]);
    let high = _mm512_packus_epi32(parts[2], parts[3]);
    let codes = _mm512_permutexvar_epi32(order, _mm512_packus_epi16(low, high));
    // SAFETY: `codes` holds `padded_k` bytes a row, each row aligned to 64.
    unsafe {
        let out = args.codes.add(row * args.codes_stride + k);
        _mm512_store_si512(out.cast(), _mm512_sub_epi8(codes, offset));
    }
}
