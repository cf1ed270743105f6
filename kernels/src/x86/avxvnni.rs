//! AVX-VNNI: `vpdpbusd` in its VEX encoding, on ymm. Alder Lake and later client parts have it
//! without AVX-512. Prologues and epilogues are those of AVX2.
//!
//! A step of 4 inputs is 12 `vpdpbusd` (6 cycles on two ports) and 8 loads (4 cycles at worst).

use core::arch::x86_64::*;

use super::ymm::{self, Dot, MR, TileFn};
use crate::leaf::MicroArgs;

struct Vnni;

impl Dot for Vnni {
    #[inline(always)]
    unsafe fn dot(acc: __m256i, codes: __m256i, weights: __m256i) -> __m256i {
        // SAFETY: the caller has AVX-VNNI.
        unsafe { _mm256_dpbusd_avx_epi32(acc, codes, weights) }
    }
}

/// Micro-kernel for any 8-bit operands, exact by nature of `vpdpbusd` (no saturating step).
///
/// # Safety
///
/// The CPU has the features below and `args` keeps the promises of [`MicroArgs`] for `NR = 16`,
/// `KR = 4`.
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
pub(super) unsafe fn micro(args: &MicroArgs) {
    const TILES: [TileFn; MR] = [
        tile::<1, 4>,
        tile::<2, 2>,
        tile::<3, 2>,
        tile::<4, 1>,
        tile::<5, 1>,
        tile::<6, 1>,
    ];
    // SAFETY: passed on.
    unsafe { ymm::for_each_tile(args, &TILES) }
}

/// # Safety
///
/// As [`micro`], and `row + R ≤ m`.
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
unsafe fn tile<const R: usize, const S: usize>(args: &MicroArgs, row: usize) {
    // SAFETY: passed on.
    unsafe { ymm::tile::<Vnni, R, S>(args, row) }
}
