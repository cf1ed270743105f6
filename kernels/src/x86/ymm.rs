//! The 6 × 16 register tile on 256-bit registers, for every instruction that takes a dot product of
//! four codes and four weights per lane:
//!
//! ```text
//!                ymm12 (8 channels × 4 inputs)   ymm13
//!   row 0 ymm14  ymm0                            ymm1
//!   ...   (4 codes, broadcast)                          ymm15: product, if the step has one
//!   row 5 ymm14  ymm10                           ymm11
//! ```

use core::arch::{asm, x86_64::*};

use crate::leaf::MicroArgs;

/// Rows of the tallest tile.
pub(super) const MR: usize = 6;
/// Output channels of a panel.
pub(super) const NR: usize = 16;

/// A register tile: computes rows `row..row + R` for its number of rows `R`.
pub(super) type TileFn = unsafe fn(&MicroArgs, usize);

/// Pointers to the `R` rows of codes of a tile. LLVM does not learn how they hang together: it would
/// compute each from the one before in every step, with additions on the ports of the dot products.
///
/// # Safety
///
/// `row + R ≤ m`.
#[inline(always)]
pub(super) unsafe fn rows<const R: usize>(args: &MicroArgs, row: usize) -> [*const u8; R] {
    core::array::from_fn(|r| {
        // SAFETY: the caller promises the rows.
        let mut pointer = unsafe { args.a.add((row + r) * args.a_stride) };
        // SAFETY: no instruction.
        unsafe {
            asm!("/* {0} */", inout(reg) pointer, options(pure, readonly, nostack, preserves_flags))
        };
        pointer
    })
}

/// One step of a tile: `acc + Σ_4 codes · weights` in each 32-bit lane.
pub(super) trait Dot {
    /// # Safety
    ///
    /// The CPU has the implementor's instructions.
    unsafe fn dot(acc: __m256i, codes: __m256i, weights: __m256i) -> __m256i;
}

/// Covers all rows with the tallest tiles and a shorter last one; `tiles[r - 1]` has `r` rows.
///
/// # Safety
///
/// The CPU has what the tiles need and `args` keeps their promises.
pub(super) unsafe fn for_each_tile(args: &MicroArgs, tiles: &[TileFn; MR]) {
    let mut row = 0;
    while row < args.m {
        let rows = MR.min(args.m - row);
        // SAFETY: passed on, and `row + rows ≤ m`.
        unsafe { tiles[rows - 1](args, row) };
        row += rows;
    }
}

/// Rows `row..row + R`, all 16 channels, with `S` sets of accumulators that take turns over `k`:
/// short tiles need them to cover the latency of the dot product.
///
/// `#[inline(always)]`, so that it takes on the instruction set of the leaf that calls it.
///
/// # Safety
///
/// The CPU has AVX2 and what `D` needs; `args` keeps the promises of [`MicroArgs`] for `NR = 16`,
/// `KR = 4`; `row + R ≤ m`.
#[inline(always)]
pub(super) unsafe fn tile<D: Dot, const R: usize, const S: usize>(args: &MicroArgs, row: usize) {
    // SAFETY: `row + R ≤ m` rows of codes exist; `b` advances by whole groups to the panel's end;
    // `k` is a multiple of 64 and so of `4 · S`; `c` is aligned and holds `m · NR` values.
    unsafe {
        let mut acc = [[[_mm256_setzero_si256(); 2]; R]; S];
        let rows = rows::<R>(args, row);
        let mut b = args.b;
        for k in (0..args.k).step_by(4 * S) {
            for (s, acc) in acc.iter_mut().enumerate() {
                let b0 = _mm256_load_si256(b.cast());
                let b1 = _mm256_load_si256(b.add(32).cast());
                b = b.add(NR * 4);
                for (acc, row) in acc.iter_mut().zip(rows) {
                    let codes = row.add(k + 4 * s).cast::<i32>().read_unaligned();
                    let codes = _mm256_set1_epi32(codes);
                    acc[0] = D::dot(acc[0], codes, b0);
                    acc[1] = D::dot(acc[1], codes, b1);
                }
            }
        }
        for r in 0..R {
            let mut sums = acc[0][r];
            for acc in &acc[1..] {
                sums[0] = _mm256_add_epi32(sums[0], acc[r][0]);
                sums[1] = _mm256_add_epi32(sums[1], acc[r][1]);
            }
            store(args, row + r, sums, false);
        }
    }
}

/// Stores or adds one row of 16 accumulators.
///
/// # Safety
///
/// The CPU has AVX2 and `c` holds row `row`.
#[inline(always)]
pub(super) unsafe fn store(args: &MicroArgs, row: usize, acc: [__m256i; 2], accumulate: bool) {
    // SAFETY: the caller promises the row; `c` is aligned and rows are 64 bytes.
    unsafe {
        let c = args.c.add(row * NR).cast::<__m256i>();
        for (half, mut v) in acc.into_iter().enumerate() {
            if accumulate {
                v = _mm256_add_epi32(v, _mm256_load_si256(c.add(half)));
            }
            _mm256_store_si256(c.add(half), v);
        }
    }
}
