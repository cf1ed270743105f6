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

use super::tiles::{self, TileFn};
use crate::leaf::MicroArgs;

const NR: usize = 24;
const KR: usize = 8;
/// Pairs of channels.
const PAIRS: usize = NR / 2;

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
        let mut a = args.a.add(row * stride);
        let mut b = args.b;
        let end = a.add(args.inputs.next_multiple_of(2 * KR));
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
        }
        for (p, acc) in acc.iter().enumerate() {
            for n in (0..PAIRS).step_by(2) {
                // Blocks of 2 × 2 to runs of four channels of a row.
                let x = vreinterpretq_s64_s32(acc[n]);
                let y = vreinterpretq_s64_s32(acc[n + 1]);
                let at = (row + 2 * p) * NR + 2 * n;
                vst1q_s32(args.c.add(at), vreinterpretq_s32_s64(vzip1q_s64(x, y)));
                if 2 * p + 1 < R {
                    vst1q_s32(args.c.add(at + NR), vreinterpretq_s32_s64(vzip2q_s64(x, y)));
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
