//! `sdot` (ARMv8.2 dotprod) in its by-element form. Prologues and epilogues are those of NEON.
//!
//! `sdot` wants both operands signed, so codes are stored as `u − 128` (`code_offset`). It sums four
//! products of at most `128 · 127` in an i32 lane: exact. The register tile, 8 × 8 (26 of the 32
//! registers):
//!
//! ```text
//!                               v24: channels 0..4 × 4 inputs   v25: channels 4..8
//!   row 0  v16: 16 inputs of    v0                              v1
//!   ...         which one step
//!   row 7  v23  takes four      v14                             v15
//! ```
//!
//! 16 inputs are 64 `sdot` and 16 loads, each register of codes serving four steps by element: even
//! with one load port the dot products are the bound.

use core::arch::aarch64::*;
use core::arch::asm;

use super::tiles::{self, TileFn};
use crate::leaf::MicroArgs;

const NR: usize = 8;

/// Accumulators of `R` rows and eight channels.
type Acc<const R: usize> = [[int32x4_t; 2]; R];

/// Micro-kernel for any 8-bit operands.
///
/// # Safety
///
/// The CPU has the features below and `args` keeps the promises of [`MicroArgs`] for `NR = 8`,
/// `KR = 4`.
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn micro(args: &MicroArgs) {
    const TILES: [TileFn; 8] = [
        tile::<1, 4>,
        tile::<2, 4>,
        tile::<3, 2>,
        tile::<4, 2>,
        tile::<5, 1>,
        tile::<6, 1>,
        tile::<7, 1>,
        tile::<8, 1>,
    ];
    // SAFETY: the tiles need dotprod and `MicroArgs` for this panel, as the caller promises.
    unsafe { tiles::for_each_tile(args, &TILES) }
}

/// Rows `row..row + R`, all 8 channels, with `S` sets of accumulators that take turns over `k`:
/// short tiles need them to cover the latency of `sdot`.
///
/// # Safety
///
/// As [`micro`], and `row + R ≤ m`.
#[target_feature(enable = "neon,dotprod")]
unsafe fn tile<const R: usize, const S: usize>(args: &MicroArgs, row: usize) {
    let stride = args.a_stride;
    let mut acc: [Acc<R>; S] = [[[vdupq_n_s32(0); 2]; R]; S];
    // SAFETY: `row + R ≤ m` rows of `k` codes and `k / 4` groups of 8 · 4 weights exist, `k` is a
    // multiple of 16; `c` holds `m · NR` values.
    unsafe {
        let mut a = args.a.add(row * stride).cast::<i8>();
        let mut b = args.b;
        let end = a.add(args.inputs.next_multiple_of(16));
        while a < end {
            let mut codes = [vdupq_n_s8(0); R];
            for (r, codes) in codes.iter_mut().enumerate() {
                *codes = vld1q_s8(a.add(r * stride));
            }
            step::<R, 0>(&mut acc[0], &codes, b);
            step::<R, 1>(&mut acc[1 % S], &codes, b);
            step::<R, 2>(&mut acc[2 % S], &codes, b);
            step::<R, 3>(&mut acc[3 % S], &codes, b);
            a = a.add(16);
            b = b.add(NR * 16);
        }
        for r in 0..R {
            for half in 0..2 {
                let mut sums = acc[0][r][half];
                for acc in &acc[1..] {
                    sums = vaddq_s32(sums, acc[r][half]);
                }
                vst1q_s32(args.c.add((row + r) * NR + half * 4), sums);
            }
        }
    }
}

/// Inputs `4 · I..4 · I + 4` of the sixteen that `codes` and `b` hold.
///
/// # Safety
///
/// As [`micro`]; `b` points to four groups of weights.
#[target_feature(enable = "neon,dotprod")]
#[inline]
unsafe fn step<const R: usize, const I: usize>(
    acc: &mut Acc<R>,
    codes: &[int8x16_t; R],
    b: *const i8,
) {
    // SAFETY: the caller promises four groups of 32 bytes.
    let (b0, b1) = unsafe {
        let b = b.add(I * NR * 4);
        (vld1q_s8(b), vld1q_s8(b.add(16)))
    };
    for (acc, codes) in acc.iter_mut().zip(codes) {
        acc[0] = sdot::<I>(acc[0], b0, *codes);
        acc[1] = sdot::<I>(acc[1], b1, *codes);
    }
}

/// In each 32-bit lane, `acc + Σ_4 weights · codes` with the codes of element `I`. The intrinsic,
/// `vdotq_laneq_s32`, is not stable.
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn sdot<const I: usize>(acc: int32x4_t, weights: int8x16_t, codes: int8x16_t) -> int32x4_t {
    let mut acc = acc;
    // SAFETY: registers only, and the function has the feature.
    unsafe {
        asm!(
            "sdot {acc:v}.4s, {weights:v}.16b, {codes:v}.4b[{i}]",
            acc = inout(vreg) acc,
            weights = in(vreg) weights,
            codes = in(vreg) codes,
            i = const I,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    acc
}
