//! AVX2: exact int8 by `vpmaddwd` on widened codes, int7 by `vpmaddubsw`, int6 by `vpmaddubsw` with
//! i16 accumulation, and all prologues and epilogues on 256-bit registers. All register tiles are
//! 6 × 16 as drawn in [`ymm`]; with 16 registers nothing is left over.

use core::arch::{asm, x86_64::*};

use super::ymm::{self, Dot, MR, NR, TileFn};
use crate::layout::{K_ALIGN, padded_k};
use crate::leaf::{
    BlockArgs, FinishArgs, MicroArgs, QuantizeArgs, WidenArgs, block_by_steps, panel_by_steps,
};
use crate::table::MicroKernel;

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
    // SAFETY: passed on.
    unsafe { ymm::for_each_tile(args, &tiles_u8s8::<Narrow>()) }
}

/// Blocks of exact int8. A panel that serves several tiles is widened once, in working memory, and the
/// steps of the tiles are rid of `vpmovsxbw`.
///
/// # Safety
///
/// The CPU has the features below and `args` keeps the promises of [`BlockArgs`] for the row of
/// [`micro_u8s8`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn block_u8s8(kernel: &MicroKernel, args: &BlockArgs) {
    if args.first.m < WORTH_WIDENING {
        // SAFETY: passed on.
        return unsafe { block_by_steps(kernel, args) };
    }
    let (weights, k, wide) = (args.first.b, args.first.k, args.wide_panel);
    for panel in 0..args.panels {
        // SAFETY: the panel exists, a multiple of 64 long, and `wide_panel` has room for it.
        unsafe {
            let weights = weights.add(panel * NR * k);
            for i in (0..NR * k).step_by(16) {
                let narrow = _mm_load_si128(weights.add(i).cast());
                _mm256_store_si256(wide.add(i).cast(), _mm256_cvtepi8_epi16(narrow));
            }
            panel_by_steps(args, micro_u8s8_wide, NR, panel, wide.cast());
        }
    }
}

/// Rows from which on a panel is widened: with two tiles it costs what it saves.
const WORTH_WIDENING: usize = 2 * MR + 1;

/// # Safety
///
/// As [`micro_u8s8`], but the weights of the panel are 16 bits wide, too.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn micro_u8s8_wide(args: &MicroArgs) {
    // SAFETY: passed on.
    unsafe { ymm::for_each_tile(args, &tiles_u8s8::<Wide>()) }
}

/// The weights of exact int8 as they lie in a panel.
trait Weights {
    /// Bytes of one weight.
    const SIZE: usize;

    /// Loads 16 channels of 2 inputs as 16-bit numbers.
    ///
    /// # Safety
    ///
    /// The CPU has AVX2; 32 weights are readable and aligned.
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

const fn tiles_u8s8<W: Weights>() -> [TileFn; MR] {
    [
        tile_u8s8::<W, 1>,
        tile_u8s8::<W, 2>,
        tile_u8s8::<W, 3>,
        tile_u8s8::<W, 4>,
        tile_u8s8::<W, 5>,
        tile_u8s8::<W, 6>,
    ]
}

/// # Safety
///
/// As [`micro_u8s8`] with weights as `W` has them, and `row + R ≤ m`.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile_u8s8<W: Weights, const R: usize>(args: &MicroArgs, row: usize) {
    let mut acc = [[_mm256_setzero_si256(); 2]; R];
    // SAFETY: `row + R ≤ m` rows of `k` 16-bit codes and `k / 2` groups of 32 weights exist; `c`
    // holds `m · NR` values.
    unsafe {
        let rows = ymm::rows::<R>(args, row);
        let mut b = args.b;
        for k in (0..2 * args.k).step_by(4) {
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
            ymm::store(args, row + r, *acc, false);
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
    const TILES: [TileFn; MR] = [
        tile_u7s8::<1>,
        tile_u7s8::<2>,
        tile_u7s8::<3>,
        tile_u7s8::<4>,
        tile_u7s8::<5>,
        tile_u7s8::<6>,
    ];
    // SAFETY: passed on.
    unsafe { ymm::for_each_tile(args, &TILES) }
}

/// # Safety
///
/// As [`micro_u7s8`], and `row + R ≤ m`.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile_u7s8<const R: usize>(args: &MicroArgs, row: usize) {
    // SAFETY: passed on.
    unsafe { ymm::tile::<Maddubs, R, 1>(args, row) }
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
    const TILES: [TileFn; MR] = [
        tile_u6s6::<1>,
        tile_u6s6::<2>,
        tile_u6s6::<3>,
        tile_u6s6::<4>,
        tile_u6s6::<5>,
        tile_u6s6::<6>,
    ];
    // SAFETY: passed on.
    unsafe { ymm::for_each_tile(args, &TILES) }
}

/// # Safety
///
/// As [`micro_u6s6`], and `row + R ≤ m`.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile_u6s6<const R: usize>(args: &MicroArgs, row: usize) {
    let ones = _mm256_set1_epi16(1);
    let mut accumulate = false;
    // SAFETY: `row + R ≤ m` rows of `k` codes and `k / 4` groups of 64 weights exist, `k` is a
    // multiple of 32; `c` holds `m · NR` values.
    unsafe {
        let rows = ymm::rows::<R>(args, row);
        let mut b = args.b;
        for k in (0..args.k).step_by(32) {
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
                let sums = acc.map(|v| _mm256_madd_epi16(v, ones));
                ymm::store(args, row + r, sums, accumulate);
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

/// Eight source elements as f32.
trait Source {
    /// One element.
    type Elem: Copy + Default;

    /// # Safety
    ///
    /// The CPU has AVX2 and F16C; eight elements are readable.
    unsafe fn load(x: *const Self::Elem) -> __m256;
}

struct F32;
struct F16;
struct Bf16;

impl Source for F32 {
    type Elem = f32;
    #[target_feature(enable = "avx2,f16c")]
    #[inline]
    unsafe fn load(x: *const f32) -> __m256 {
        // SAFETY: the caller promises eight elements.
        unsafe { _mm256_loadu_ps(x) }
    }
}

impl Source for F16 {
    type Elem = u16;
    #[target_feature(enable = "avx2,f16c")]
    #[inline]
    unsafe fn load(x: *const u16) -> __m256 {
        // SAFETY: the caller promises eight elements.
        _mm256_cvtph_ps(unsafe { _mm_loadu_si128(x.cast()) })
    }
}

impl Source for Bf16 {
    type Elem = u16;
    #[target_feature(enable = "avx2,f16c")]
    #[inline]
    unsafe fn load(x: *const u16) -> __m256 {
        // SAFETY: the caller promises eight elements.
        let bits = unsafe { _mm_loadu_si128(x.cast()) };
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(bits)))
    }
}

/// # Safety
///
/// The CPU has the features below and `args` keeps the promises of [`QuantizeArgs`] for f32.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn quantize_f32(args: &QuantizeArgs) {
    // SAFETY: passed on.
    unsafe { quantize::<F32>(args) }
}

/// # Safety
///
/// The CPU has the features below and `args` keeps the promises of [`QuantizeArgs`] for f16.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn quantize_f16(args: &QuantizeArgs) {
    // SAFETY: passed on.
    unsafe { quantize::<F16>(args) }
}

/// # Safety
///
/// The CPU has the features below and `args` keeps the promises of [`QuantizeArgs`] for bf16.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn quantize_bf16(args: &QuantizeArgs) {
    // SAFETY: passed on.
    unsafe { quantize::<Bf16>(args) }
}

/// # Safety
///
/// As [`quantize_f32`], for elements of `S`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn quantize<S: Source>(args: &QuantizeArgs) {
    let max = _mm256_set1_ps(f32::from(args.max_code));
    let whole = args.k - args.k % K_ALIGN;
    for row in 0..args.m {
        // SAFETY: `x` holds `m` rows of `k` elements, `codes` as many of `padded_k` bytes; `inv`
        // and `t` are readable up to `padded_k`. The last, partial run goes through a buffer.
        unsafe {
            let x = args.x.cast::<S::Elem>().add(row * args.x_stride);
            let codes = args.codes.add(row * args.codes_stride);
            for k in (0..whole).step_by(32) {
                quantize_32::<S>(x.add(k), args, k, max, codes);
            }
            if whole < args.k {
                let mut tail = [S::Elem::default(); K_ALIGN];
                x.add(whole)
                    .copy_to_nonoverlapping(tail.as_mut_ptr(), args.k - whole);
                for k in (whole..padded_k(args.k)).step_by(32) {
                    quantize_32::<S>(tail.as_ptr().add(k - whole), args, k, max, codes);
                }
            }
        }
    }
}

/// Thirty-two inputs: one FMA, clamp, round, and pack to bytes (eq. 3).
///
/// # Safety
///
/// As [`quantize_f32`]; `x` points to 32 elements, and `codes` to a row that holds `k + 32`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn quantize_32<S: Source>(
    x: *const S::Elem,
    args: &QuantizeArgs,
    k: usize,
    max: __m256,
    codes: *mut u8,
) {
    let mut parts = [_mm256_setzero_si256(); 4];
    for (i, part) in parts.iter_mut().enumerate() {
        // SAFETY: the caller promises 32 elements of each.
        let (x, inv, t) = unsafe {
            (
                S::load(x.add(8 * i)),
                _mm256_loadu_ps(args.inv.add(k + 8 * i)),
                _mm256_loadu_ps(args.t.add(k + 8 * i)),
            )
        };
        // `vmaxps` returns its second operand when the first is NaN: NaN becomes 0.
        let v = _mm256_max_ps(_mm256_fmadd_ps(x, inv, t), _mm256_setzero_ps());
        *part = _mm256_cvtps_epi32(_mm256_min_ps(v, max));
    }
    let low = _mm256_packus_epi32(parts[0], parts[1]);
    let high = _mm256_packus_epi32(parts[2], parts[3]);
    // `vpack*` work within 128-bit lanes; this puts their 32-bit results back in order.
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    let packed = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(low, high), order);
    let stored = _mm256_sub_epi8(packed, _mm256_set1_epi8(args.code_offset as i8));
    // SAFETY: the caller promises the room.
    unsafe { _mm256_storeu_si256(codes.add(k).cast(), stored) }
}

/// Eight results as destination elements.
trait Destination {
    /// One element.
    type Elem: Copy + Default;

    /// Rounds to the destination type and stores.
    ///
    /// # Safety
    ///
    /// The CPU has AVX2 and F16C; eight elements are writable.
    unsafe fn store(y: *mut Self::Elem, v: __m256);
}

impl Destination for F32 {
    type Elem = f32;
    #[target_feature(enable = "avx2,f16c")]
    #[inline]
    unsafe fn store(y: *mut f32, v: __m256) {
        // SAFETY: the caller promises eight elements.
        unsafe { _mm256_storeu_ps(y, v) }
    }
}

impl Destination for F16 {
    type Elem = u16;
    #[target_feature(enable = "avx2,f16c")]
    #[inline]
    unsafe fn store(y: *mut u16, v: __m256) {
        let v = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v);
        // SAFETY: the caller promises eight elements.
        unsafe { _mm_storeu_si128(y.cast(), v) }
    }
}

impl Destination for Bf16 {
    type Elem = u16;
    #[target_feature(enable = "avx2,f16c")]
    #[inline]
    unsafe fn store(y: *mut u16, v: __m256) {
        // Round to nearest even on the upper half. An output is never NaN (eq. 9), so the carry
        // cannot turn one into ∞.
        let bits = _mm256_castps_si256(v);
        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        let bits = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
        let words = _mm256_srli_epi32::<16>(bits);
        let packed = _mm256_packus_epi32(words, words);
        let packed = _mm256_castsi256_si128(_mm256_permute4x64_epi64::<0b1000>(packed));
        // SAFETY: the caller promises eight elements.
        unsafe { _mm_storeu_si128(y.cast(), packed) }
    }
}

/// # Safety
///
/// The CPU has the features below and `args` keeps the promises of [`FinishArgs`] for f32.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn finish_f32(args: &FinishArgs) {
    // SAFETY: passed on.
    unsafe { finish::<F32>(args) }
}

/// # Safety
///
/// The CPU has the features below and `args` keeps the promises of [`FinishArgs`] for f16.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn finish_f16(args: &FinishArgs) {
    // SAFETY: passed on.
    unsafe { finish::<F16>(args) }
}

/// # Safety
///
/// The CPU has the features below and `args` keeps the promises of [`FinishArgs`] for bf16.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn finish_bf16(args: &FinishArgs) {
    // SAFETY: passed on.
    unsafe { finish::<Bf16>(args) }
}

/// Sixteen columns at a time, their constants in registers while the rows go by (eq. 9). A partial
/// run of columns is computed whole from padded copies and copied out.
///
/// # Safety
///
/// As [`finish_f32`], for elements of `D`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn finish<D: Destination>(args: &FinishArgs) {
    for n in (0..args.n).step_by(NR) {
        let cols = NR.min(args.n - n);
        let mut constants = Constants::default();
        // SAFETY: columns `n..n + cols` exist in every operand and row.
        unsafe {
            args.comp
                .add(n)
                .copy_to_nonoverlapping(constants.comp.as_mut_ptr(), cols);
            args.scale
                .add(n)
                .copy_to_nonoverlapping(constants.scale.as_mut_ptr(), cols);
            args.bias
                .add(n)
                .copy_to_nonoverlapping(constants.bias.as_mut_ptr(), cols);
            let constants = constants.load();
            for row in 0..args.m {
                let c = args.c.add(row * args.c_stride + n);
                let y = args.y.cast::<D::Elem>().add(row * args.y_stride + n);
                if cols == NR {
                    finish_16::<D>(c, &constants, y);
                } else {
                    let mut acc = [0i32; NR];
                    let mut out = [D::Elem::default(); NR];
                    c.copy_to_nonoverlapping(acc.as_mut_ptr(), cols);
                    finish_16::<D>(acc.as_ptr(), &constants, out.as_mut_ptr());
                    out.as_ptr().copy_to_nonoverlapping(y, cols);
                }
            }
        }
    }
}

/// Constants of sixteen columns, zero where a column does not exist.
#[derive(Default)]
struct Constants {
    comp: [i32; NR],
    scale: [f32; NR],
    bias: [f32; NR],
}

/// The same in registers: comp, scale and bias of eight columns each.
type Loaded = [(__m256i, __m256, __m256); 2];

impl Constants {
    #[target_feature(enable = "avx2")]
    #[inline]
    fn load(&self) -> Loaded {
        [0, 8].map(|at| {
            // SAFETY: each array holds sixteen values.
            unsafe {
                (
                    _mm256_loadu_si256(self.comp.as_ptr().add(at).cast()),
                    _mm256_loadu_ps(self.scale.as_ptr().add(at)),
                    _mm256_loadu_ps(self.bias.as_ptr().add(at)),
                )
            }
        })
    }
}

/// # Safety
///
/// As [`finish_f32`]; `c` and `y` point to sixteen elements each.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn finish_16<D: Destination>(c: *const i32, constants: &Loaded, y: *mut D::Elem) {
    for (half, (comp, scale, bias)) in constants.iter().enumerate() {
        // SAFETY: the caller promises sixteen elements of each.
        unsafe {
            let acc = _mm256_loadu_si256(c.add(8 * half).cast());
            let acc = _mm256_cvtepi32_ps(_mm256_add_epi32(acc, *comp));
            D::store(y.add(8 * half), _mm256_fmadd_ps(acc, *scale, *bias));
        }
    }
}
