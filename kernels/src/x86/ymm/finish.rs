//! Epilogues on 256-bit registers: those of AVX2 and AVX-VNNI.

use core::arch::x86_64::*;

use super::convert::{Bf16, F16, F32};
use super::sink::{NR, Sink};
use crate::lanes::activate;
use crate::leaf::{CodeArgs, FinishArgs};
use crate::spec::Activation;

/// What becomes of sixteen outputs.
pub(in crate::arch) trait Destination {
    /// What is written of one.
    type Elem: Copy + Default;

    /// What is needed to know of sixteen columns.
    type Columns: Copy;

    /// That of the first columns, up to sixteen.
    ///
    /// # Safety
    ///
    /// The CPU has AVX2 and F16C; `args` keeps the promises of [`FinishArgs`] for the destination.
    unsafe fn columns(args: &FinishArgs) -> Self::Columns;

    /// # Safety
    ///
    /// The CPU has AVX2 and F16C; sixteen elements are writable.
    unsafe fn store(y: *mut Self::Elem, v: [__m256; 2], columns: Self::Columns);
}

/// Outputs that are added to the f32 that are there.
pub(in crate::arch) struct Add;

/// Outputs that are quantized.
pub(in crate::arch) struct Code;

/// Outputs that are quantized by a twin quantizer, both codes in one byte.
pub(in crate::arch) struct TwinCode;

impl Destination for F32 {
    type Elem = f32;
    type Columns = ();
    #[inline(always)]
    unsafe fn columns(_: &FinishArgs) {}
    #[target_feature(enable = "avx2,f16c")]
    #[inline]
    unsafe fn store(y: *mut f32, [low, high]: [__m256; 2], (): ()) {
        // SAFETY: the caller promises sixteen elements.
        unsafe {
            _mm256_storeu_ps(y, low);
            _mm256_storeu_ps(y.add(8), high);
        }
    }
}

impl Destination for F16 {
    type Elem = u16;
    type Columns = ();
    #[inline(always)]
    unsafe fn columns(_: &FinishArgs) {}
    #[target_feature(enable = "avx2,f16c")]
    #[inline]
    unsafe fn store(y: *mut u16, v: [__m256; 2], (): ()) {
        for (half, v) in v.into_iter().enumerate() {
            let v = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v);
            // SAFETY: the caller promises sixteen elements.
            unsafe { _mm_storeu_si128(y.add(8 * half).cast(), v) }
        }
    }
}

impl Destination for Bf16 {
    type Elem = u16;
    type Columns = ();
    #[inline(always)]
    unsafe fn columns(_: &FinishArgs) {}
    #[target_feature(enable = "avx2,f16c")]
    #[inline]
    unsafe fn store(y: *mut u16, v: [__m256; 2], (): ()) {
        // Round to nearest even on the upper half. An output is never NaN (eq. 9), so the carry
        // cannot turn one into ∞.
        let [low, high] = v.map(|v| {
            let bits = _mm256_castps_si256(v);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let bits = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
            _mm256_srli_epi32::<16>(bits)
        });
        // SAFETY: the caller promises sixteen elements.
        unsafe { _mm256_storeu_si256(y.cast(), words(low, high)) }
    }
}

impl Destination for Add {
    type Elem = f32;
    type Columns = ();
    #[inline(always)]
    unsafe fn columns(_: &FinishArgs) {}
    #[target_feature(enable = "avx2,f16c")]
    #[inline]
    unsafe fn store(y: *mut f32, v: [__m256; 2], (): ()) {
        for (half, v) in v.into_iter().enumerate() {
            // SAFETY: the caller promises sixteen elements.
            unsafe {
                let y = y.add(8 * half);
                _mm256_storeu_ps(y, _mm256_add_ps(_mm256_loadu_ps(y), v));
            }
        }
    }
}

impl Destination for Code {
    type Elem = u8;
    /// What makes the codes, and their offset.
    type Columns = (Quantizer, __m128i);
    #[inline(always)]
    unsafe fn columns(args: &FinishArgs) -> Self::Columns {
        // SAFETY: the caller promises the columns.
        unsafe { (quantizer(args.coding.code, args.n), code_offset(args)) }
    }
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn store(y: *mut u8, v: [__m256; 2], (quantizer, offset): Self::Columns) {
        // SAFETY: the caller promises sixteen elements.
        unsafe { _mm_storeu_si128(y.cast(), bytes(codes(v, quantizer), offset)) }
    }
}

impl Destination for TwinCode {
    type Elem = u8;
    /// What makes the fine codes, what makes the coarse ones, their shift, and the offset of both together.
    type Columns = (Quantizer, Quantizer, __m128i, __m128i);
    #[inline(always)]
    unsafe fn columns(args: &FinishArgs) -> Self::Columns {
        let coding = args.coding;
        // SAFETY: the caller promises the columns.
        unsafe {
            let [fine, coarse] = [coding.code, coding.coarse].map(|code| quantizer(code, args.n));
            let shift = _mm_cvtsi32_si128(coding.shift as i32);
            (fine, coarse, shift, code_offset(args))
        }
    }
    /// Eq. 24.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn store(y: *mut u8, v: [__m256; 2], (fine, coarse, shift, offset): Self::Columns) {
        let (fine, coarse) = (codes(v, fine), codes(v, coarse));
        let merged = core::array::from_fn(|half| {
            _mm256_add_epi32(fine[half], _mm256_sll_epi32(coarse[half], shift))
        });
        // SAFETY: the caller promises sixteen elements.
        unsafe { _mm_storeu_si128(y.cast(), bytes(merged, offset)) }
    }
}

/// What makes codes of sixteen columns: multipliers and offsets of eight each, and the largest code.
type Quantizer = ([(__m256, __m256); 2], __m256);

/// That of the first `n` columns, up to sixteen.
///
/// # Safety
///
/// The CPU has AVX2; `args` keeps the promises of [`CodeArgs`].
#[inline(always)]
unsafe fn quantizer(args: CodeArgs, n: usize) -> Quantizer {
    let (mut inv, mut t) = ([0f32; NR], [0f32; NR]);
    // SAFETY: columns `0..n` exist, of which there are sixteen at most; each array holds as many values.
    unsafe {
        args.inv.copy_to_nonoverlapping(inv.as_mut_ptr(), n);
        args.t.copy_to_nonoverlapping(t.as_mut_ptr(), n);
        let half = |at: usize| {
            (
                _mm256_loadu_ps(inv.as_ptr().add(at)),
                _mm256_loadu_ps(t.as_ptr().add(at)),
            )
        };
        ([half(0), half(8)], _mm256_set1_ps(f32::from(args.max)))
    }
}

/// What is subtracted from each byte of codes.
///
/// # Safety
///
/// The CPU has AVX2.
#[inline(always)]
unsafe fn code_offset(args: &FinishArgs) -> __m128i {
    // SAFETY: as the caller promises.
    unsafe { _mm_set1_epi8(args.coding.code_offset as i8) }
}

/// Codes of sixteen outputs (eq. 3).
#[target_feature(enable = "avx2,fma")]
#[inline]
fn codes(v: [__m256; 2], (columns, max): Quantizer) -> [__m256i; 2] {
    core::array::from_fn(|half| {
        let (inv, t) = columns[half];
        // `vmaxps` returns its second operand when the first is NaN: NaN becomes 0.
        let v = _mm256_max_ps(_mm256_fmadd_ps(v[half], inv, t), _mm256_setzero_ps());
        _mm256_cvtps_epi32(_mm256_min_ps(v, max))
    })
}

/// Sixteen codes that fit a byte, in order, with their offset taken off.
#[target_feature(enable = "avx2")]
#[inline]
fn bytes([low, high]: [__m256i; 2], offset: __m128i) -> __m128i {
    let words = words(low, high);
    let low = _mm256_castsi256_si128(words);
    let codes = _mm_packus_epi16(low, _mm256_extracti128_si256::<1>(words));
    _mm_sub_epi8(codes, offset)
}

/// Sixteen words of as many numbers that fit, in order.
#[target_feature(enable = "avx2")]
#[inline]
fn words(low: __m256i, high: __m256i) -> __m256i {
    // `vpackusdw` works within 128-bit lanes.
    _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(low, high))
}

/// Sixteen columns at a time, their constants at hand while the rows go by (eq. 9).
///
/// # Safety
///
/// The CPU has the features below and `args` keeps the promises of [`FinishArgs`] for the destination `D`.
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::arch) unsafe fn finish<D: Destination>(args: &FinishArgs) {
    for n in (0..args.n).step_by(NR) {
        let columns = NR.min(args.n - n);
        // SAFETY: columns `n..n + columns` exist in every operand and row.
        unsafe {
            let finished = Finished::<D>::new(&FinishArgs {
                comp: args.comp.add(n),
                scale: args.scale.add(n),
                bias: args.bias.add(n),
                y: args.y.add(n * size_of::<D::Elem>()),
                n: columns,
                coding: args.coding.at(n),
                ..*args
            });
            // Each activation is a loop of its own.
            match args.activation {
                Activation::Identity => finished.rows(args, n, Activation::Identity),
                Activation::Relu => finished.rows(args, n, Activation::Relu),
                Activation::Gelu => finished.rows(args, n, Activation::Gelu),
                Activation::GeluTanh => finished.rows(args, n, Activation::GeluTanh),
                Activation::QuickGelu => finished.rows(args, n, Activation::QuickGelu),
                Activation::Silu => finished.rows(args, n, Activation::Silu),
            }
        }
    }
}

/// Rows of up to sixteen columns of the output: what accumulators become in eq. 9.
pub(in crate::arch) struct Finished<D: Destination> {
    /// Of eight columns each: comp, scale and bias; zero where a column does not exist.
    constants: [(__m256i, __m256, __m256); 2],
    columns: usize,
    y: *mut u8,
    y_stride: usize,
    of_destination: D::Columns,
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
                of_destination: D::columns(args),
            }
        }
    }

    /// Writes the outputs of all rows of `args`, whose columns from `n` on these are.
    ///
    /// # Safety
    ///
    /// The CPU has AVX2, FMA and F16C; `args` keeps the promises of [`FinishArgs`], and the columns exist.
    #[inline(always)]
    unsafe fn rows(&self, args: &FinishArgs, n: usize, activation: Activation) {
        for row in 0..args.m {
            // SAFETY: the caller promises the rows and `columns` accumulators of each from column `n` on.
            unsafe {
                let c = args.c.add(row * args.c_stride + n);
                let mut acc = [0i32; NR];
                let c = if self.columns == NR {
                    c
                } else {
                    c.copy_to_nonoverlapping(acc.as_mut_ptr(), self.columns);
                    acc.as_ptr()
                };
                let half = |at: usize| _mm256_loadu_si256(c.add(at).cast());
                let v = self.outputs([half(0), half(8)]);
                self.write(row, activate(activation, v));
            }
        }
    }

    /// # Safety
    ///
    /// The CPU has AVX2 and FMA.
    #[inline(always)]
    unsafe fn outputs(&self, acc: [__m256i; 2]) -> [__m256; 2] {
        core::array::from_fn(|half| {
            let (comp, scale, bias) = self.constants[half];
            // SAFETY: the caller has AVX2 and FMA.
            unsafe {
                let acc = _mm256_cvtepi32_ps(_mm256_add_epi32(acc[half], comp));
                _mm256_fmadd_ps(acc, scale, bias)
            }
        })
    }

    /// # Safety
    ///
    /// The CPU has AVX2, FMA and F16C; the row exists.
    #[inline(always)]
    unsafe fn write(&self, row: usize, v: [__m256; 2]) {
        // SAFETY: the caller promises the row, of `columns` columns. A partial one is copied, written whole
        // elsewhere and copied back.
        unsafe {
            let y = self.y.cast::<D::Elem>().add(row * self.y_stride);
            if self.columns == NR {
                D::store(y, v, self.of_destination);
            } else {
                let mut whole = [D::Elem::default(); NR];
                y.copy_to_nonoverlapping(whole.as_mut_ptr(), self.columns);
                D::store(whole.as_mut_ptr(), v, self.of_destination);
                whole.as_ptr().copy_to_nonoverlapping(y, self.columns);
            }
        }
    }
}

impl<D: Destination> Sink for Finished<D> {
    #[inline(always)]
    unsafe fn row(&self, row: usize, acc: [__m256i; 2]) {
        // SAFETY: the caller has AVX2, FMA and F16C, and promises the row.
        unsafe { self.write(row, self.outputs(acc)) }
    }
}
