//! What the register tiles of all rows share.

use core::arch::aarch64::*;

use crate::leaf::MicroArgs;
use crate::strassen::Difference;

/// A register tile: computes rows `row..row + R` for its number of rows `R`.
pub(super) type TileFn = unsafe fn(&MicroArgs, usize);

/// Covers all rows with the tallest tiles and a shorter last one; `tiles[r - 1]` has `r` rows.
///
/// # Safety
///
/// The CPU has what the tiles need and `args` keeps their promises.
pub(super) unsafe fn for_each_tile(args: &MicroArgs, tiles: &[TileFn]) {
    let mut row = 0;
    while row < args.m {
        let rows = tiles.len().min(args.m - row);
        // SAFETY: the caller promises what the tile needs, and `row + rows ≤ m`.
        unsafe { tiles[rows - 1](args, row) };
        row += rows;
    }
}

/// The sums of the lanes of each of four vectors.
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn add_lanes([a, b, c, d]: [int32x4_t; 4]) -> int32x4_t {
    vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d))
}

/// Makes `N` weights of a difference, a multiple of 16, from the one at `at` on.
///
/// # Safety
///
/// The CPU has NEON; the weights exist.
#[inline(always)]
pub(super) unsafe fn subtract<const N: usize>(make: Difference, at: usize) {
    for at in (at..at + N).step_by(16) {
        // SAFETY: the caller promises the weights.
        unsafe {
            let difference = vsubq_s8(vld1q_s8(make.from.add(at)), vld1q_s8(make.less.add(at)));
            vst1q_s8(make.to.add(at), difference);
        }
    }
}
