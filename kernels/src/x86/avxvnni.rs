//! AVX-VNNI: `vpdpbusd` in its VEX encoding, on ymm. Alder Lake and later client parts have it
//! without AVX-512. Prologues and epilogues are those of AVX2.
//!
//! A step of 4 inputs is 12 `vpdpbusd` (6 cycles on two ports) and 8 loads (4 cycles at worst).

use core::arch::x86_64::*;

use super::tiles::TileFn;
use super::ymm::sink::{MR, Sink};
use super::ymm::strassen::Tile;
use super::ymm::tile::{self as ymm, Dot, Tiles};
use crate::leaf::{Accumulators, BlockArgs, MicroArgs};
use crate::strassen::{self, Bias, Leaf, MAX_CODE, TilesArgs, TilesFn};

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
    // SAFETY: the tiles need AVX-VNNI and `MicroArgs` for this panel, as the caller promises.
    unsafe { ymm::micro::<Vnni>(args) }
}

/// Block leaf of [`micro`].
///
/// # Safety
///
/// The CPU has the features below and `args` keeps the promises of [`BlockArgs`] for the row of
/// [`micro`].
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
pub(super) unsafe fn block(args: &BlockArgs) {
    // SAFETY: the tiles need AVX-VNNI and `BlockArgs` for this panel, as the caller promises.
    unsafe { ymm::block::<Vnni>(args) }
}

/// Block leaf of [`micro`] for operands of six bits, by Strassen's algorithm.
///
/// # Safety
///
/// The CPU has the features below and `args` keeps the promises of [`BlockArgs`] for the row of this leaf.
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
pub(super) unsafe fn block_u6s6(args: &BlockArgs) {
    const TILES: [TilesFn<Accumulators>; MR] = [
        four_tiles::<1>,
        four_tiles::<2>,
        four_tiles::<3>,
        four_tiles::<4>,
        four_tiles::<5>,
        four_tiles::<6>,
    ];
    // SAFETY: the tiles need AVX-VNNI and `BlockArgs`, as the caller promises.
    unsafe { strassen::block(args, &Leaf::in_steps(block, &TILES, BIAS)) }
}

/// `vpdpbusd` reads codes as unsigned bytes.
pub(super) const BIAS: Bias = Bias(MAX_CODE);

/// # Safety
///
/// The CPU has the features below; `args` and `outputs` keep the promises of [`strassen::tiles`] for tiles of
/// `R` rows, `NR = 16`, `KR = 4`.
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
unsafe fn four_tiles<const R: usize>(args: &TilesArgs<'_>, outputs: &[Accumulators; 4]) {
    // SAFETY: the caller promises operands and outputs; the function has the features.
    unsafe { strassen::tiles::<Tile<Vnni, R>, Accumulators>(args, outputs) }
}

impl Tiles for Vnni {
    fn tiles<K: Sink>() -> [TileFn<K>; MR] {
        [
            tile::<K, 1, 4>,
            tile::<K, 2, 2>,
            tile::<K, 3, 2>,
            tile::<K, 4, 1>,
            tile::<K, 5, 1>,
            tile::<K, 6, 1>,
        ]
    }
}

/// # Safety
///
/// As [`micro`], but for `c`; `row + R ≤ m`, and `sink` takes these rows.
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
unsafe fn tile<K: Sink, const R: usize, const S: usize>(args: &MicroArgs, row: usize, sink: &K) {
    // SAFETY: `Vnni` needs AVX-VNNI, which is enabled; the caller promises operands, rows and sink.
    unsafe { ymm::tile::<Vnni, K, R, S>(args, row, sink) }
}
