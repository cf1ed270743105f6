//! Prologues and epilogues on 256-bit registers: those of AVX2 and AVX-VNNI.

use core::arch::x86_64::*;
use core::marker::PhantomData;

use super::sink::{NR, Sink};
use crate::layout::{K_ALIGN, padded_k};
use crate::leaf::{FinishArgs, QuantizeArgs};

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
                    quantize_32::<S>(tail.as_ptr().add(k - whole), args, k, max, codes);
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

/// Eight results as destination elements.
pub(in crate::arch) trait Destination {
    /// One element.
    type Elem: Copy + Default;

    /// Rounds to the destination type and stores.
    ///
    /// # Safety
    ///
    /// The CPU has AVX2 and F16C; eight elements are writable.
    unsafe fn store(y: *mut Self::Elem, v: __m256);
}

impl Destination for F32 {
    type Elem = f32;
    #[target_feature(enable = "avx2,f16c")]
    #[inline]
    unsafe fn store(y: *mut f32, v: __m256) {
        // SAFETY: the caller promises eight elements.
        unsafe { _mm256_storeu_ps(y, v) }
    }
}

impl Destination for F16 {
    type Elem = u16;
    #[target_feature(enable = "avx2,f16c")]
    #[inline]
    unsafe fn store(y: *mut u16, v: __m256) {
        let v = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v);
        // SAFETY: the caller promises eight elements.
        unsafe { _mm_storeu_si128(y.cast(), v) }
    }
}

impl Destination for Bf16 {
    type Elem = u16;
    #[target_feature(enable = "avx2,f16c")]
    #[inline]
    unsafe fn store(y: *mut u16, v: __m256) {
        // Round to nearest even on the upper half. An output is never NaN (eq. 9), so the carry
        // cannot turn one into ∞.
        let bits = _mm256_castps_si256(v);
        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        let bits = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
        let words = _mm256_srli_epi32::<16>(bits);
        let packed = _mm256_packus_epi32(words, words);
        let packed = _mm256_castsi256_si128(_mm256_permute4x64_epi64::<0b1000>(packed));
        // SAFETY: the caller promises eight elements.
        unsafe { _mm_storeu_si128(y.cast(), packed) }
    }
}

/// Sixteen columns at a time, their constants at hand while the rows go by (eq. 9).
///
/// # Safety
///
/// The CPU has the features below and `args` keeps the promises of [`FinishArgs`] for elements of `D`.
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::arch) unsafe fn finish<D: Destination>(args: &FinishArgs) {
    for n in (0..args.n).step_by(NR) {
        let columns = NR.min(args.n - n);
        // SAFETY: columns `n..n + columns` exist in every operand and row.
        unsafe {
            let sink = Finished::<D>::new(&FinishArgs {
                comp: args.comp.add(n),
                scale: args.scale.add(n),
                bias: args.bias.add(n),
                y: args.y.add(n * size_of::<D::Elem>()),
                n: columns,
                ..*args
            });
            for row in 0..args.m {
                let c = args.c.add(row * args.c_stride + n);
                let mut acc = [0i32; NR];
                let c = if columns == NR {
                    c
                } else {
                    c.copy_to_nonoverlapping(acc.as_mut_ptr(), columns);
                    acc.as_ptr()
                };
                let half = |at: usize| _mm256_loadu_si256(c.add(at).cast());
                sink.row(row, [half(0), half(8)]);
            }
        }
    }
}

/// Rows of up to sixteen columns of the output: what accumulators become in eq. 9.
pub(in crate::arch) struct Finished<D> {
    /// Of eight columns each: comp, scale and bias; zero where a column does not exist.
    constants: [(__m256i, __m256, __m256); 2],
    columns: usize,
    y: *mut u8,
    y_stride: usize,
    destination: PhantomData<D>,
}

impl<D: Destination> Finished<D> {
    /// # Safety
    ///
    /// The CPU has AVX2; `args` keeps the promises of [`FinishArgs`], with at most 16 columns.
    #[inline(always)]
    pub(in crate::arch) unsafe fn new(args: &FinishArgs) -> Finished<D> {
        let (mut comp, mut scale, mut bias) = ([0i32; NR], [0f32; NR], [0f32; NR]);
        // SAFETY: columns `0..n` exist in every operand; each array holds sixteen values.
        unsafe {
            args.comp.copy_to_nonoverlapping(comp.as_mut_ptr(), args.n);
            args.scale
                .copy_to_nonoverlapping(scale.as_mut_ptr(), args.n);
            args.bias.copy_to_nonoverlapping(bias.as_mut_ptr(), args.n);
            let half = |at: usize| {
                (
                    _mm256_loadu_si256(comp.as_ptr().add(at).cast()),
                    _mm256_loadu_ps(scale.as_ptr().add(at)),
                    _mm256_loadu_ps(bias.as_ptr().add(at)),
                )
            };
            Finished {
                constants: [half(0), half(8)],
                columns: args.n,
                y: args.y,
                y_stride: args.y_stride,
                destination: PhantomData,
            }
        }
    }
}

impl<D: Destination> Sink for Finished<D> {
    #[inline(always)]
    unsafe fn row(&self, row: usize, acc: [__m256i; 2]) {
        // SAFETY: the caller promises the row, of `columns` columns. A partial one is stored whole
        // elsewhere and copied.
        unsafe {
            let y = self.y.cast::<D::Elem>().add(row * self.y_stride);
            if self.columns == NR {
                self.store(y, acc);
            } else {
                let mut whole = [D::Elem::default(); NR];
                self.store(whole.as_mut_ptr(), acc);
                whole.as_ptr().copy_to_nonoverlapping(y, self.columns);
            }
        }
    }
}

impl<D: Destination> Finished<D> {
    /// # Safety
    ///
    /// The CPU has AVX2, FMA and F16C; sixteen elements are writable.
    #[inline(always)]
    unsafe fn store(&self, y: *mut D::Elem, acc: [__m256i; 2]) {
        for (half, (comp, scale, bias)) in self.constants.iter().enumerate() {
            // SAFETY: the caller promises sixteen elements.
            unsafe {
                let acc = _mm256_cvtepi32_ps(_mm256_add_epi32(acc[half], *comp));
                D::store(y.add(8 * half), _mm256_fmadd_ps(acc, *scale, *bias));
            }
        }
    }
}
