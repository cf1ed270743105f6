//! Plain NEON (ARMv8.0): exact int8 by `smull` and `smlal2`, and int6 with half the multiplications.
//!
//! Both read codes as signed bytes (`code_offset`), so that they stand beside the weights in a
//! signed multiplication, and both keep the lanes of a register for consecutive inputs: an
//! accumulator belongs to one row and one channel, and its four lanes are added up at the end.

use core::arch::aarch64::*;
use core::arch::asm;

use super::tiles::{self, TileFn, add_lanes};
use crate::leaf::MicroArgs;

/// Channels whose accumulators are in registers at a time.
const QUAD: usize = 4;

/// Exact int8, 4 × 8, a quad of channels at a time:
///
/// ```text
///                  v20: channel 0, inputs 0..16   channel 1   channel 2   channel 3
///   row 0  v16     v0                             v1          v2          v3
///   ...    (16 inputs)
///   row 3  v19     v12                            v13         v14         v15
/// ```
///
/// Codes are `u − 128`, so a product is at most `128 · 127` and *two* fit an i16
/// (`2 · 16 256 = 32 512`): per accumulator, `smull` takes the lower 8 inputs, `smlal2` adds the
/// upper 8, `sadalp` adds pairs of the sums to the i32 lanes. 16 MACs in two multiplications, which
/// are the bound (most cores multiply on half of their SIMD pipes and can do the rest on the other),
/// so no sequence that multiplies byte by byte can be faster.
///
/// # Safety
///
/// The CPU has NEON and `args` keeps the promises of [`MicroArgs`] for `NR = 8`, `KR = 16`.
#[target_feature(enable = "neon")]
pub(super) unsafe fn micro_u8s8(args: &MicroArgs) {
    const TILES: [TileFn; 4] = [
        tile_u8s8::<1>,
        tile_u8s8::<2>,
        tile_u8s8::<3>,
        tile_u8s8::<4>,
    ];
    // SAFETY: the tiles need NEON and `MicroArgs` for this panel, as the caller promises.
    unsafe { tiles::for_each_tile(args, &TILES) }
}

/// # Safety
///
/// As [`micro_u8s8`], and `row + R ≤ m`.
#[target_feature(enable = "neon")]
unsafe fn tile_u8s8<const R: usize>(args: &MicroArgs, row: usize) {
    const NR: usize = 8;
    const KR: usize = 16;
    let stride = args.a_stride;
    for quad in (0..NR).step_by(QUAD) {
        let mut acc = [[vdupq_n_s32(0); QUAD]; R];
        // SAFETY: `row + R ≤ m` rows of `k` codes and `k / 16` groups of 8 · 16 weights exist, `k`
        // is a multiple of 16; `c` holds `m · NR` values.
        unsafe {
            let mut a = args.a.add(row * stride).cast::<i8>();
            let mut b = args.b.add(quad * KR);
            let end = a.add(args.inputs.next_multiple_of(KR));
            while a < end {
                let mut codes = [vdupq_n_s8(0); R];
                for (r, codes) in codes.iter_mut().enumerate() {
                    *codes = vld1q_s8(a.add(r * stride));
                }
                for n in 0..QUAD {
                    let weights = vld1q_s8(b.add(n * KR));
                    for (acc, codes) in acc.iter_mut().zip(codes) {
                        let low = vmull_s8(vget_low_s8(codes), vget_low_s8(weights));
                        let both = vmlal_high_s8(low, codes, weights);
                        acc[n] = vpadalq_s16(acc[n], both);
                    }
                }
                a = a.add(KR);
                b = b.add(NR * KR);
            }
            for (r, acc) in acc.into_iter().enumerate() {
                vst1q_s32(args.c.add((row + r) * NR + quad), add_lanes(acc));
            }
        }
    }
}

/// Output channels of an int6 panel.
const NR6: usize = 16;
/// Inputs of an int6 group: a pair of runs of 16.
const KR6: usize = 32;

/// int6, 2 × 16, a quad of channels at a time, by Winograd's inner product (1968): with the inputs
/// in pairs `(p, q)`, here 16 apart,
///
/// ```text
///   u_p w_p + u_q w_q = (u_p + w_q) · (u_q + w_p) − u_p u_q − w_p w_q
/// ```
///
/// One multiplication does two MACs; the additions are bytes, sixteen to an instruction, on pipes
/// that cannot multiply. `Σ u_p u_q` belongs to a row and `Σ w_p w_q` to a channel; they are summed
/// apart (see [`pair_products`]), once per row for 16 channels, and once per channel for all rows.
///
/// Codes are `u − 32` in `−32..=31` and weights in `−31..=31`, so a factor is in `−63..=62`, a
/// product at most `63² = 3969`, and *eight* fit an i16 (`8 · 3969 = 31 752`). (Without the identity
/// it would be `63 · 31 = 1953` and 16.) Per accumulator and 128 inputs: 8 `add`, 8 `smlal` or
/// `smlal2`, 1 `sadalp`, against the 16 multiplications and 8 `sadalp` of int8.
///
/// ```text
///                     v24: w_p   v25: w_q of a channel, reloaded for each
///   row 0  v20, v21   i16 v0..v4    i32 v8..v12      v28, v29: factors
///   row 1  v22, v23   i16 v4..v8    i32 v12..v16
///          u_p, u_q   (of four channels)
/// ```
///
/// # Safety
///
/// The CPU has NEON and `args` keeps the promises of [`MicroArgs`] for `NR = 16`, `KR = 32`.
#[target_feature(enable = "neon")]
pub(super) unsafe fn micro_u6s6(args: &MicroArgs) {
    let mut channels = [vdupq_n_s32(0); NR6 / QUAD];
    // SAFETY: `k / 32` groups of 16 · 32 weights exist; `k` is a multiple of 64.
    unsafe {
        for (quad, sums) in channels.iter_mut().enumerate() {
            let weights = args.b.add(quad * QUAD * KR6);
            *sums = add_lanes(pair_products(weights, KR6, NR6 * KR6, args.k));
        }
    }
    let even = args.m - args.m % 2;
    // SAFETY: the tiles need what the caller promises, and their rows are below `m`.
    unsafe {
        for row in (0..even).step_by(2) {
            tile_u6s6::<2>(args, row, &channels);
        }
        if even < args.m {
            tile_u6s6::<1>(args, even, &channels);
        }
    }
}

/// # Safety
///
/// As [`micro_u6s6`], and `row + R ≤ m`.
#[target_feature(enable = "neon")]
unsafe fn tile_u6s6<const R: usize>(args: &MicroArgs, row: usize, channels: &[int32x4_t; 4]) {
    let stride = args.a_stride;
    // SAFETY: `row + R ≤ m` rows of `k` codes and `k / 32` groups of 16 · 32 weights exist; `k` is
    // a multiple of 64, so what 128 leave over is nothing or 64; `c` holds `m · NR` values.
    unsafe {
        let a = args.a.add(row * stride).cast::<i8>();
        let rows: [int32x4_t; R] = pair_products(a, stride, KR6, args.k);
        for (quad, channels) in channels.iter().enumerate() {
            let b = args.b.add(quad * QUAD * KR6);
            let mut acc = [[vdupq_n_s32(0); QUAD]; R];
            let mut k = 0;
            while k + 128 <= args.k {
                chunk_u6s6::<R, 4>(a.add(k), stride, b.add(k * NR6), &mut acc);
                k += 128;
            }
            if k < args.k {
                chunk_u6s6::<R, 2>(a.add(k), stride, b.add(k * NR6), &mut acc);
            }
            for (r, acc) in acc.into_iter().enumerate() {
                let pairs = vaddq_s32(*channels, vdupq_n_s32(vaddvq_s32(rows[r])));
                let sums = vsubq_s32(add_lanes(acc), pairs);
                vst1q_s32(args.c.add((row + r) * NR6 + quad * QUAD), sums);
            }
        }
    }
}

/// `32 · STEPS` inputs of a quad of channels; `STEPS` is at most 4, so that an i16 gets at most
/// eight products.
///
/// # Safety
///
/// The CPU has NEON; `R` rows of codes, `stride` apart, and `STEPS` groups of weights exist.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn chunk_u6s6<const R: usize, const STEPS: usize>(
    a: *const i8,
    stride: usize,
    b: *const i8,
    acc: &mut [[int32x4_t; QUAD]; R],
) {
    let mut narrow = [[vdupq_n_s16(0); QUAD]; R];
    for step in 0..STEPS {
        let mut codes = [[vdupq_n_s8(0); 2]; R];
        for (r, codes) in codes.iter_mut().enumerate() {
            // SAFETY: the caller promises the codes.
            *codes = unsafe { load_pair(a.add(r * stride + step * KR6)) };
        }
        // Two accumulators at a time: of both rows, or of two channels if there is one row.
        for i in (0..R * QUAD).step_by(2) {
            let [(r, n), (r2, n2)] = [i, i + 1].map(|i| (i % R, i / R));
            // SAFETY: the caller promises the weights.
            let weights = unsafe { [n, n2].map(|n| load_pair(b.add((step * NR6 + n) * KR6))) };
            let factors = ([codes[r], codes[r2]], weights);
            [narrow[r][n], narrow[r2][n2]] = match step {
                0 => add_smull(factors),
                _ => add_smlal([narrow[r][n], narrow[r2][n2]], factors),
            };
        }
    }
    for (acc, narrow) in acc.iter_mut().zip(narrow) {
        for (acc, sums) in acc.iter_mut().zip(narrow) {
            *acc = vpadalq_s16(*acc, sums);
        }
    }
}

/// `[u_p, u_q]` and `[w_p, w_q]` for two accumulators.
type Factors = ([[int8x16_t; 2]; 2], [[int8x16_t; 2]; 2]);

/// `(u_p + w_q) · (u_q + w_p)`, the products of the upper lanes added to those of the lower, for two
/// accumulators. In `asm!`, and without `pure` and `nomem`, for its order alone: left to itself the
/// compiler loads ahead and adds ahead, and then has no registers for the results.
#[target_feature(enable = "neon")]
#[inline]
fn add_smull(([u, u2], [w, w2]): Factors) -> [int16x8_t; 2] {
    let (sum, sum2): (int16x8_t, int16x8_t);
    // SAFETY: registers only.
    unsafe {
        asm!(
            "add {x:v}.16b, {u_p:v}.16b, {w_q:v}.16b",
            "add {y:v}.16b, {u_q:v}.16b, {w_p:v}.16b",
            "add {x2:v}.16b, {u2_p:v}.16b, {w2_q:v}.16b",
            "add {y2:v}.16b, {u2_q:v}.16b, {w2_p:v}.16b",
            "smull {sum:v}.8h, {x:v}.8b, {y:v}.8b",
            "smull {sum2:v}.8h, {x2:v}.8b, {y2:v}.8b",
            "smlal2 {sum:v}.8h, {x:v}.16b, {y:v}.16b",
            "smlal2 {sum2:v}.8h, {x2:v}.16b, {y2:v}.16b",
            sum = out(vreg) sum, sum2 = out(vreg) sum2,
            u_p = in(vreg) u[0], u_q = in(vreg) u[1], w_p = in(vreg) w[0], w_q = in(vreg) w[1],
            u2_p = in(vreg) u2[0], u2_q = in(vreg) u2[1],
            w2_p = in(vreg) w2[0], w2_q = in(vreg) w2[1],
            x = out(vreg) _, y = out(vreg) _, x2 = out(vreg) _, y2 = out(vreg) _,
            options(nostack, preserves_flags),
        );
    }
    [sum, sum2]
}

/// [`add_smull`], added to `sums`.
#[target_feature(enable = "neon")]
#[inline]
fn add_smlal([mut sum, mut sum2]: [int16x8_t; 2], ([u, u2], [w, w2]): Factors) -> [int16x8_t; 2] {
    // SAFETY: registers only.
    unsafe {
        asm!(
            "add {x:v}.16b, {u_p:v}.16b, {w_q:v}.16b",
            "add {y:v}.16b, {u_q:v}.16b, {w_p:v}.16b",
            "add {x2:v}.16b, {u2_p:v}.16b, {w2_q:v}.16b",
            "add {y2:v}.16b, {u2_q:v}.16b, {w2_p:v}.16b",
            "smlal {sum:v}.8h, {x:v}.8b, {y:v}.8b",
            "smlal {sum2:v}.8h, {x2:v}.8b, {y2:v}.8b",
            "smlal2 {sum:v}.8h, {x:v}.16b, {y:v}.16b",
            "smlal2 {sum2:v}.8h, {x2:v}.16b, {y2:v}.16b",
            sum = inout(vreg) sum, sum2 = inout(vreg) sum2,
            u_p = in(vreg) u[0], u_q = in(vreg) u[1], w_p = in(vreg) w[0], w_q = in(vreg) w[1],
            u2_p = in(vreg) u2[0], u2_q = in(vreg) u2[1],
            w2_p = in(vreg) w2[0], w2_q = in(vreg) w2[1],
            x = out(vreg) _, y = out(vreg) _, x2 = out(vreg) _, y2 = out(vreg) _,
            options(nostack, preserves_flags),
        );
    }
    [sum, sum2]
}

/// `Σ x_p · x_q` over the pairs of each of `N` rows of codes or channels of weights, in four partial
/// sums. They are `stride` bytes apart, and each one's groups of 32 inputs `group` bytes.
///
/// # Safety
///
/// The CPU has NEON; each of the `N` has `k` inputs, a multiple of 64.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn pair_products<const N: usize>(
    base: *const i8,
    stride: usize,
    group: usize,
    k: usize,
) -> [int32x4_t; N] {
    let mut acc = [vdupq_n_s32(0); N];
    for at in (0..k / KR6).step_by(2) {
        for (n, acc) in acc.iter_mut().enumerate() {
            // SAFETY: the caller promises `k / 32` groups, an even number.
            let [[p0, q0], [p1, q1]] = unsafe {
                let x = base.add(n * stride + at * group);
                [load_pair(x), load_pair(x.add(group))]
            };
            // Four products of at most 32 · 32 fit an i16.
            let sums = multiply(vdupq_n_s16(0), p0, q0, true);
            *acc = vpadalq_s16(*acc, multiply(sums, p1, q1, false));
        }
    }
    acc
}

/// Adds the products of 16 bytes to eight i16 lanes, two to each; `first` starts from zero.
#[target_feature(enable = "neon")]
#[inline]
fn multiply(sums: int16x8_t, x: int8x16_t, y: int8x16_t, first: bool) -> int16x8_t {
    let low = match first {
        true => vmull_s8(vget_low_s8(x), vget_low_s8(y)),
        false => vmlal_s8(sums, vget_low_s8(x), vget_low_s8(y)),
    };
    vmlal_high_s8(low, x, y)
}

/// The two runs of 16 that make up a group of 32 inputs.
///
/// # Safety
///
/// The CPU has NEON; 32 bytes are readable.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn load_pair(x: *const i8) -> [int8x16_t; 2] {
    // SAFETY: the caller promises 32 bytes.
    unsafe { [vld1q_s8(x), vld1q_s8(x.add(16))] }
}
