//! Epilogues of all aarch64 rows, on ARMv8.0 instructions alone.

use core::arch::aarch64::*;

use super::convert::{F32, Format};
use crate::lanes::activate;
use crate::leaf::FinishArgs;

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
    /// Multipliers and offsets, the largest code, and the offset of codes.
    type Columns = ([f32; COLUMNS], [f32; COLUMNS], u8, u8);
    #[inline]
    unsafe fn columns(args: &FinishArgs, n: usize, columns: usize) -> Self::Columns {
        let coding = args.coding;
        // SAFETY: the caller promises the columns.
        let (inv, t) = unsafe {
            (
                load_some(coding.inv.add(n), columns),
                load_some(coding.t.add(n), columns),
            )
        };
        (inv, t, coding.max_code, coding.code_offset)
    }
    /// Eq. 3, as in [`quantize`](super::convert::quantize).
    #[target_feature(enable = "neon")]
    #[inline]
    unsafe fn write(
        y: *mut u8,
        [low, high]: [float32x4_t; 2],
        (inv, t, max, offset): &Self::Columns,
    ) {
        // SAFETY: each array has eight values; the caller promises eight elements.
        unsafe {
            let (inv, t) = (F32::load(inv.as_ptr()), F32::load(t.as_ptr()));
            let low = vcvtnq_u32_f32(vfmaq_f32(t[0], low, inv[0]));
            let high = vcvtnq_u32_f32(vfmaq_f32(t[1], high, inv[1]));
            let bytes = vqmovn_u16(vqmovn_high_u32(vqmovn_u32(low), high));
            let limited = vmin_u8(bytes, vdup_n_u8(*max));
            vst1_u8(y, vsub_u8(limited, vdup_n_u8(*offset)));
        }
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
