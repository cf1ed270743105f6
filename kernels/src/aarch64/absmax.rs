//! Largest magnitudes of columns, of all aarch64 rows.

use core::arch::aarch64::*;

use super::convert::Format;
use crate::leaf::RaiseArgs;

/// Columns of two registers, which is what a [`Format`] loads.
const LANES: usize = 8;

/// Eight pairs of registers of columns at a time, then one (eq. 30).
///
/// # Safety
///
/// The CPU has NEON and `args` keeps the promises of [`RaiseArgs`] for elements of `S`.
#[target_feature(enable = "neon")]
pub(super) unsafe fn raise<S: Format>(args: &RaiseArgs) {
    let x = args.x.cast::<S::Elem>();
    let mut column = 0;
    // SAFETY: `x` holds `m` rows of `k` elements, and `most` holds `k` numbers. The last columns, too few
    // for two registers, go through buffers.
    unsafe {
        while args.k - column >= 8 * LANES {
            columns::<S, 8>(x.add(column), args.x_stride, args.m, args.most.add(column));
            column += 8 * LANES;
        }
        while args.k - column >= LANES {
            columns::<S, 1>(x.add(column), args.x_stride, args.m, args.most.add(column));
            column += LANES;
        }
        let left = args.k - column;
        if left > 0 {
            let to = args.most.add(column);
            let mut most = [0.0; LANES];
            to.copy_to_nonoverlapping(most.as_mut_ptr(), left);
            for row in 0..args.m {
                let mut tail = [S::Elem::default(); LANES];
                x.add(row * args.x_stride + column)
                    .copy_to_nonoverlapping(tail.as_mut_ptr(), left);
                columns::<S, 1>(tail.as_ptr(), LANES, 1, most.as_mut_ptr());
            }
            most.as_ptr().copy_to_nonoverlapping(to, left);
        }
    }
}

/// `N` pairs of registers of columns.
///
/// # Safety
///
/// The CPU has NEON; `x` points to `m` rows, `stride` elements apart, of `8 · N` elements, and `to` to as
/// many numbers.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn columns<S: Format, const N: usize>(
    x: *const S::Elem,
    stride: usize,
    m: usize,
    to: *mut f32,
) {
    let mut most = [[vdupq_n_f32(0.0); 2]; N];
    // SAFETY: the caller promises the rows and the numbers.
    unsafe {
        for (i, most) in most.iter_mut().enumerate() {
            *most = [
                vld1q_f32(to.add(LANES * i)),
                vld1q_f32(to.add(LANES * i + 4)),
            ];
        }
        for row in 0..m {
            for (i, most) in most.iter_mut().enumerate() {
                let x = S::load(x.add(row * stride + LANES * i)).map(|x| vabsq_f32(x));
                for (most, x) in most.iter_mut().zip(x) {
                    // Not `fmax`, which gives NaN for NaN; no comparison with NaN is true.
                    *most = vbslq_f32(vcgtq_f32(x, *most), x, *most);
                }
            }
        }
        for (i, [low, high]) in most.into_iter().enumerate() {
            vst1q_f32(to.add(LANES * i), low);
            vst1q_f32(to.add(LANES * i + 4), high);
        }
    }
}
