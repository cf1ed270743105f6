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

use super::convert::{Bf16, F16, F32};
use super::finish::{Add, Destination, Finished};
use super::sink::{MR, NR, Sink};
use crate::arch::tiles::{TileFn, for_each_tile};
use crate::leaf::{Accumulators, BlockArgs, MicroArgs, panel_by_steps};
use crate::output::Destination as To;
use crate::spec::Activation;
use crate::view::Elem;

/// The register tiles of a micro-kernel.
pub(in crate::arch) trait Tiles {
    /// `tiles()[r - 1]` has `r` rows.
    fn tiles<K: Sink>() -> [TileFn<K>; MR];
}

/// Micro-kernel of these tiles. `#[inline(always)]`, as what follows, so that all takes on the
/// instruction set of the leaf that calls it.
///
/// # Safety
///
/// The CPU has what the tiles need and `args` keeps their promises.
#[inline(always)]
pub(in crate::arch) unsafe fn micro<T: Tiles>(args: &MicroArgs) {
    // SAFETY: the caller promises what the tiles need; `c` has all rows.
    unsafe { for_each_tile(args, &T::tiles(), &Accumulators(args.c)) }
}

/// Block leaf of these tiles.
///
/// # Safety
///
/// The CPU has what the tiles need and `args` keeps the promises of [`BlockArgs`].
#[inline(always)]
pub(in crate::arch) unsafe fn block<T: Tiles>(args: &BlockArgs) {
    for panel in 0..args.panels {
        // SAFETY: the panel exists.
        unsafe { finish_panel::<T>(args, panel, args.first.b.add(panel * NR * args.first.k)) }
    }
}

/// The part of [`block`] for one panel, whose weights are at `b`: from registers, or in steps, where there is
/// more to do than eq. 9.
///
/// # Safety
///
/// As [`block`]; the panel exists, and `b` holds its weights as the tiles read them.
#[inline(always)]
pub(in crate::arch) unsafe fn finish_panel<T: Tiles>(args: &BlockArgs, panel: usize, b: *const i8) {
    // SAFETY: the caller promises the panel, and an output of the type that `destination` says.
    unsafe {
        match (args.output.activation, args.destination) {
            (Activation::Identity, To::Store(Elem::F32)) => panel_to::<T, F32>(args, panel, b),
            (Activation::Identity, To::Store(Elem::F16)) => panel_to::<T, F16>(args, panel, b),
            (Activation::Identity, To::Store(Elem::Bf16)) => panel_to::<T, Bf16>(args, panel, b),
            (Activation::Identity, To::Add) => panel_to::<T, Add>(args, panel, b),
            _ => panel_by_steps(args, panel, b, micro::<T>),
        }
    }
}

/// # Safety
///
/// As [`finish_panel`], for outputs of `D`.
#[inline(always)]
unsafe fn panel_to<T: Tiles, D: Destination>(args: &BlockArgs, panel: usize, b: *const i8) {
    let first = &args.first;
    // SAFETY: the caller promises the panel; the output has all rows.
    unsafe {
        let sink = Finished::<D>::new(&args.output(panel, 0, first.m));
        for_each_tile(&MicroArgs { b, ..*first }, &T::tiles(), &sink);
    }
}

/// Pointers to the `R` rows of codes of a tile, which begin `stride` bytes apart from `a` on. LLVM does not
/// learn how they hang together: it would compute each from the one before in every step, with additions on
/// the ports of the dot products.
///
/// # Safety
///
/// The rows exist.
#[inline(always)]
pub(in crate::arch) unsafe fn rows<const R: usize>(a: *const u8, stride: usize) -> [*const u8; R] {
    core::array::from_fn(|r| {
        // SAFETY: the caller promises the rows.
        let mut pointer = unsafe { a.add(r * stride) };
        // SAFETY: no instruction.
        unsafe {
            asm!("/* {0} */", inout(reg) pointer, options(pure, readonly, nostack, preserves_flags))
        };
        pointer
    })
}

/// One step of a tile: `acc + Σ_4 codes · weights` in each 32-bit lane.
pub(in crate::arch) trait Dot {
    /// # Safety
    ///
    /// The CPU has the implementor's instructions.
    unsafe fn dot(acc: __m256i, codes: __m256i, weights: __m256i) -> __m256i;
}

/// Rows `row..row + R`, all 16 channels, with `S` sets of accumulators that take turns over `k`:
/// short tiles need them to cover the latency of the dot product.
///
/// `#[inline(always)]`, so that it takes on the instruction set of the leaf that calls it.
///
/// # Safety
///
/// The CPU has AVX2, FMA, F16C and what `D` needs; `args` keeps the promises of [`MicroArgs`] for
/// `NR = 16`, `KR = 4`, but for `c`; `row + R ≤ m`, and `sink` takes these rows.
#[inline(always)]
pub(in crate::arch) unsafe fn tile<D: Dot, K: Sink, const R: usize, const S: usize>(
    args: &MicroArgs,
    row: usize,
    sink: &K,
) {
    // SAFETY: `row + R ≤ m` rows of codes exist; `k` is a multiple of 64 and so of `4 · S`.
    unsafe {
        let mut acc = [[[_mm256_setzero_si256(); 2]; R]; S];
        let rows = rows::<R>(args.a.add(row * args.a_stride), args.a_stride);
        multiply::<D, R, S>(&mut acc, rows, args.b, args.inputs);
        for r in 0..R {
            let mut sums = acc[0][r];
            for acc in &acc[1..] {
                sums[0] = _mm256_add_epi32(sums[0], acc[r][0]);
                sums[1] = _mm256_add_epi32(sums[1], acc[r][1]);
            }
            sink.row(row + r, sums);
        }
    }
}

/// Adds the products of `inputs` inputs, a multiple of 4 and rounded up to one of `4 · S`: the codes of
/// `rows` with the weights at `b`.
///
/// # Safety
///
/// The CPU has AVX2 and what `D` needs; codes and weights exist, and `b` is aligned to 64 bytes.
#[inline(always)]
pub(super) unsafe fn multiply<D: Dot, const R: usize, const S: usize>(
    acc: &mut [[[__m256i; 2]; R]; S],
    rows: [*const u8; R],
    mut b: *const i8,
    inputs: usize,
) {
    // SAFETY: the caller promises the codes and the weights.
    unsafe {
        for k in (0..inputs).step_by(4 * S) {
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
    }
}
