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

use super::tiles::{self, TileFn, subtract};
use crate::leaf::{Accumulators, BlockArgs, MicroArgs, block_by_steps};
use crate::strassen::{self, Bias, Difference, Factors, Leaf, Registers, TilesArgs, TilesFn};

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
        let a = args.a.add(row * stride);
        multiply(&mut acc, a, stride, args.b, args.inputs, None);
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

/// Adds the products of `inputs` inputs, rounded up to a multiple of 16: codes from `a` on, in rows that
/// begin `stride` bytes apart, and the weights at `b`.
///
/// # Safety
///
/// The CPU has dotprod; codes and weights exist.
#[inline(always)]
unsafe fn multiply<const R: usize, const S: usize>(
    acc: &mut [Acc<R>; S],
    a: *const u8,
    stride: usize,
    mut b: *const i8,
    inputs: usize,
    make: Option<Difference>,
) {
    // SAFETY: the caller promises the codes and the weights.
    unsafe {
        let mut a = a.cast::<i8>();
        let mut at = 0;
        let end = a.add(inputs.next_multiple_of(16));
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
            if let Some(make) = make {
                subtract::<{ NR * 16 }>(make, at);
                at += NR * 16;
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

/// `sdot` reads codes as signed bytes.
pub(super) const BIAS: Bias = Bias(0);

/// Block leaf of [`micro`] for operands of six bits, by Strassen's algorithm.
///
/// # Safety
///
/// The CPU has the features below and `args` keeps the promises of [`BlockArgs`] for the row of this leaf.
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn block_u6s6(args: &BlockArgs) {
    const TILES: [TilesFn<Accumulators>; 8] = [
        four_tiles::<1>,
        four_tiles::<2>,
        four_tiles::<3>,
        four_tiles::<4>,
        four_tiles::<5>,
        four_tiles::<6>,
        four_tiles::<7>,
        four_tiles::<8>,
    ];
    // SAFETY: the tiles need dotprod and `BlockArgs`, as the caller promises.
    unsafe { strassen::block(args, &Leaf::in_steps(block_by_steps, &TILES, BIAS)) }
}

/// # Safety
///
/// The CPU has the features below; `args` and `outputs` keep the promises of [`strassen::tiles`] for tiles of
/// `R` rows, `NR = 8`, `KR = 4`.
#[target_feature(enable = "neon,dotprod")]
unsafe fn four_tiles<const R: usize>(args: &TilesArgs<'_>, outputs: &[Accumulators; 4]) {
    // SAFETY: the caller promises operands and outputs; the function has the features.
    unsafe { strassen::tiles::<Four<R>, Accumulators>(args, outputs) }
}

/// One set of accumulators of `R` rows.
struct Four<const R: usize>([Acc<R>; 1]);

impl<const R: usize> Registers<Accumulators> for Four<R> {
    #[inline(always)]
    fn zero() -> Self {
        // SAFETY: whoever has such registers has NEON.
        Four([[[unsafe { vdupq_n_s32(0) }; 2]; R]])
    }

    #[inline(always)]
    unsafe fn load(c: *const i32) -> Self {
        let mut acc = Self::zero();
        for (r, acc) in acc.0[0].iter_mut().enumerate() {
            for (half, acc) in acc.iter_mut().enumerate() {
                // SAFETY: the caller promises `R` rows.
                *acc = unsafe { vld1q_s32(c.add(r * NR + 4 * half)) };
            }
        }
        acc
    }

    #[inline(always)]
    unsafe fn store(&self, c: *mut i32) {
        for (r, acc) in self.0[0].iter().enumerate() {
            for (half, acc) in acc.iter().enumerate() {
                // SAFETY: the caller promises room for `R` rows.
                unsafe { vst1q_s32(c.add(r * NR + 4 * half), *acc) };
            }
        }
    }

    #[inline(always)]
    unsafe fn multiply(&mut self, factors: &Factors, row: usize, k: usize) {
        let stride = factors.a_stride;
        // SAFETY: the caller promises the rows and the weights; `k` is a multiple of 64.
        unsafe {
            let a = factors.a.add(row * stride);
            // Two loops, of which most tiles take the second.
            match factors.make(row) {
                Some(make) => multiply(&mut self.0, a, stride, factors.b, k, Some(make)),
                None => multiply(&mut self.0, a, stride, factors.b, k, None),
            }
        }
    }

    #[inline(always)]
    unsafe fn give(&self, plus: Option<*const i32>, to: usize, sink: &Accumulators) {
        for (r, acc) in self.0[0].iter().enumerate() {
            for (half, acc) in acc.iter().enumerate() {
                // SAFETY: the caller promises `R` rows there and in the sink.
                unsafe {
                    let acc = match plus {
                        Some(plus) => vaddq_s32(*acc, vld1q_s32(plus.add(r * NR + 4 * half))),
                        None => *acc,
                    };
                    vst1q_s32(sink.0.add((to + r) * NR + 4 * half), acc);
                }
            }
        }
    }
}
