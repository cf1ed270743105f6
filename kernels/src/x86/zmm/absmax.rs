//! Largest magnitudes of columns on 512-bit registers: those of AVX-512-VNNI and AMX.

use core::arch::x86_64::*;

use super::convert::Source;
use crate::leaf::RaiseArgs;

/// Columns of a register.
const LANES: usize = 16;

/// Four registers of columns at a time (eq. 30).
///
/// # Safety
///
/// The CPU has the features below and `args` keeps the promises of [`RaiseArgs`] for elements of `S`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(in crate::arch) unsafe fn raise<S: Source>(args: &RaiseArgs) {
    for column in (0..args.k).step_by(4 * LANES) {
        let mask = match args.k - column {
            left @ 0..64 => (1u64 << left) - 1,
            _ => u64::MAX,
        };
        let masks = [0, 1, 2, 3].map(|i| (mask >> (LANES * i)) as __mmask16);
        let mut most = [_mm512_setzero_ps(); 4];
        // SAFETY: masks keep loads of `x` within the `k` elements of its `m` rows, loads and stores of
        // `most` within its `k` numbers. An address may be past the end where its mask is 0.
        unsafe {
            for (i, most) in most.iter_mut().enumerate() {
                let from = args.most.wrapping_add(column + LANES * i);
                *most = _mm512_maskz_loadu_ps(masks[i], from);
            }
            for row in 0..args.m {
                let at = row * args.x_stride + column;
                for (i, most) in most.iter_mut().enumerate() {
                    let x = args.x.wrapping_add((at + LANES * i) * S::SIZE);
                    let x = _mm512_abs_ps(S::load(x, masks[i]));
                    // `vmaxps` returns its second operand when the first is NaN: NaN is left out.
                    *most = _mm512_max_ps(x, *most);
                }
            }
            for (i, most) in most.iter().enumerate() {
                let to = args.most.wrapping_add(column + LANES * i);
                _mm512_mask_storeu_ps(to, masks[i], *most);
            }
        }
    }
}
