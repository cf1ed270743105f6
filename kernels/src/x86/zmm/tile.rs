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
use core::array;

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
    let stride = args.a_stride;
    let mut acc = [[[_mm512_setzero_si512(); W]; R]; S];
    let mut b = args.b;
    let ahead = match NR * args.k {
        panel if panel <= PREFETCHED => panel,
        _ => 0,
    };
    // SAFETY: `row + R ≤ m` rows of codes exist; `b` advances by whole groups to the panel's end;
    // `k` is a multiple of 64 and so of `4 · S`.
    unsafe {
        let mut a = args.a.add(row * stride);
        let end = a.add(args.inputs.next_multiple_of(4 * S));
        while a < end {
            for acc in &mut acc {
                let weights: [__m512i; W] =
                    array::from_fn(|half| _mm512_load_si512(b.add(64 * half).cast()));
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
