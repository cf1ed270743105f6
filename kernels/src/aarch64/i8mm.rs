//! `usmmla` (ARMv8.6 i8mm): two rows × two channels × eight inputs in one instruction. Prologues and
//! epilogues are those of NEON.
//!
//! It takes unsigned codes and signed weights as they are and sums in i32: exact, without an offset.
//! The register tile, 4 × 24 (30 of the 32 registers): an accumulator holds a block of 2 × 2,
//!
//! ```text
//!                                 v28: channels 0, 1 × 8 inputs   channels 2, 3   ...  22, 23
//!   rows 0, 1  v24: 8 inputs each   v0                            v1                   v11
//!   rows 2, 3  v25: 8 inputs each   v12                           v13                  v23
//!              (v26, v27: the next 8)
//! ```
//!
//! Rows of codes stand apart in memory, so `zip1` and `zip2` bring 8 inputs of two rows into one
//! register. They take the pipes of `usmmla`; with `NR` channels that is one for `NR / 2` `usmmla`:
//! the widest panel that leaves a tile of two row pairs in registers, 24, loses 1/13 to them (8 × 8
//! would lose 1/5, 8 × 12 1/7).

use core::arch::aarch64::*;
use core::arch::asm;

use super::tiles::{self, TileFn, subtract};
use crate::leaf::{Accumulators, BlockArgs, MicroArgs, block_by_steps};
use crate::strassen::{
    self, Bias, Difference, Factors, Leaf, MAX_CODE, Registers, TilesArgs, TilesFn,
};

const NR: usize = 24;
const KR: usize = 8;
/// Pairs of channels.
const PAIRS: usize = NR / 2;

/// Accumulators of `P` pairs of rows.
type Acc<const P: usize> = [[int32x4_t; PAIRS]; P];

/// Micro-kernel for any 8-bit operands.
///
/// # Safety
///
/// The CPU has the features below and `args` keeps the promises of [`MicroArgs`] for `NR = 24`,
/// `KR = 8`.
#[target_feature(enable = "neon,i8mm")]
pub(super) unsafe fn micro(args: &MicroArgs) {
    const TILES: [TileFn; 4] = [tile::<1, 1>, tile::<2, 1>, tile::<3, 2>, tile::<4, 2>];
    // SAFETY: the tiles need i8mm and `MicroArgs` for this panel, as the caller promises.
    unsafe { tiles::for_each_tile(args, &TILES) }
}

/// Rows `row..row + R` in `P = ⌈R / 2⌉` pairs, all 24 channels. The last of an odd number of rows is
/// paired with itself.
///
/// # Safety
///
/// As [`micro`], and `row + R ≤ m`.
#[target_feature(enable = "neon,i8mm")]
unsafe fn tile<const R: usize, const P: usize>(args: &MicroArgs, row: usize) {
    let stride = args.a_stride;
    let mut acc = [[vdupq_n_s32(0); PAIRS]; P];
    // SAFETY: `row + R ≤ m` rows of `k` codes and `k / 8` groups of 24 · 8 weights exist, `k` is a
    // multiple of 16; `c` holds `m · NR` values.
    unsafe {
        let a = args.a.add(row * stride);
        multiply::<R, P>(&mut acc, a, stride, args.b, args.inputs, None);
        store_rows::<R, P>(&acc, None, args.c.add(row * NR));
    }
}

/// Adds the products of `inputs` inputs, rounded up to a multiple of 16: codes from `a` on, in rows that
/// begin `stride` bytes apart, and the weights at `b`.
///
/// # Safety
///
/// The CPU has i8mm; codes and weights exist.
#[inline(always)]
unsafe fn multiply<const R: usize, const P: usize>(
    acc: &mut Acc<P>,
    mut a: *const u8,
    stride: usize,
    mut b: *const i8,
    inputs: usize,
    make: Option<Difference>,
) {
    // SAFETY: the caller promises the codes and the weights.
    unsafe {
        let mut at = 0;
        let end = a.add(inputs.next_multiple_of(2 * KR));
        while a < end {
            let [mut first, mut second] = [[vdupq_n_u8(0); P]; 2];
            for (p, (first, second)) in first.iter_mut().zip(&mut second).enumerate() {
                let x = vld1q_u8(a.add(2 * p * stride));
                let y = vld1q_u8(a.add((2 * p + 1).min(R - 1) * stride));
                let (x, y) = (vreinterpretq_u64_u8(x), vreinterpretq_u64_u8(y));
                *first = vreinterpretq_u8_u64(vzip1q_u64(x, y));
                *second = vreinterpretq_u8_u64(vzip2q_u64(x, y));
            }
            for codes in [first, second] {
                for n in 0..PAIRS {
                    let weights = vld1q_s8(b.add(n * 2 * KR));
                    for (acc, codes) in acc.iter_mut().zip(codes) {
                        acc[n] = usmmla(acc[n], codes, weights);
                    }
                }
                b = b.add(NR * KR);
            }
            a = a.add(2 * KR);
            if let Some(make) = make {
                subtract::<{ NR * 2 * KR }>(make, at);
                at += NR * 2 * KR;
            }
        }
    }
}

/// Leaves the accumulators at `c`, `R` dense rows, with what there is at `plus` added, 2 × 2 as they are.
///
/// # Safety
///
/// The CPU has NEON; there is room for the rows.
#[inline(always)]
unsafe fn store_rows<const R: usize, const P: usize>(
    acc: &Acc<P>,
    plus: Option<*const i32>,
    c: *mut i32,
) {
    for (p, acc) in acc.iter().enumerate() {
        for n in (0..PAIRS).step_by(2) {
            // SAFETY: the caller promises the rows.
            unsafe {
                let (mut x, mut y) = (acc[n], acc[n + 1]);
                if let Some(plus) = plus {
                    let at = 4 * (p * PAIRS + n);
                    x = vaddq_s32(x, vld1q_s32(plus.add(at)));
                    y = vaddq_s32(y, vld1q_s32(plus.add(at + 4)));
                }
                // Blocks of 2 × 2 to runs of four channels of a row.
                let (x, y) = (vreinterpretq_s64_s32(x), vreinterpretq_s64_s32(y));
                let at = 2 * p * NR + 2 * n;
                vst1q_s32(c.add(at), vreinterpretq_s32_s64(vzip1q_s64(x, y)));
                if 2 * p + 1 < R {
                    vst1q_s32(c.add(at + NR), vreinterpretq_s32_s64(vzip2q_s64(x, y)));
                }
            }
        }
    }
}

/// `acc[i][j] + Σ_8 codes[i] · weights[j]` of two rows and two channels. The intrinsic,
/// `vusmmlaq_s32`, is not stable.
#[target_feature(enable = "neon,i8mm")]
#[inline]
fn usmmla(acc: int32x4_t, codes: uint8x16_t, weights: int8x16_t) -> int32x4_t {
    let mut acc = acc;
    // SAFETY: registers only, and the function has the feature.
    unsafe {
        asm!(
            "usmmla {acc:v}.4s, {codes:v}.16b, {weights:v}.16b",
            acc = inout(vreg) acc,
            codes = in(vreg) codes,
            weights = in(vreg) weights,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    acc
}

/// `usmmla` reads codes as unsigned bytes.
pub(super) const BIAS: Bias = Bias(MAX_CODE);

/// Block leaf of [`micro`] for operands of six bits, by Strassen's algorithm.
///
/// # Safety
///
/// The CPU has the features below and `args` keeps the promises of [`BlockArgs`] for the row of this leaf.
#[target_feature(enable = "neon,i8mm")]
pub(super) unsafe fn block_u6s6(args: &BlockArgs) {
    const TILES: [TilesFn<Accumulators>; 4] = [
        four_tiles::<1, 1>,
        four_tiles::<2, 1>,
        four_tiles::<3, 2>,
        four_tiles::<4, 2>,
    ];
    // SAFETY: the tiles need i8mm and `BlockArgs`, as the caller promises.
    unsafe { strassen::block(args, &Leaf::in_steps(block_by_steps, &TILES, BIAS)) }
}

/// # Safety
///
/// The CPU has the features below; `args` and `outputs` keep the promises of [`strassen::tiles`] for tiles of
/// `R` rows in `P` pairs, `NR = 24`, `KR = 8`.
#[target_feature(enable = "neon,i8mm")]
unsafe fn four_tiles<const R: usize, const P: usize>(
    args: &TilesArgs<'_>,
    outputs: &[Accumulators; 4],
) {
    // SAFETY: the caller promises operands and outputs; the function has the features.
    unsafe { strassen::tiles::<Four<R, P>, Accumulators>(args, outputs) }
}

/// Accumulators of `R` rows.
struct Four<const R: usize, const P: usize>(Acc<P>);

impl<const R: usize, const P: usize> Registers<Accumulators> for Four<R, P> {
    #[inline(always)]
    fn zero() -> Self {
        // SAFETY: whoever has such registers has NEON.
        Four([[unsafe { vdupq_n_s32(0) }; PAIRS]; P])
    }

    #[inline(always)]
    unsafe fn load(c: *const i32) -> Self {
        let mut acc = Self::zero();
        for (p, acc) in acc.0.iter_mut().enumerate() {
            for (n, acc) in acc.iter_mut().enumerate() {
                // SAFETY: the caller promises what `store` has left.
                *acc = unsafe { vld1q_s32(c.add(4 * (p * PAIRS + n))) };
            }
        }
        acc
    }

    #[inline(always)]
    unsafe fn store(&self, c: *mut i32) {
        for (p, acc) in self.0.iter().enumerate() {
            for (n, acc) in acc.iter().enumerate() {
                // SAFETY: the caller promises room for a tile.
                unsafe { vst1q_s32(c.add(4 * (p * PAIRS + n)), *acc) };
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
                Some(make) => {
                    multiply::<R, P>(&mut self.0, a, stride, factors.b, k, Some(make));
                }
                None => multiply::<R, P>(&mut self.0, a, stride, factors.b, k, None),
            }
        }
    }

    #[inline(always)]
    unsafe fn give(&self, plus: Option<*const i32>, to: usize, sink: &Accumulators) {
        // SAFETY: the caller promises what `store` has left, and `R` rows in the sink.
        unsafe { store_rows::<R, P>(&self.0, plus, sink.0.add(to * NR)) };
    }
}
