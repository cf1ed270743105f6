//! Epilogues on 512-bit registers: those of AVX-512-VNNI and AMX.

use core::arch::x86_64::*;
use core::marker::PhantomData;
use core::ops::Range;

use super::convert::{Bf16, F16, F32};
use super::sink::{NR, Sink};
use crate::lanes::activate;
use crate::leaf::{CodeArgs, FinishArgs};
use crate::spec::Activation;

/// What becomes of sixteen outputs.
pub(in crate::arch) trait Destination {
    /// Bytes of what is written of one.
    const SIZE: usize;

    /// What is needed to know of sixteen columns.
    type Columns: Copy;

    /// That of the columns of `mask`, from column `at` on.
    ///
    /// # Safety
    ///
    /// The CPU has AVX-512 F, BW and VL; `args` keeps the promises of [`FinishArgs`] for the destination, and
    /// the columns of `mask` exist.
    unsafe fn columns(args: &FinishArgs, at: usize, mask: __mmask16) -> Self::Columns;

    /// Writes those of `mask`.
    ///
    /// # Safety
    ///
    /// The CPU has AVX-512 F, BW and VL; the elements of `mask` are writable.
    unsafe fn store(y: *mut u8, mask: __mmask16, v: __m512, columns: Self::Columns);
}

/// Outputs that are added to the f32 that are there.
pub(in crate::arch) struct Add;

/// Outputs that are quantized.
pub(in crate::arch) struct Code;

/// Outputs that are quantized by a twin quantizer, both codes in one byte.
pub(in crate::arch) struct TwinCode;

impl Destination for F32 {
    const SIZE: usize = 4;
    type Columns = ();
    #[inline(always)]
    unsafe fn columns(_: &FinishArgs, _: usize, _: __mmask16) {}
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    #[inline]
    unsafe fn store(y: *mut u8, mask: __mmask16, v: __m512, (): ()) {
        // SAFETY: the caller promises the elements of `mask`.
        unsafe { _mm512_mask_storeu_ps(y.cast(), mask, v) }
    }
}

impl Destination for F16 {
    const SIZE: usize = 2;
    type Columns = ();
    #[inline(always)]
    unsafe fn columns(_: &FinishArgs, _: usize, _: __mmask16) {}
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    #[inline]
    unsafe fn store(y: *mut u8, mask: __mmask16, v: __m512, (): ()) {
        let v = _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v);
        // SAFETY: the caller promises the elements of `mask`.
        unsafe { _mm256_mask_storeu_epi16(y.cast(), mask, v) }
    }
}

impl Destination for Bf16 {
    const SIZE: usize = 2;
    type Columns = ();
    #[inline(always)]
    unsafe fn columns(_: &FinishArgs, _: usize, _: __mmask16) {}
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    #[inline]
    unsafe fn store(y: *mut u8, mask: __mmask16, v: __m512, (): ()) {
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

impl Destination for Add {
    const SIZE: usize = 4;
    type Columns = ();
    #[inline(always)]
    unsafe fn columns(_: &FinishArgs, _: usize, _: __mmask16) {}
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    #[inline]
    unsafe fn store(y: *mut u8, mask: __mmask16, v: __m512, (): ()) {
        // SAFETY: the caller promises the elements of `mask`.
        unsafe {
            let sum = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, y.cast()), v);
            _mm512_mask_storeu_ps(y.cast(), mask, sum);
        }
    }
}

impl Destination for Code {
    const SIZE: usize = 1;
    /// What makes the codes, and their offset.
    type Columns = (Quantizer, __m128i);
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    #[inline]
    unsafe fn columns(args: &FinishArgs, at: usize, mask: __mmask16) -> Self::Columns {
        let offset = _mm_set1_epi8(args.coding.code_offset as i8);
        // SAFETY: the caller promises the columns of `mask`.
        unsafe { (quantizer(args.coding.code, at, mask), offset) }
    }
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    #[inline]
    unsafe fn store(y: *mut u8, mask: __mmask16, v: __m512, (quantizer, offset): Self::Columns) {
        // SAFETY: the caller promises the elements of `mask`.
        unsafe { store_codes(y, mask, codes(v, quantizer), offset) }
    }
}

impl Destination for TwinCode {
    const SIZE: usize = 1;
    /// What makes the fine codes, what makes the coarse ones, their shift, and the offset of both together.
    type Columns = (Quantizer, Quantizer, __m128i, __m128i);
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    #[inline]
    unsafe fn columns(args: &FinishArgs, at: usize, mask: __mmask16) -> Self::Columns {
        let coding = args.coding;
        let shift = _mm_cvtsi32_si128(coding.shift as i32);
        let offset = _mm_set1_epi8(coding.code_offset as i8);
        // SAFETY: the caller promises the columns of `mask`.
        let (fine, coarse) = unsafe {
            (
                quantizer(coding.code, at, mask),
                quantizer(coding.coarse, at, mask),
            )
        };
        (fine, coarse, shift, offset)
    }
    /// Eq. 24.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    #[inline]
    unsafe fn store(
        y: *mut u8,
        mask: __mmask16,
        v: __m512,
        (fine, coarse, shift, offset): Self::Columns,
    ) {
        let coarse = _mm512_sll_epi32(codes(v, coarse), shift);
        let merged = _mm512_add_epi32(codes(v, fine), coarse);
        // SAFETY: the caller promises the elements of `mask`.
        unsafe { store_codes(y, mask, merged, offset) }
    }
}

/// What makes codes of sixteen columns: multipliers, offsets and the largest code.
type Quantizer = (__m512, __m512, __m512);

/// That of the columns of `mask`, zero elsewhere, from column `at` on.
///
/// # Safety
///
/// The CPU has AVX-512 F; `args` keeps the promises of [`CodeArgs`], and the columns of `mask` exist.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn quantizer(args: CodeArgs, at: usize, mask: __mmask16) -> Quantizer {
    // SAFETY: the caller promises the columns of `mask`; other addresses are not accessed.
    unsafe {
        (
            _mm512_maskz_loadu_ps(mask, args.inv.wrapping_add(at)),
            _mm512_maskz_loadu_ps(mask, args.t.wrapping_add(at)),
            _mm512_set1_ps(f32::from(args.max)),
        )
    }
}

/// Codes of sixteen outputs (eq. 3).
#[target_feature(enable = "avx512f")]
#[inline]
fn codes(v: __m512, (inv, t, max): Quantizer) -> __m512i {
    // `vmaxps` returns its second operand when the first is NaN: NaN becomes 0.
    let v = _mm512_max_ps(_mm512_fmadd_ps(v, inv, t), _mm512_setzero_ps());
    _mm512_cvtps_epi32(_mm512_min_ps(v, max))
}

/// Writes those of `mask` of sixteen codes that fit a byte, with their offset taken off.
///
/// # Safety
///
/// The CPU has AVX-512 F, BW and VL; the bytes of `mask` are writable.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[inline]
unsafe fn store_codes(y: *mut u8, mask: __mmask16, codes: __m512i, offset: __m128i) {
    let codes = _mm_sub_epi8(_mm512_cvtepi32_epi8(codes), offset);
    // SAFETY: the caller promises the elements of `mask`. A store without one is several times faster.
    unsafe {
        match mask {
            0xffff => _mm_storeu_si128(y.cast(), codes),
            _ => _mm_mask_storeu_epi8(y.cast(), mask, codes),
        }
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

/// Rows of up to 32 columns of plain outputs, from registers: without an activation, which would be in every
/// row of every tile, and without codes.
pub(in crate::arch) struct Finished<D> {
    constants: [Constants; 2],
    masks: [__mmask16; 2],
    y: *mut u8,
    y_stride: usize,
    destination: PhantomData<D>,
}

impl<D: Destination<Columns = ()>> Finished<D> {
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

impl<D: Destination<Columns = ()>> Sink for Finished<D> {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    #[inline]
    unsafe fn row(&self, row: usize, acc: [__m512i; 2]) {
        for (half, acc) in acc.into_iter().enumerate() {
            let y = (row * self.y_stride + 16 * half) * D::SIZE;
            let v = output(acc, self.constants[half]);
            // SAFETY: the caller promises the row; the masks keep to its columns.
            unsafe { D::store(self.y.wrapping_add(y), self.masks[half], v, ()) };
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
            Lines::<D, V>::new(args, n, shift).finish(0..args.m);
        }
    }
}

/// Up to 32 columns of the output, in `V` vectors, and their accumulators in memory.
///
/// Where all rows of `y` are misaligned alike, the vectors are those that are aligned in `y`: three, of which
/// the outer two are partial, instead of two that each straddle cache lines.
pub(in crate::arch) struct Lines<D: Destination, const V: usize> {
    /// First column, which may be one before the first of all where the mask leaves it out, mask, constants.
    vectors: [(usize, __mmask16, Constants, D::Columns); V],
    activation: Activation,
    c: *const i32,
    c_stride: usize,
    y: *mut u8,
    y_stride: usize,
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
                unsafe {
                    let constants = constants(args, at, mask);
                    (at, mask, constants, D::columns(args, at, mask))
                }
            }),
            activation: args.activation,
            c: args.c,
            c_stride: args.c_stride,
            y: args.y,
            y_stride: args.y_stride,
        }
    }

    /// Writes the outputs of some rows.
    ///
    /// # Safety
    ///
    /// The CPU has AVX-512 F, BW and VL; the rows exist, in the accumulators and in the output.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    #[inline]
    pub(in crate::arch) unsafe fn finish(&self, rows: Range<usize>) {
        // SAFETY: as the caller promises.
        unsafe {
            match self.activation {
                Activation::Identity => self.rows(rows, Activation::Identity),
                _ => self.finish_activated(rows),
            }
        }
    }

    /// The same with an activation: a call, so that plain outputs are finished in line.
    ///
    /// # Safety
    ///
    /// As [`finish`](Self::finish).
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    #[inline(never)]
    unsafe fn finish_activated(&self, rows: Range<usize>) {
        // SAFETY: as the caller promises. Each activation is a loop of its own, with constants in registers.
        unsafe {
            match self.activation {
                Activation::Identity => self.rows(rows, Activation::Identity),
                Activation::Relu => self.rows(rows, Activation::Relu),
                Activation::Gelu => self.rows(rows, Activation::Gelu),
                Activation::GeluTanh => self.rows(rows, Activation::GeluTanh),
                Activation::QuickGelu => self.rows(rows, Activation::QuickGelu),
                Activation::Silu => self.rows(rows, Activation::Silu),
            }
        }
    }

    /// # Safety
    ///
    /// As [`finish`](Self::finish).
    #[inline(always)]
    unsafe fn rows(&self, rows: Range<usize>, activation: Activation) {
        // Of its own, so that no store can be to it.
        let vectors = self.vectors;
        for row in rows {
            let row_of = |stride: usize, at: usize| (row * stride).wrapping_add(at);
            // SAFETY: the caller has AVX-512. The masks keep all accesses within the columns; an address may
            // be outside an operand where its mask is 0.
            unsafe {
                let mut values = [_mm512_setzero_ps(); V];
                for (v, (at, mask, constants, _)) in values.iter_mut().zip(&vectors) {
                    let c = self.c.wrapping_add(row_of(self.c_stride, *at));
                    *v = output(_mm512_maskz_loadu_epi32(*mask, c), *constants);
                }
                let values = activate(activation, values);
                for (v, (at, mask, _, columns)) in values.into_iter().zip(&vectors) {
                    let y = row_of(self.y_stride, *at).wrapping_mul(D::SIZE);
                    D::store(self.y.wrapping_add(y), *mask, v, *columns);
                }
            }
        }
    }
}
