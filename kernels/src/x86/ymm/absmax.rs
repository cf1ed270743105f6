//! Largest magnitudes of columns on 256-bit registers: those of AVX2 and AVX-VNNI.

use core::arch::x86_64::*;

use super::convert::Source;
use crate::leaf::RaiseArgs;

/// Columns of a register.
const LANES: usize = 8;

/// Eight registers of columns at a time, then one (eq. 30).
///
/// # Safety
///
/// The CPU has the features below and `args` keeps the promises of [`RaiseArgs`] for elements of `S`.
#[target_feature(enable = "avx2,f16c")]
pub(in crate::arch) unsafe fn raise<S: Source>(args: &RaiseArgs) {
    let x = args.x.cast::<S::Elem>();
    let mut column = 0;
    // SAFETY: `x` holds `m` rows of `k` elements, and `most` holds `k` numbers. The last columns, too few
    // for a register, go through buffers.
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

/// `N` registers of columns.
///
/// # Safety
///
/// The CPU has the features below; `x` points to `m` rows, `stride` elements apart, of `8 · N` elements, and
/// `to` to as many numbers.
#[target_feature(enable = "avx2,f16c")]
#[inline]
unsafe fn columns<S: Source, const N: usize>(
    x: *const S::Elem,
    stride: usize,
    m: usize,
    to: *mut f32,
) {
    let magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(i32::MAX));
    let mut most = [_mm256_setzero_ps(); N];
    // SAFETY: the caller promises the rows and the numbers.
    unsafe {
        for (i, most) in most.iter_mut().enumerate() {
            *most = _mm256_loadu_ps(to.add(LANES * i));
        }
        for row in 0..m {
            for (i, most) in most.iter_mut().enumerate() {
                let x = _mm256_and_ps(S::load(x.add(row * stride + LANES * i)), magnitude);
                // `vmaxps` returns its second operand when the first is NaN: NaN is left out.
                *most = _mm256_max_ps(x, *most);
            }
        }
        for (i, most) in most.iter().enumerate() {
            _mm256_storeu_ps(to.add(LANES * i), *most);
        }
    }
}
