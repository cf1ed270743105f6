//! Epilogues of all aarch64 rows, on ARMv8.0 instructions alone.

use core::arch::aarch64::*;

use super::convert::{F32, Format};
use crate::lanes::activate;
use crate::leaf::{CodeArgs, FinishArgs};

/// Columns that an epilogue takes at a time.
const COLUMNS: usize = 8;

/// What becomes of eight outputs.
pub(super) trait Destination {
    /// What is written of one.
    type Elem: Copy + Default;

    /// What is needed to know of eight columns.
    type Columns;

    /// That of `columns` columns from `n` on.
    ///
    /// # Safety
    ///
    /// The CPU has NEON; `args` keeps the promises of [`FinishArgs`] for the destination, and the columns
    /// exist.
    unsafe fn columns(args: &FinishArgs, n: usize, columns: usize) -> Self::Columns;

    /// # Safety
    ///
    /// The CPU has NEON; eight elements are writable.
    unsafe fn write(y: *mut Self::Elem, v: [float32x4_t; 2], columns: &Self::Columns);
}

/// Outputs that are added to the f32 that are there.
pub(super) struct Add;

/// Outputs that are quantized.
pub(super) struct Code;

/// Outputs that are quantized by a twin quantizer, both codes in one byte.
pub(super) struct TwinCode;

impl<F: Format> Destination for F {
    type Elem = F::Elem;
    type Columns = ();
    #[inline]
    unsafe fn columns(_: &FinishArgs, _: usize, _: usize) {}
    #[target_feature(enable = "neon")]
    #[inline]
    unsafe fn write(y: *mut F::Elem, v: [float32x4_t; 2], (): &()) {
        // SAFETY: the caller promises eight elements.
        unsafe { F::store(y, v) }
    }
}

impl Destination for Add {
    type Elem = f32;
    type Columns = ();
    #[inline]
    unsafe fn columns(_: &FinishArgs, _: usize, _: usize) {}
    #[target_feature(enable = "neon")]
    #[inline]
    unsafe fn write(y: *mut f32, [low, high]: [float32x4_t; 2], (): &()) {
        // SAFETY: the caller promises eight elements.
        unsafe {
            let there = F32::load(y);
            F32::store(y, [vaddq_f32(there[0], low), vaddq_f32(there[1], high)]);
        }
    }
}

impl Destination for Code {
    type Elem = u8;
    /// What makes the codes, and their offset.
    type Columns = (Quantizer, u8);
    #[inline]
    unsafe fn columns(args: &FinishArgs, n: usize, columns: usize) -> Self::Columns {
        let coding = args.coding;
        // SAFETY: the caller promises the columns.
        let code = unsafe { Quantizer::new(coding.code, n, columns) };
        (code, coding.code_offset)
    }
    #[target_feature(enable = "neon")]
    #[inline]
    unsafe fn write(y: *mut u8, v: [float32x4_t; 2], (quantizer, offset): &Self::Columns) {
        // SAFETY: the caller promises eight elements.
        unsafe { vst1_u8(y, vsub_u8(quantizer.codes(v), vdup_n_u8(*offset))) }
    }
}

impl Destination for TwinCode {
    type Elem = u8;
    /// What makes the fine codes, what makes the coarse ones, their shift, and the offset of both together.
    type Columns = (Quantizer, Quantizer, i8, u8);
    #[inline]
    unsafe fn columns(args: &FinishArgs, n: usize, columns: usize) -> Self::Columns {
        let coding = args.coding;
        // SAFETY: the caller promises the columns.
        let [fine, coarse] =
            [coding.code, coding.coarse].map(|code| unsafe { Quantizer::new(code, n, columns) });
        (fine, coarse, coding.shift as i8, coding.code_offset)
    }
    /// Eq. 24.
    #[target_feature(enable = "neon")]
    #[inline]
    unsafe fn write(
        y: *mut u8,
        v: [float32x4_t; 2],
        (fine, coarse, shift, offset): &Self::Columns,
    ) {
        let coarse = vshl_u8(coarse.codes(v), vdup_n_s8(*shift));
        let merged = vadd_u8(fine.codes(v), coarse);
        // SAFETY: the caller promises eight elements.
        unsafe { vst1_u8(y, vsub_u8(merged, vdup_n_u8(*offset))) }
    }
}

/// What makes codes of eight columns: multipliers, offsets and the largest code.
pub(super) struct Quantizer {
    inv: [f32; COLUMNS],
    t: [f32; COLUMNS],
    max: u8,
}

impl Quantizer {
    /// That of `columns` columns from `n` on.
    ///
    /// # Safety
    ///
    /// `args` keeps the promises of [`CodeArgs`], and the columns exist.
    #[inline]
    unsafe fn new(args: CodeArgs, n: usize, columns: usize) -> Quantizer {
        // SAFETY: the caller promises the columns.
        unsafe {
            Quantizer {
                inv: load_some(args.inv.add(n), columns),
                t: load_some(args.t.add(n), columns),
                max: args.max,
            }
        }
    }

    /// Codes of eight outputs (eq. 3), as in [`quantize`](super::convert::quantize).
    #[target_feature(enable = "neon")]
    #[inline]
    fn codes(&self, [low, high]: [float32x4_t; 2]) -> uint8x8_t {
        // SAFETY: each array has eight values.
        let (inv, t) = unsafe { (F32::load(self.inv.as_ptr()), F32::load(self.t.as_ptr())) };
        let low = vcvtnq_u32_f32(vfmaq_f32(t[0], low, inv[0]));
        let high = vcvtnq_u32_f32(vfmaq_f32(t[1], high, inv[1]));
        let bytes = vqmovn_u16(vqmovn_high_u32(vqmovn_u32(low), high));
        vmin_u8(bytes, vdup_n_u8(self.max))
    }
}

/// Eight columns at a time, their constants in registers while the rows go by (eq. 9). A partial
/// run of columns is computed whole from padded copies and copied out.
///
/// # Safety
///
/// The CPU has NEON and `args` keeps the promises of [`FinishArgs`] for the destination `D`.
#[target_feature(enable = "neon")]
pub(super) unsafe fn finish<D: Destination>(args: &FinishArgs) {
    for n in (0..args.n).step_by(COLUMNS) {
        let cols = COLUMNS.min(args.n - n);
        // SAFETY: columns `n..n + cols` exist in every operand and row.
        unsafe {
            let constants = Constants {
                comp: load_some(args.comp.add(n), cols),
                scale: load_some(args.scale.add(n), cols),
                bias: load_some(args.bias.add(n), cols),
            };
            let columns = D::columns(args, n, cols);
            for row in 0..args.m {
                let c = args.c.add(row * args.c_stride + n);
                let y = args.y.cast::<D::Elem>().add(row * args.y_stride + n);
                if cols == COLUMNS {
                    let v = activate(args.activation, outputs(c, &constants));
                    D::write(y, v, &columns);
                } else {
                    let acc = load_some(c, cols);
                    let v = activate(args.activation, outputs(acc.as_ptr(), &constants));
                    let mut whole = load_some(y, cols);
                    D::write(whole.as_mut_ptr(), v, &columns);
                    whole.as_ptr().copy_to_nonoverlapping(y, cols);
                }
            }
        }
    }
}

/// Constants of eight columns, zero where a column does not exist.
struct Constants {
    comp: [i32; COLUMNS],
    scale: [f32; COLUMNS],
    bias: [f32; COLUMNS],
}

/// The first `count` of eight values, and zeros.
///
/// # Safety
///
/// `count ≤ 8` values are readable.
#[inline]
unsafe fn load_some<T: Copy + Default>(from: *const T, count: usize) -> [T; COLUMNS] {
    let mut values = [T::default(); COLUMNS];
    // SAFETY: the caller promises `count` values, and there is room for eight.
    unsafe { from.copy_to_nonoverlapping(values.as_mut_ptr(), count) };
    values
}

/// # Safety
///
/// As [`finish`]; `c` points to eight accumulators.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn outputs(c: *const i32, constants: &Constants) -> [float32x4_t; 2] {
    [0, 4].map(|at| {
        // SAFETY: the caller promises eight accumulators; each constant has eight values.
        unsafe {
            let comp = vld1q_s32(constants.comp.as_ptr().add(at));
            let scale = vld1q_f32(constants.scale.as_ptr().add(at));
            let bias = vld1q_f32(constants.bias.as_ptr().add(at));
            let acc = vaddq_s32(vld1q_s32(c.add(at)), comp);
            vfmaq_f32(bias, vcvtq_f32_s32(acc), scale)
        }
    })
}
