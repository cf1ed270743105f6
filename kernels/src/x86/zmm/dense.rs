//! The register tile on 512-bit registers for dense panels, 12 × 32: weights of six or four bits become bytes
//! on the way from memory to the products.
//!
//! ```text
//!                    16 channels   the other 16 channels
//!   row 0   4 codes  16 × i32      16 × i32
//!   ...
//!   row 11  4 codes  16 × i32      16 × i32
//! ```
//!
//! A step of 8 inputs takes three vectors of weights, or two, and makes four of them in 9 operations, or 6;
//! with `R` rows it has `4 · R` dot products. On Zen 4 most of these operations run beside the products, on
//! ports that have none. Products come out as 4 or 16 times those of the weights, and are divided once at the
//! end; such weights fit a byte as 8-bit weights do, so that sums are as exact.

use core::arch::x86_64::*;

use super::sink::Sink;
use super::tile::MR;
use crate::arch::tiles::TileFn;
use crate::leaf::MicroArgs;

/// Inputs of a step: two groups, whose quarters are vectors.
const STEP: usize = 8;

/// A dense form of weights, `[N/32][K/8][runs][64]` as drawn in [`layout`](crate::layout).
pub(in crate::arch) trait Dense {
    /// Vectors of a step.
    const RUNS: usize;

    /// The four quarters of the weights at `b`, times what a byte has room for.
    ///
    /// # Safety
    ///
    /// The CPU has AVX-512 F and BW; the runs exist, aligned to 64 bytes.
    unsafe fn quarters(b: *const i8) -> [__m512i; 4];

    /// Sums of such weights' products divided by it, which leaves no remainder.
    ///
    /// # Safety
    ///
    /// The CPU has AVX-512 F.
    unsafe fn divided(sums: __m512i) -> __m512i;
}

/// Six bits a weight.
pub(in crate::arch) struct Six;

/// Four bits a weight.
pub(in crate::arch) struct Four;

impl Dense for Six {
    const RUNS: usize = 3;

    #[inline(always)]
    unsafe fn quarters(b: *const i8) -> [__m512i; 4] {
        // SAFETY: the caller promises features and runs.
        unsafe {
            let x0 = _mm512_load_si512(b.cast());
            let x1 = _mm512_load_si512(b.add(64).cast());
            let x2 = _mm512_load_si512(b.add(128).cast());
            let own = _mm512_set1_epi8(!3);
            // What a shift of 16 bits brings over from the byte below is masked.
            let w3 = _mm512_and_si512(_mm512_slli_epi16::<6>(x0), _mm512_set1_epi8(-64));
            let w3 = or_masked(w3, _mm512_slli_epi16::<4>(x1), _mm512_set1_epi8(0x30));
            let w3 = or_masked(w3, _mm512_slli_epi16::<2>(x2), _mm512_set1_epi8(0x0c));
            [
                _mm512_and_si512(x0, own),
                _mm512_and_si512(x1, own),
                _mm512_and_si512(x2, own),
                w3,
            ]
        }
    }

    #[inline(always)]
    unsafe fn divided(sums: __m512i) -> __m512i {
        // SAFETY: the caller promises AVX-512 F.
        unsafe { _mm512_srai_epi32::<2>(sums) }
    }
}

impl Dense for Four {
    const RUNS: usize = 2;

    #[inline(always)]
    unsafe fn quarters(b: *const i8) -> [__m512i; 4] {
        // SAFETY: the caller promises features and runs.
        unsafe {
            let x0 = _mm512_load_si512(b.cast());
            let x1 = _mm512_load_si512(b.add(64).cast());
            let upper = _mm512_set1_epi8(!15);
            [
                _mm512_and_si512(_mm512_slli_epi16::<4>(x0), upper),
                _mm512_and_si512(x0, upper),
                _mm512_and_si512(_mm512_slli_epi16::<4>(x1), upper),
                _mm512_and_si512(x1, upper),
            ]
        }
    }

    #[inline(always)]
    unsafe fn divided(sums: __m512i) -> __m512i {
        // SAFETY: the caller promises AVX-512 F.
        unsafe { _mm512_srai_epi32::<4>(sums) }
    }
}

/// `a | b & mask`.
///
/// # Safety
///
/// The CPU has AVX-512 F.
#[inline(always)]
unsafe fn or_masked(a: __m512i, b: __m512i, mask: __m512i) -> __m512i {
    // SAFETY: the caller promises AVX-512 F.
    unsafe { _mm512_ternarylogic_epi32::<0xf8>(a, b, mask) }
}

/// `tiles()[r - 1]` computes `r` rows.
pub(in crate::arch) const fn tiles<D: Dense, K: Sink>() -> [TileFn<K>; MR] {
    [
        tile::<D, K, 1, 4>,
        tile::<D, K, 2, 2>,
        tile::<D, K, 3, 2>,
        tile::<D, K, 4, 2>,
        tile::<D, K, 5, 1>,
        tile::<D, K, 6, 1>,
        tile::<D, K, 7, 1>,
        tile::<D, K, 8, 1>,
        tile::<D, K, 9, 1>,
        tile::<D, K, 10, 1>,
        tile::<D, K, 11, 1>,
        tile::<D, K, 12, 1>,
    ]
}

/// Rows `row..row + R`, with `S` sets of accumulators that take turns over the inputs.
///
/// # Safety
///
/// The CPU has the features below; `args` keeps the promises of [`MicroArgs`] for dense panels of `D`, with
/// `NR = 32`, `KR = 4`, but for `c`; `row + R ≤ m`, and `sink` takes these rows.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn tile<D: Dense, K: Sink, const R: usize, const S: usize>(
    args: &MicroArgs,
    row: usize,
    sink: &K,
) {
    let mut acc = [[[_mm512_setzero_si512(); 2]; R]; S];
    let steps = const { S.div_ceil(2) };
    // SAFETY: `row + R ≤ m` rows of codes exist; `k` is a multiple of 64 and so of the inputs of the steps.
    unsafe {
        let (mut a, mut b) = (args.a.add(row * args.a_stride), args.b);
        let end = a.add(args.inputs.next_multiple_of(STEP * steps));
        while a < end {
            for step in 0..steps {
                if R > 1 {
                    for run in 0..D::RUNS {
                        // Addresses that are not there do no harm.
                        _mm_prefetch::<_MM_HINT_T1>(b.wrapping_add(AHEAD + 64 * run));
                    }
                }
                let weights = D::quarters(b);
                b = b.add(64 * D::RUNS);
                for group in 0..2 {
                    let acc = &mut acc[(2 * step + group) % S];
                    for (r, acc) in acc.iter_mut().enumerate() {
                        let codes = a.add(r * args.a_stride + 4 * group);
                        let codes = _mm512_set1_epi32(codes.cast::<i32>().read_unaligned());
                        acc[0] = _mm512_dpbusd_epi32(acc[0], codes, weights[2 * group]);
                        acc[1] = _mm512_dpbusd_epi32(acc[1], codes, weights[2 * group + 1]);
                    }
                }
                a = a.add(STEP);
            }
        }
        for r in 0..R {
            let mut sums = acc[0][r];
            for acc in &acc[1..] {
                sums[0] = _mm512_add_epi32(sums[0], acc[r][0]);
                sums[1] = _mm512_add_epi32(sums[1], acc[r][1]);
            }
            sink.row(row + r, [D::divided(sums[0]), D::divided(sums[1])]);
        }
    }
}

/// How far ahead weights are fetched into L2, in bytes. With one row, the hardware does as well by itself:
/// docs/kernels.md has what other distances gave.
const AHEAD: usize = 6 << 10;

/// Bytes of a panel of `k` inputs, as padded.
pub(in crate::arch) const fn panel_bytes<D: Dense>(k: usize) -> usize {
    k / STEP * 64 * D::RUNS
}
