//! The register tile on 512-bit registers, 12 × 32 (of the 32 registers, 27 are used):
//!
//! ```text
//!                 zmm25 (16 channels × 4 inputs)   zmm26
//!   row 0  zmm24  zmm0                             zmm1
//!   row 1  zmm24  zmm2                             zmm3
//!   ...    (4 codes, broadcast)
//!   row 11 zmm24  zmm22                            zmm23
//! ```
//!
//! A step of 4 inputs is 24 `vpdpbusd` (12 cycles on the two ports that have it) and 14 loads
//! (7 cycles): the dot products are the bound. Latency 5 × 2 ports needs 10 chains; shorter tiles
//! than 5 rows get theirs by splitting `k` over several sets of accumulators.

use core::arch::x86_64::*;

use super::sink::{NR, Sink};
use crate::arch::tiles::TileFn;
use crate::leaf::MicroArgs;

/// Rows of the tallest tile.
pub(in crate::arch) const MR: usize = 12;

/// Bytes of the longest panel of which the next one is prefetched into L2 meanwhile. That takes 1 to 3 % off
/// a layer of 257 rows whose weights come from L3 and 8 to 16 % off one of 4 to 12 rows, and from L2 it is
/// free. Longer panels are streams that the hardware follows by itself: there it lost 1 to 4 % on two
/// threads, as it did for one or two rows.
const PREFETCHED: usize = 32 << 10;

/// `tiles()[r - 1]` computes `r` rows.
pub(in crate::arch) const fn tiles<K: Sink>() -> [TileFn<K>; MR] {
    [
        tile::<K, 1, 8, 2>,
        tile::<K, 2, 4, 2>,
        tile::<K, 3, 2, 2>,
        tile::<K, 4, 2, 2>,
        tile::<K, 5, 1, 2>,
        tile::<K, 6, 1, 2>,
        tile::<K, 7, 1, 2>,
        tile::<K, 8, 1, 2>,
        tile::<K, 9, 1, 2>,
        tile::<K, 10, 1, 2>,
        tile::<K, 11, 1, 2>,
        tile::<K, 12, 1, 2>,
    ]
}

/// [`tiles`] of the first 16 channels alone, for a last panel in which there are no more: half the products.
/// The accumulators of the others are given as 0.
pub(in crate::arch) const fn narrow_tiles<K: Sink>() -> [TileFn<K>; MR] {
    [
        tile::<K, 1, 8, 1>,
        tile::<K, 2, 4, 1>,
        tile::<K, 3, 4, 1>,
        tile::<K, 4, 2, 1>,
        tile::<K, 5, 2, 1>,
        tile::<K, 6, 2, 1>,
        tile::<K, 7, 2, 1>,
        tile::<K, 8, 1, 1>,
        tile::<K, 9, 1, 1>,
        tile::<K, 10, 1, 1>,
        tile::<K, 11, 1, 1>,
        tile::<K, 12, 1, 1>,
    ]
}

/// Rows `row..row + R`, the first `16 · W` channels, with `S` sets of accumulators that take turns over the
/// inputs.
///
/// # Safety
///
/// The CPU has the features below; `args` keeps the promises of [`MicroArgs`] for `NR = 32`, `KR = 4`,
/// but for `c`; `row + R ≤ m`, and `sink` takes these rows.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn tile<K: Sink, const R: usize, const S: usize, const W: usize>(
    args: &MicroArgs,
    row: usize,
    sink: &K,
) {
    let mut acc = [[[_mm512_setzero_si512(); W]; R]; S];
    let ahead = match NR * args.k {
        panel if panel <= PREFETCHED => panel,
        _ => 0,
    };
    // SAFETY: `row + R ≤ m` rows of codes exist; `k` is a multiple of 64 and so of `4 · S`.
    unsafe {
        let a = args.a.add(row * args.a_stride);
        let inputs = args.inputs.next_multiple_of(4 * S);
        multiply(&mut acc, a, args.a_stride, args.b, inputs, ahead);
        for r in 0..R {
            let mut sums = [_mm512_setzero_si512(); 2];
            sums[..W].copy_from_slice(&acc[0][r]);
            for acc in &acc[1..] {
                for (sum, acc) in sums.iter_mut().zip(acc[r]) {
                    *sum = _mm512_add_epi32(*sum, acc);
                }
            }
            sink.row(row + r, sums);
        }
    }
}

/// Adds the products of `inputs` inputs, a multiple of `4 · S`: codes from `a` on, in rows that begin
/// `stride` bytes apart, and the weights at `b`. Those `ahead` bytes behind these are prefetched.
/// `#[inline(always)]`, so that it takes on the instruction set of its caller and the accumulators stay in
/// registers around it.
///
/// # Safety
///
/// The CPU has AVX-512 with VNNI; codes and weights exist, and `b` is aligned to 64 bytes.
#[inline(always)]
pub(super) unsafe fn multiply<const R: usize, const S: usize, const W: usize>(
    acc: &mut [[[__m512i; W]; R]; S],
    mut a: *const u8,
    stride: usize,
    mut b: *const i8,
    inputs: usize,
    ahead: usize,
) {
    // SAFETY: the caller promises the codes and the weights.
    unsafe {
        let end = a.add(inputs);
        while a < end {
            for acc in acc.iter_mut() {
                let mut weights = [_mm512_setzero_si512(); W];
                for (half, weights) in weights.iter_mut().enumerate() {
                    *weights = _mm512_load_si512(b.add(64 * half).cast());
                }
                if S <= 2 {
                    // Addresses that are not there do no harm.
                    _mm_prefetch::<_MM_HINT_T1>(b.wrapping_add(ahead));
                    _mm_prefetch::<_MM_HINT_T1>(b.wrapping_add(ahead + 64));
                }
                b = b.add(NR * 4);
                for (r, acc) in acc.iter_mut().enumerate() {
                    let codes = a.add(r * stride).cast::<i32>().read_unaligned();
                    let codes = _mm512_set1_epi32(codes);
                    for (acc, weights) in acc.iter_mut().zip(weights) {
                        *acc = _mm512_dpbusd_epi32(*acc, codes, weights);
                    }
                }
                a = a.add(4);
            }
        }
    }
}
