//! Prologues and epilogues on 512-bit registers: those of AVX-512-VNNI and AMX.

use core::arch::x86_64::*;
use core::marker::PhantomData;

use super::sink::{NR, Sink};
use crate::layout::{K_ALIGN, padded_k};
use crate::leaf::{FinishArgs, QuantizeArgs};

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
    let max = _mm512_set1_ps(f32::from(args.max_code));
    let offset = _mm512_set1_epi8(args.code_offset as i8);
    // `vpack*` work within 128-bit lanes; this puts their 32-bit results back in order.
    let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    for row in 0..args.m {
        for k in (0..padded_k(args.k)).step_by(K_ALIGN) {
            let mask = match args.k - k {
                left @ 0..K_ALIGN => (1u64 << left) - 1,
                _ => u64::MAX,
            };
            let mut parts = [_mm512_setzero_si512(); 4];
            for (i, part) in parts.iter_mut().enumerate() {
                let (k, mask) = (k + 16 * i, (mask >> (16 * i)) as __mmask16);
                // SAFETY: the mask keeps loads of `x` within its `k` elements; `inv` and `t` are
                // readable up to `padded_k`. The address may be past the end where the mask is 0.
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
    }
}

/// Sixteen results as destination elements.
pub(in crate::arch) trait Destination {
    /// Bytes of one element.
    const SIZE: usize;

    /// Rounds to the destination type and stores the elements of `mask`.
    ///
    /// # Safety
    ///
    /// The CPU has AVX-512 F, BW and VL; the elements of `mask` are writable.
    unsafe fn store(y: *mut u8, mask: __mmask16, v: __m512);
}

impl Destination for F32 {
    const SIZE: usize = 4;
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    #[inline]
    unsafe fn store(y: *mut u8, mask: __mmask16, v: __m512) {
        // SAFETY: the caller promises the elements of `mask`.
        unsafe { _mm512_mask_storeu_ps(y.cast(), mask, v) }
    }
}

impl Destination for F16 {
    const SIZE: usize = 2;
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    #[inline]
    unsafe fn store(y: *mut u8, mask: __mmask16, v: __m512) {
        let v = _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v);
        // SAFETY: the caller promises the elements of `mask`.
        unsafe { _mm256_mask_storeu_epi16(y.cast(), mask, v) }
    }
}

impl Destination for Bf16 {
    const SIZE: usize = 2;
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    #[inline]
    unsafe fn store(y: *mut u8, mask: __mmask16, v: __m512) {
        // Round to nearest even on the upper half. `vcvtneps2bf16` is not it: it flushes
        // subnormals. An output is never NaN (eq. 9), so the carry cannot turn one into ∞.
        let bits = _mm512_castps_si512(v);
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let bits = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
        let v = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(bits));
        // SAFETY: the caller promises the elements of `mask`.
        unsafe { _mm256_mask_storeu_epi16(y.cast(), mask, v) }
    }
}

/// Sixteen columns' constants of eq. 9: comp, scale and bias.
type Constants = (__m512i, __m512, __m512);

/// Loads the constants of the columns of `mask`, zero elsewhere, from column `at` on.
///
/// # Safety
///
/// The CPU has AVX-512 F; the columns of `mask` exist.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn constants(args: &FinishArgs, at: usize, mask: __mmask16) -> Constants {
    // SAFETY: the caller promises the columns of `mask`; other addresses are not accessed.
    unsafe {
        (
            _mm512_maskz_loadu_epi32(mask, args.comp.wrapping_add(at)),
            _mm512_maskz_loadu_ps(mask, args.scale.wrapping_add(at)),
            _mm512_maskz_loadu_ps(mask, args.bias.wrapping_add(at)),
        )
    }
}

/// What sixteen accumulators become (eq. 9).
#[target_feature(enable = "avx512f")]
#[inline]
fn output(acc: __m512i, (comp, scale, bias): Constants) -> __m512 {
    _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(acc, comp)), scale, bias)
}

/// Rows of up to 32 columns of the output.
pub(in crate::arch) struct Finished<D> {
    constants: [Constants; 2],
    masks: [__mmask16; 2],
    y: *mut u8,
    y_stride: usize,
    destination: PhantomData<D>,
}

impl<D: Destination> Finished<D> {
    /// # Safety
    ///
    /// The CPU has AVX-512 F; `args` keeps the promises of [`FinishArgs`], with at most 32 columns.
    #[target_feature(enable = "avx512f")]
    #[inline]
    pub(in crate::arch) unsafe fn new(args: &FinishArgs) -> Finished<D> {
        let mask = (1u64 << args.n) - 1;
        let masks = [mask as __mmask16, (mask >> 16) as __mmask16];
        Finished {
            // SAFETY: the masks keep to the columns.
            constants: unsafe { [constants(args, 0, masks[0]), constants(args, 16, masks[1])] },
            masks,
            y: args.y,
            y_stride: args.y_stride,
            destination: PhantomData,
        }
    }
}

impl<D: Destination> Sink for Finished<D> {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    #[inline]
    unsafe fn row(&self, row: usize, acc: [__m512i; 2]) {
        for (half, acc) in acc.into_iter().enumerate() {
            let y = (row * self.y_stride + 16 * half) * D::SIZE;
            let v = output(acc, self.constants[half]);
            // SAFETY: the caller promises the row; the masks keep to its columns.
            unsafe { D::store(self.y.wrapping_add(y), self.masks[half], v) };
        }
    }
}

/// Thirty-two columns at a time, their constants in registers while the rows go by (eq. 9).
///
/// # Safety
///
/// The CPU has the features below and `args` keeps the promises of [`FinishArgs`] for elements of `D`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(in crate::arch) unsafe fn finish<D: Destination>(args: &FinishArgs) {
    let shift = columns_early::<D>(args);
    // SAFETY: the caller promises the operands; `shift` is below the 16 columns of a vector.
    unsafe {
        if shift == 0 {
            finish_vectors::<D, 2>(args, 0);
        } else {
            finish_vectors::<D, 3>(args, shift);
        }
    }
}

/// How many columns before the first one of `y` a line of `y` starts; 0 where rows of `y` differ in that.
pub(in crate::arch) fn columns_early<D: Destination>(args: &FinishArgs) -> usize {
    let vector = 16 * D::SIZE;
    match (args.y_stride * D::SIZE).is_multiple_of(vector) {
        true => args.y.addr() % vector / D::SIZE,
        false => 0,
    }
}

/// [`finish`] in `V` vectors for each 32 columns, the first of which starts `shift` columns early.
///
/// # Safety
///
/// As [`finish`]; `16 · V ≥ 32 + shift`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
unsafe fn finish_vectors<D: Destination, const V: usize>(args: &FinishArgs, shift: usize) {
    for n in (0..args.n).step_by(NR) {
        // SAFETY: column `n` exists, and so do the rows.
        unsafe {
            let lines = Lines::<D, V>::new(args, n, shift);
            for row in 0..args.m {
                lines.finish(row);
            }
        }
    }
}

/// Up to 32 columns of the output, in `V` vectors, and their accumulators in memory.
///
/// Where all rows of `y` are misaligned alike, the vectors are those that are aligned in `y`: three, of which
/// the outer two are partial, instead of two that each straddle cache lines.
pub(in crate::arch) struct Lines<D, const V: usize> {
    /// First column, which may be one before the first of all where the mask leaves it out, mask, constants.
    vectors: [(usize, __mmask16, Constants); V],
    c: *const i32,
    c_stride: usize,
    y: *mut u8,
    y_stride: usize,
    destination: PhantomData<D>,
}

impl<D: Destination, const V: usize> Lines<D, V> {
    /// The columns from `n` on. The first vector starts `shift` columns early.
    ///
    /// # Safety
    ///
    /// The CPU has AVX-512 F; `args` keeps the promises of [`FinishArgs`] for elements of `D`, column `n`
    /// exists, and `16 · V ≥ 32 + shift`.
    #[target_feature(enable = "avx512f")]
    #[inline]
    pub(in crate::arch) unsafe fn new(args: &FinishArgs, n: usize, shift: usize) -> Lines<D, V> {
        let columns = NR.min(args.n - n);
        let mask = ((1u64 << columns) - 1) << shift;
        Lines {
            vectors: core::array::from_fn(|i| {
                let at = (n + 16 * i).wrapping_sub(shift);
                let mask = (mask >> (16 * i)) as __mmask16;
                // SAFETY: the mask keeps to the columns.
                (at, mask, unsafe { constants(args, at, mask) })
            }),
            c: args.c,
            c_stride: args.c_stride,
            y: args.y,
            y_stride: args.y_stride,
            destination: PhantomData,
        }
    }

    /// Writes the outputs of a row.
    ///
    /// # Safety
    ///
    /// The CPU has AVX-512 F, BW and VL; the row exists, in the accumulators and in the output.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    #[inline]
    pub(in crate::arch) unsafe fn finish(&self, row: usize) {
        for (at, mask, constants) in self.vectors {
            let c = self.c.wrapping_add((row * self.c_stride).wrapping_add(at));
            let y = (row * self.y_stride).wrapping_add(at);
            // SAFETY: the masks keep all accesses within the columns. An address may be outside an operand
            // where its mask is 0.
            unsafe {
                let v = output(_mm512_maskz_loadu_epi32(mask, c), constants);
                D::store(self.y.wrapping_add(y.wrapping_mul(D::SIZE)), mask, v);
            }
        }
    }
}
