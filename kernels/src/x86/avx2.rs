//! AVX2: exact int8 by `vpmaddwd` on widened codes, int7 by `vpmaddubsw`, int6 by `vpmaddubsw` with
//! i16 accumulation. All register tiles are 6 × 16 as drawn in [`tile`]; with 16 registers nothing is
//! left over.

use core::arch::{asm, x86_64::*};

use super::tiles::{TileFn, for_each_tile};
use super::ymm::sink::{MR, NR, Sink};
use super::ymm::tile::{self, Dot, Tiles};
use crate::leaf::{Accumulators, BlockArgs, MicroArgs, WidenArgs};

/// Exact int8. `vpmaddubsw` would saturate (`2 · 255 · 127 > 32 767`), so codes are 16 bits wide
/// (see [`widen`]) and weights are widened as they are loaded: a step of 2 inputs is 12 `vpmaddwd`,
/// 12 `vpaddd` and 2 `vpmovsxbw`.
///
/// # Safety
///
/// The CPU has the features below and `args` keeps the promises of [`MicroArgs`] for `NR = 16`,
/// `KR = 2` and 16-bit codes.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn micro_u8s8(args: &MicroArgs) {
    // SAFETY: the tiles need AVX2 and `MicroArgs` for 16-bit codes, as the caller promises.
    unsafe { tile::micro::<Exact<Narrow>>(args) }
}

/// Blocks of exact int8. A panel that serves several tiles is widened once, in working memory, and the
/// steps of the tiles are rid of `vpmovsxbw`.
///
/// # Safety
///
/// The CPU has the features below and `args` keeps the promises of [`BlockArgs`] for the row of
/// [`micro_u8s8`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn block_u8s8(args: &BlockArgs) {
    let (weights, k, wide) = (args.first.b, args.first.k, args.room.cast::<i16>());
    for panel in 0..args.panels {
        // SAFETY: the panel exists, aligned and a multiple of 64 long; `wide` has room for it and
        // is aligned, too.
        unsafe {
            let weights = weights.add(panel * NR * k);
            if args.first.m < WORTH_WIDENING {
                tile::finish_panel::<Exact<Narrow>>(args, panel, weights);
                continue;
            }
            for i in (0..NR * k).step_by(16) {
                let narrow = _mm_load_si128(weights.add(i).cast());
                _mm256_store_si256(wide.add(i).cast(), _mm256_cvtepi8_epi16(narrow));
            }
            tile::finish_panel::<Exact<Wide>>(args, panel, wide.cast());
        }
    }
}

/// Rows from which on a panel is widened: with two tiles it costs what it saves.
const WORTH_WIDENING: usize = 2 * MR + 1;

/// Tiles of exact int8 with weights as `W` has them.
struct Exact<W>(W);

/// The weights of exact int8 as they lie in a panel.
trait Weights {
    /// Bytes of one weight.
    const SIZE: usize;

    /// Loads 16 channels of 2 inputs as 16-bit numbers.
    ///
    /// # Safety
    ///
    /// The CPU has AVX2; 32 weights are readable, and aligned to half their bytes.
    unsafe fn load(b: *const i8) -> [__m256i; 2];
}

struct Narrow;
struct Wide;

impl Weights for Narrow {
    const SIZE: usize = 1;
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn load(b: *const i8) -> [__m256i; 2] {
        // SAFETY: the caller promises 32 weights.
        [0, 16].map(|at| unsafe { _mm256_cvtepi8_epi16(_mm_load_si128(b.add(at).cast())) })
    }
}

impl Weights for Wide {
    const SIZE: usize = 2;
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn load(b: *const i8) -> [__m256i; 2] {
        // SAFETY: the caller promises 32 weights.
        [0, 32].map(|at| unsafe { _mm256_load_si256(b.add(at).cast()) })
    }
}

impl<W: Weights> Tiles for Exact<W> {
    fn tiles<K: Sink>() -> [TileFn<K>; MR] {
        [
            tile_u8s8::<W, K, 1>,
            tile_u8s8::<W, K, 2>,
            tile_u8s8::<W, K, 3>,
            tile_u8s8::<W, K, 4>,
            tile_u8s8::<W, K, 5>,
            tile_u8s8::<W, K, 6>,
        ]
    }
}

/// # Safety
///
/// As [`micro_u8s8`] with weights as `W` has them, but for `c`; `row + R ≤ m`, and `sink` takes these
/// rows.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile_u8s8<W: Weights, K: Sink, const R: usize>(args: &MicroArgs, row: usize, sink: &K) {
    let mut acc = [[_mm256_setzero_si256(); 2]; R];
    // SAFETY: `row + R ≤ m` rows of `k` 16-bit codes and `k / 2` groups of 32 weights exist.
    unsafe {
        let rows = tile::rows::<R>(args.a.add(row * args.a_stride), args.a_stride);
        let mut b = args.b;
        for k in (0..2 * args.inputs).step_by(4) {
            let [b0, b1] = W::load(b);
            b = b.add(2 * NR * W::SIZE);
            for (acc, row) in acc.iter_mut().zip(rows) {
                let codes = row.add(k).cast::<i32>().read_unaligned();
                let codes = _mm256_set1_epi32(codes);
                acc[0] = _mm256_add_epi32(acc[0], _mm256_madd_epi16(codes, b0));
                acc[1] = _mm256_add_epi32(acc[1], _mm256_madd_epi16(codes, b1));
            }
        }
        for (r, acc) in acc.iter().enumerate() {
            sink.row(row + r, *acc);
        }
    }
}

/// `vpmaddubsw`, `vpmaddwd`, `vpaddd`: four products a lane, exact while a pair of them fits i16. The
/// ones of `vpmaddwd` come from L1: the tile leaves no register for them, and LLVM would spill an
/// accumulator instead.
struct Maddubs;

/// Sixteen ones.
#[repr(align(32))]
struct Ones([i16; 16]);
static ONES: Ones = Ones([1; 16]);

impl Dot for Maddubs {
    #[inline(always)]
    unsafe fn dot(acc: __m256i, codes: __m256i, weights: __m256i) -> __m256i {
        // SAFETY: the caller has AVX2.
        unsafe { add_maddubs_i32(acc, codes, weights) }
    }
}

/// The step of [`Maddubs`].
///
/// # Safety
///
/// The CPU has AVX2.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn add_maddubs_i32(mut acc: __m256i, codes: __m256i, weights: __m256i) -> __m256i {
    // SAFETY: `ONES` is as large as a register.
    unsafe {
        asm!(
            "vpmaddubsw {product}, {codes}, {weights}",
            "vpmaddwd {product}, {product}, [{ones}]",
            "vpaddd {acc}, {acc}, {product}",
            acc = inout(ymm_reg) acc,
            codes = in(ymm_reg) codes,
            weights = in(ymm_reg) weights,
            product = out(ymm_reg) _,
            ones = in(reg) ONES.0.as_ptr(),
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    acc
}

/// int7: operands of which at least one has 7 bits or fewer, so that two products fit an i16
/// (`2 · 127 · 127`, `2 · 255 · 63`). A step of 4 inputs is 12 of each of the three instructions.
///
/// # Safety
///
/// The CPU has the features below and `args` keeps the promises of [`MicroArgs`] for `NR = 16`,
/// `KR = 4`.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn micro_u7s8(args: &MicroArgs) {
    // SAFETY: the tiles need AVX2 and `MicroArgs` for this panel, as the caller promises.
    unsafe { tile::micro::<Maddubs>(args) }
}

/// Blocks of int7.
///
/// # Safety
///
/// The CPU has the features below and `args` keeps the promises of [`BlockArgs`] for the row of
/// [`micro_u7s8`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn block_u7s8(args: &BlockArgs) {
    // SAFETY: the tiles need AVX2 and `BlockArgs` for this panel, as the caller promises.
    unsafe { tile::block::<Maddubs>(args) }
}

impl Tiles for Maddubs {
    fn tiles<K: Sink>() -> [TileFn<K>; MR] {
        [
            tile_u7s8::<K, 1>,
            tile_u7s8::<K, 2>,
            tile_u7s8::<K, 3>,
            tile_u7s8::<K, 4>,
            tile_u7s8::<K, 5>,
            tile_u7s8::<K, 6>,
        ]
    }
}

/// # Safety
///
/// As [`micro_u7s8`], but for `c`; `row + R ≤ m`, and `sink` takes these rows.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile_u7s8<K: Sink, const R: usize>(args: &MicroArgs, row: usize, sink: &K) {
    // SAFETY: `Maddubs` needs AVX2, which is enabled; the caller promises operands, rows and sink.
    unsafe { tile::tile::<Maddubs, K, R, 1>(args, row, sink) }
}

/// int6, and any operands whose products are at most 2047: sixteen of them fit an i16, so eight
/// `vpmaddubsw` are summed before `vpmaddwd` widens them. Per 32 inputs and accumulator: 8
/// `vpmaddubsw`, 7 `vpaddw`, 1 `vpmaddwd`, 1 `vpaddd`. The i32 sums stay in `c`, which is in L1;
/// the registers hold the i16 sums.
///
/// # Safety
///
/// The CPU has the features below and `args` keeps the promises of [`MicroArgs`] for `NR = 16`,
/// `KR = 4`.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn micro_u6s6(args: &MicroArgs) {
    const TILES: [TileFn<Accumulators>; MR] = [
        tile_u6s6::<1>,
        tile_u6s6::<2>,
        tile_u6s6::<3>,
        tile_u6s6::<4>,
        tile_u6s6::<5>,
        tile_u6s6::<6>,
    ];
    // SAFETY: the tiles need AVX2 and `MicroArgs` for this panel; `c` has all rows.
    unsafe { for_each_tile(args, &TILES, &Accumulators(args.c)) }
}

/// # Safety
///
/// As [`micro_u6s6`], but for `c`; `row + R ≤ m`, and `sums` takes these rows.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile_u6s6<const R: usize>(args: &MicroArgs, row: usize, sums: &Accumulators) {
    let ones = _mm256_set1_epi16(1);
    let mut accumulate = false;
    // SAFETY: `row + R ≤ m` rows of `k` codes and `k / 4` groups of 64 weights exist, `k` is a
    // multiple of 32.
    unsafe {
        let rows = tile::rows::<R>(args.a.add(row * args.a_stride), args.a_stride);
        let mut b = args.b;
        for k in (0..args.inputs).step_by(32) {
            let mut acc = [[_mm256_setzero_si256(); 2]; R];
            for group in 0..8 {
                let b0 = _mm256_load_si256(b.cast());
                let b1 = _mm256_load_si256(b.add(32).cast());
                b = b.add(NR * 4);
                for (acc, row) in acc.iter_mut().zip(rows) {
                    let codes = row.add(k + 4 * group).cast::<i32>().read_unaligned();
                    let codes = _mm256_set1_epi32(codes);
                    if group == 0 {
                        *acc = [b0, b1].map(|b| _mm256_maddubs_epi16(codes, b));
                    } else {
                        acc[0] = add_maddubs_i16(acc[0], codes, b0);
                        acc[1] = add_maddubs_i16(acc[1], codes, b1);
                    }
                }
            }
            for (r, acc) in acc.iter().enumerate() {
                let acc = acc.map(|v| _mm256_madd_epi16(v, ones));
                sums.store(row + r, acc, accumulate);
            }
            accumulate = true;
        }
    }
}

/// `acc + vpmaddubsw(codes, weights)` in i16. Intrinsics would do, but LLVM reorders their sums, runs
/// out of registers, and spills 58 times in 32 inputs.
///
/// # Safety
///
/// The CPU has AVX2.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn add_maddubs_i16(mut acc: __m256i, codes: __m256i, weights: __m256i) -> __m256i {
    // SAFETY: registers only.
    unsafe {
        asm!(
            "vpmaddubsw {product}, {codes}, {weights}",
            "vpaddw {acc}, {acc}, {product}",
            acc = inout(ymm_reg) acc,
            codes = in(ymm_reg) codes,
            weights = in(ymm_reg) weights,
            product = out(ymm_reg) _,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    acc
}

/// Codes to 16 bits, once per block of rows; [`micro_u8s8`] then broadcasts pairs of them. Widening
/// inside the kernel instead would cost a shuffle per broadcast, on the port that adds.
///
/// # Safety
///
/// The CPU has the features below and `args` keeps the promises of [`WidenArgs`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn widen(args: &WidenArgs) {
    for i in (0..args.len).step_by(16) {
        // SAFETY: `len` is a multiple of 64; `wide` has twice the room.
        unsafe {
            let codes = _mm_loadu_si128(args.codes.add(i).cast());
            let wide = args.wide.add(2 * i).cast();
            _mm256_storeu_si256(wide, _mm256_cvtepu8_epi16(codes));
        }
    }
}
