//! AVX-512 with VNNI: `vpdpbusd` on zmm, in the register tile of [`zmm::tile`](super::zmm::tile).

use super::tiles::for_each_tile;
use super::zmm;
use super::zmm::convert::{Bf16, F16, F32};
use super::zmm::dense::{self, Dense};
use super::zmm::finish::{Add, Destination, Finished};
use super::zmm::sink::NR;
use super::zmm::tile::{narrow_tiles, tiles};
use crate::leaf::{Accumulators, BlockArgs, MicroArgs, block_by_steps, panel_by_steps};
use crate::output::Destination as To;
use crate::spec::Activation;
use crate::strassen::{self, Bias, Leaf, MAX_CODE};
use crate::view::Elem;

/// `vpdpbusd` reads codes as unsigned bytes.
pub(super) const BIAS: Bias = Bias(MAX_CODE);

/// Micro-kernel for any 8-bit operands, exact by nature of `vpdpbusd` (no saturating step).
///
/// # Safety
///
/// The CPU has the features below and `args` keeps the promises of [`MicroArgs`] for `NR = 32`,
/// `KR = 4`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn micro(args: &MicroArgs) {
    // SAFETY: the tiles need the features above and `MicroArgs` for this panel; `c` has all rows.
    unsafe { for_each_tile(args, &tiles(), &Accumulators(args.c)) }
}

/// Block leaf of [`micro`]: accumulators become outputs while they are in registers, or in steps, where there
/// is more to do than eq. 9.
///
/// # Safety
///
/// The CPU has the features below and `args` keeps the promises of [`BlockArgs`] for the row of
/// [`micro`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn block(args: &BlockArgs) {
    // SAFETY: the caller promises `BlockArgs`, whose output is of the type that `destination` says.
    unsafe {
        match (args.output.activation, args.destination) {
            (Activation::Identity, To::Store(Elem::F32)) => block_to::<F32>(args),
            (Activation::Identity, To::Store(Elem::F16)) => block_to::<F16>(args),
            (Activation::Identity, To::Store(Elem::Bf16)) => block_to::<Bf16>(args),
            (Activation::Identity, To::Add) => block_to::<Add>(args),
            _ => block_by_steps(args),
        }
    }
}

/// # Safety
///
/// As [`block`], for outputs of `D`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn block_to<D: Destination<Columns = ()>>(args: &BlockArgs) {
    let first = &args.first;
    for panel in 0..args.panels {
        // SAFETY: the panel exists, and the output has all rows.
        unsafe {
            let b = first.b.add(panel * NR * first.k);
            let output = args.output(panel, 0, first.m);
            let tiles = if output.n > NR / 2 {
                tiles()
            } else {
                narrow_tiles()
            };
            let sink = Finished::<D>::new(&output);
            for_each_tile(&args.panel(panel, b), &tiles, &sink);
        }
    }
}

/// Block leaf of [`micro`] for operands of six bits, by Strassen's algorithm.
///
/// # Safety
///
/// The CPU has the features below and `args` keeps the promises of [`BlockArgs`] for the row of this leaf.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn block_u6s6(args: &BlockArgs) {
    // SAFETY: the caller promises `BlockArgs`, whose output is of the type that `destination` says.
    unsafe {
        match (args.output.activation, args.destination) {
            (Activation::Identity, To::Store(Elem::F32)) => block_u6s6_to::<F32>(args),
            (Activation::Identity, To::Add) => block_u6s6_to::<Add>(args),
            _ => strassen::block(args, &Leaf::in_steps(block, &zmm::strassen::tiles(), BIAS)),
        }
    }
}

/// # Safety
///
/// As [`block_u6s6`], for outputs of `D`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn block_u6s6_to<D: Destination<Columns = ()>>(args: &BlockArgs) {
    // SAFETY: the caller promises `BlockArgs` of a row of this bias.
    unsafe {
        strassen::block(
            args,
            &Leaf {
                plain: block,
                tiles: &zmm::strassen::tiles(),
                sink: Finished::<D>::new,
                in_steps: false,
                bias: BIAS,
            },
        );
    }
}

/// Micro-kernel for dense panels of `W`.
///
/// # Safety
///
/// The CPU has the features below and `args` keeps the promises of [`MicroArgs`] for dense panels of `W`,
/// `NR = 32`, `KR = 4`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn micro_dense<W: Dense>(args: &MicroArgs) {
    // SAFETY: the tiles need the features above and `MicroArgs` for this panel; `c` has all rows.
    unsafe { for_each_tile(args, &dense::tiles::<W, _>(), &Accumulators(args.c)) }
}

/// Block leaf of [`micro_dense`]. Each tile unpacks its weights: while it multiplies, that costs little.
///
/// # Safety
///
/// The CPU has the features below and `args` keeps the promises of [`BlockArgs`] for the row of
/// [`micro_dense`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn block_dense<W: Dense>(args: &BlockArgs) {
    // SAFETY: the caller promises `BlockArgs`, whose output is of the type that `destination` says.
    unsafe {
        match (args.output.activation, args.destination) {
            (Activation::Identity, To::Store(Elem::F32)) => block_dense_to::<W, F32>(args),
            (Activation::Identity, To::Add) => block_dense_to::<W, Add>(args),
            _ => {
                for panel in 0..args.panels {
                    panel_by_steps(args, panel, dense_panel::<W>(args, panel), micro_dense::<W>);
                }
            }
        }
    }
}

/// # Safety
///
/// As [`block_dense`], for outputs of `D`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn block_dense_to<W: Dense, D: Destination<Columns = ()>>(args: &BlockArgs) {
    let first = &args.first;
    for panel in 0..args.panels {
        // SAFETY: the panel exists, and the output has all rows.
        unsafe {
            let sink = Finished::<D>::new(&args.output(panel, 0, first.m));
            let b = dense_panel::<W>(args, panel);
            for_each_tile(&MicroArgs { b, ..*first }, &dense::tiles::<W, _>(), &sink);
        }
    }
}

/// Where the panel is.
///
/// # Safety
///
/// As [`block_dense`]; the panel exists.
unsafe fn dense_panel<W: Dense>(args: &BlockArgs, panel: usize) -> *const i8 {
    let bytes = dense::panel_bytes::<W>(args.first.k);
    // SAFETY: the caller promises the panel.
    unsafe { args.first.b.add(panel * bytes) }
}
