//! AMX-INT8: `tdpbusd` on tile registers. Prologues and epilogues are those of AVX-512.
//!
//! The `_tile_*` intrinsics are not stable in Rust 1.95, so the steps are `asm!`. Each block declares the
//! tile registers that it writes. What `asm!` has no way to declare is that a block reads what the one
//! before left in them. That holds for three reasons. Blocks that are not `pure` stay in order. Compiled
//! code touches no tile register: LLVM uses them for AMX intrinsics alone, of which there are none. And what
//! runs between the blocks of a walk are epilogues of AVX-512, which have no such block.
//! `tools/tiles.py` looks for the last two in the compiled kernels.
//!
//! The configuration of tiles lives from `ldtilecfg` to `tilerelease` within one call of a leaf, on the
//! calling thread. `ldtilecfg` takes 44 ns, a third of a tile at K = 384, and so it is loaded once a call.
//!
//! Two by two tiles, 32 × 32 accumulators, a step of 64 inputs ([`Pair`]):
//!
//! ```text
//!                                tmm6: B, channels 0..16    tmm7: B, channels 16..32
//!                                (16 groups × 16 × 4)
//!   tmm4: A, rows 0..16 (× 64)   tmm0                       tmm1
//!   tmm5: A, rows 16..32         tmm2                       tmm3
//! ```
//!
//! Four `tdpbusd` take 64 cycles, their four loads 37 from L1. Measured from L1, loads cost the dot
//! products 20 to 35 % whatever their order. The rest of a tile's work is hidden in two ways ([`walk`]):
//!
//! - They are stored between the first products of the next tile. Each store is followed by the zero and
//!   the first `tdpbusd` of the same quarter, so that stores wait for results while products run.
//! - They become outputs a few rows after each step of the next tile, so that the store buffer never fills.
//!
//! From tile to tile one operand stays while the other passes by: codes while panels pass, if there is one
//! tile of rows, or else a panel while codes pass. The one that passes is loaded by `tileloaddt1`, which
//! leaves L1 to the other one and to the accumulators.
//!
//! Rows are cut into tiles of even height. The last one may overlap the one before and computes
//! some rows twice, to the same result: `tdpbusd` takes a cycle a row, a second configuration 44 ns.

use core::arch::asm;
use core::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
use core::marker::PhantomData;
use core::ops::Range;

use super::zmm::convert::{Bf16, F16, F32};
use super::zmm::finish::{Add, Code, Destination, Lines, TwinCode, columns_early};
use crate::layout::K_ALIGN;
use crate::leaf::{BlockArgs, MicroArgs};
use crate::output::Destination as To;
use crate::view::Elem;

/// Rows of one tile register.
const TILE_ROWS: usize = 16;
const MR: usize = 2 * TILE_ROWS;
const NR: usize = 32;
/// Cache lines of the next panel that are prefetched in a step, where several tiles of rows share a panel of
/// 32 lines a step: enough for six tiles. From L3 that takes 3 to 5 % off large layers.
const LINES: usize = 6;
/// Bytes from one row of accumulators, or one group of a panel, to the next.
const ROW_BYTES: usize = NR * 4;

/// Memory operand of `ldtilecfg` (palette 1).
#[repr(C, align(64))]
struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl TileConfig {
    /// A and C tiles of `height` rows in all, the first sixteen in the upper ones; B tiles are full.
    fn new(height: usize) -> TileConfig {
        let upper = height.min(TILE_ROWS) as u8;
        let lower = (height.saturating_sub(TILE_ROWS) as u8).max(1); // a tile cannot be empty
        let full = TILE_ROWS as u8;
        let mut config = TileConfig {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: [0; 16],
            rows: [0; 16],
        };
        let rows = [upper, upper, lower, lower, upper, lower, full, full];
        config.rows[..8].copy_from_slice(&rows);
        config.row_bytes[..8].fill(64);
        config
    }
}

/// Operands of one tile: its first row of codes, their stride, and the panel.
struct Tile {
    a: *const u8,
    a_stride: usize,
    b: *const i8,
}

/// The steps of a walk over tiles, for one arrangement of tile registers and one order of tiles.
trait Shape {
    /// Whether codes pass while a panel stays in L1, instead of panels while codes stay.
    const CODES_PASS: bool;

    /// Zeroes the accumulators and takes the first 64 inputs.
    ///
    /// # Safety
    ///
    /// AMX is configured for the height of the tile, whose rows exist, with at least 64 inputs.
    unsafe fn start(tile: &Tile);

    /// Stores the accumulators of the tile before to `c`, and starts `tile` meanwhile.
    ///
    /// # Safety
    ///
    /// As [`start`](Shape::start); `c` has room for the height of the tile before.
    unsafe fn store_and_start(c: *mut i32, tile: &Tile);

    /// Takes 64 more inputs, from input `at` on.
    ///
    /// # Safety
    ///
    /// As [`start`](Shape::start), with `at + 64` inputs.
    unsafe fn step(tile: &Tile, at: usize);

    /// Stores the accumulators to `c`.
    ///
    /// # Safety
    ///
    /// AMX is configured; `c` has room for the height of the tile.
    unsafe fn store(c: *mut i32);
}

/// Two tiles of A: 17 to 32 rows.
struct Pair<const CODES_PASS: bool>;

impl<const CODES_PASS: bool> Shape for Pair<CODES_PASS> {
    const CODES_PASS: bool = CODES_PASS;

    #[inline(always)]
    unsafe fn start(tile: &Tile) {
        // SAFETY: the caller promises the operands; see `Shape`.
        unsafe {
            asm!(
                "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                "tileloadd tmm4, [{a} + {s}]",
                "tileloadd tmm6, [{b} + {bs}]",
                "tdpbusd tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b} + {bs} + 64]",
                "tdpbusd tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{a1} + {s}]",
                "tdpbusd tmm2, tmm5, tmm6",
                "tdpbusd tmm3, tmm5, tmm7",
                a = in(reg) tile.a,
                a1 = in(reg) tile.a.add(TILE_ROWS * tile.a_stride),
                b = in(reg) tile.b,
                s = in(reg) tile.a_stride,
                bs = in(reg) ROW_BYTES,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(readonly, nostack, preserves_flags),
            );
        }
    }

    #[inline(always)]
    unsafe fn store_and_start(c: *mut i32, tile: &Tile) {
        // SAFETY: the caller promises the operands; see `Shape`.
        unsafe {
            asm!(
                "tileloadd tmm4, [{a} + {s}]",
                "tileloadd tmm6, [{b} + {cs}]",
                "tilestored [{c} + {cs}], tmm0",
                "tilezero tmm0",
                "tdpbusd tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b} + {cs} + 64]",
                "tilestored [{c} + {cs} + 64], tmm1",
                "tilezero tmm1",
                "tdpbusd tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{a1} + {s}]",
                "tilestored [{c} + {cs} + 2048], tmm2",
                "tilezero tmm2",
                "tdpbusd tmm2, tmm5, tmm6",
                "tilestored [{c} + {cs} + 2112], tmm3",
                "tilezero tmm3",
                "tdpbusd tmm3, tmm5, tmm7",
                a = in(reg) tile.a,
                a1 = in(reg) tile.a.add(TILE_ROWS * tile.a_stride),
                b = in(reg) tile.b,
                s = in(reg) tile.a_stride,
                c = in(reg) c,
                cs = in(reg) ROW_BYTES,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, preserves_flags),
            );
        }
    }

    #[inline(always)]
    unsafe fn step(tile: &Tile, at: usize) {
        macro_rules! step {
            ($load_codes:literal, $load_panel:literal) => {
                asm!(
                    concat!($load_panel, " tmm6, [{b} + {bs}]"),
                    concat!($load_codes, " tmm4, [{a} + {s}]"),
                    "tdpbusd tmm0, tmm4, tmm6",
                    concat!($load_panel, " tmm7, [{b} + {bs} + 64]"),
                    "tdpbusd tmm1, tmm4, tmm7",
                    concat!($load_codes, " tmm5, [{a1} + {s}]"),
                    "tdpbusd tmm2, tmm5, tmm6",
                    "tdpbusd tmm3, tmm5, tmm7",
                    a = in(reg) tile.a.add(at),
                    a1 = in(reg) tile.a.add(TILE_ROWS * tile.a_stride + at),
                    b = in(reg) tile.b.add(at * NR),
                    s = in(reg) tile.a_stride,
                    bs = in(reg) ROW_BYTES,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(readonly, nostack, preserves_flags),
                )
            };
        }
        // SAFETY: the caller promises the operands; see `Shape`.
        unsafe {
            if Self::CODES_PASS {
                step!("tileloaddt1", "tileloadd");
            } else {
                step!("tileloadd", "tileloaddt1");
            }
        }
    }

    #[inline(always)]
    unsafe fn store(c: *mut i32) {
        // SAFETY: the caller promises the room.
        unsafe {
            asm!(
                "tilestored [{c} + {cs}], tmm0",
                "tilestored [{c} + {cs} + 64], tmm1",
                "tilestored [{c} + {cs} + 2048], tmm2",
                "tilestored [{c} + {cs} + 2112], tmm3",
                c = in(reg) c, cs = in(reg) ROW_BYTES,
                options(nostack, preserves_flags),
            );
        }
    }
}

/// One tile of A: 1 to 16 rows, which are all that there are.
struct Single;

impl Shape for Single {
    const CODES_PASS: bool = false;

    #[inline(always)]
    unsafe fn start(tile: &Tile) {
        // SAFETY: the caller promises the operands; see `Shape`.
        unsafe {
            asm!(
                "tilezero tmm0", "tilezero tmm1",
                "tileloadd tmm4, [{a} + {s}]",
                "tileloadd tmm6, [{b} + {bs}]",
                "tdpbusd tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b} + {bs} + 64]",
                "tdpbusd tmm1, tmm4, tmm7",
                a = in(reg) tile.a,
                b = in(reg) tile.b,
                s = in(reg) tile.a_stride,
                bs = in(reg) ROW_BYTES,
                out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                options(readonly, nostack, preserves_flags),
            );
        }
    }

    #[inline(always)]
    unsafe fn store_and_start(c: *mut i32, tile: &Tile) {
        // SAFETY: the caller promises the operands; see `Shape`.
        unsafe {
            asm!(
                "tileloadd tmm4, [{a} + {s}]",
                "tileloadd tmm6, [{b} + {cs}]",
                "tilestored [{c} + {cs}], tmm0",
                "tilezero tmm0",
                "tdpbusd tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b} + {cs} + 64]",
                "tilestored [{c} + {cs} + 64], tmm1",
                "tilezero tmm1",
                "tdpbusd tmm1, tmm4, tmm7",
                a = in(reg) tile.a,
                b = in(reg) tile.b,
                s = in(reg) tile.a_stride,
                c = in(reg) c,
                cs = in(reg) ROW_BYTES,
                out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                options(nostack, preserves_flags),
            );
        }
    }

    #[inline(always)]
    unsafe fn step(tile: &Tile, at: usize) {
        // SAFETY: the caller promises the operands; see `Shape`.
        unsafe {
            asm!(
                "tileloadd tmm4, [{a} + {s}]",
                "tileloaddt1 tmm6, [{b} + {bs}]",
                "tdpbusd tmm0, tmm4, tmm6",
                "tileloaddt1 tmm7, [{b} + {bs} + 64]",
                "tdpbusd tmm1, tmm4, tmm7",
                a = in(reg) tile.a.add(at),
                b = in(reg) tile.b.add(at * NR),
                s = in(reg) tile.a_stride,
                bs = in(reg) ROW_BYTES,
                out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                options(readonly, nostack, preserves_flags),
            );
        }
    }

    #[inline(always)]
    unsafe fn store(c: *mut i32) {
        // SAFETY: the caller promises the room.
        unsafe {
            asm!(
                "tilestored [{c} + {cs}], tmm0",
                "tilestored [{c} + {cs} + 64], tmm1",
                c = in(reg) c, cs = in(reg) ROW_BYTES,
                options(nostack, preserves_flags),
            );
        }
    }
}

/// What becomes of the accumulators of tiles.
trait Sink {
    /// A tile's outputs.
    type Outputs;

    /// Where the accumulators of the tile at `row` are stored.
    fn accumulators(&self, row: usize) -> *mut i32;

    /// Prepares the outputs of a tile.
    ///
    /// # Safety
    ///
    /// The tile at `row` in `panel` exists.
    unsafe fn outputs(&self, panel: usize, row: usize) -> Self::Outputs;

    /// Writes the outputs of some rows of a tile.
    ///
    /// # Safety
    ///
    /// The CPU has AVX-512; the rows exist, and their accumulators are stored.
    unsafe fn finish(outputs: &Self::Outputs, rows: Range<usize>);
}

/// The accumulators of all rows, which nothing is made of.
struct Accumulators(*mut i32);

impl Sink for Accumulators {
    type Outputs = ();

    #[inline(always)]
    fn accumulators(&self, row: usize) -> *mut i32 {
        self.0.wrapping_add(row * NR)
    }

    #[inline(always)]
    unsafe fn outputs(&self, _: usize, _: usize) {}

    #[inline(always)]
    unsafe fn finish((): &(), _: Range<usize>) {}
}

/// Outputs of `D` in `V` vectors a row, from the accumulators of one tile.
struct Finished<'a, D, const V: usize> {
    block: &'a BlockArgs,
    columns_early: usize,
    destination: PhantomData<D>,
}

impl<D: Destination, const V: usize> Sink for Finished<'_, D, V> {
    type Outputs = Lines<D, V>;

    #[inline(always)]
    fn accumulators(&self, _: usize) -> *mut i32 {
        self.block.first.c
    }

    #[inline(always)]
    unsafe fn outputs(&self, panel: usize, row: usize) -> Lines<D, V> {
        // SAFETY: the caller promises the tile, `columns_early` is that of all columns.
        unsafe { Lines::new(&self.block.output(panel, row, MR), 0, self.columns_early) }
    }

    #[inline(always)]
    unsafe fn finish(outputs: &Lines<D, V>, rows: Range<usize>) {
        // SAFETY: the caller promises the rows.
        unsafe { outputs.finish(rows) };
    }
}

/// Micro-kernel for any 8-bit operands, exact by nature of `tdpbusd` (no saturating step).
///
/// # Safety
///
/// The CPU has AMX-INT8, the process has permission to use it, and `args` keeps the promises of
/// [`MicroArgs`] for `NR = 32`, `KR = 4`.
pub(super) unsafe fn micro(args: &MicroArgs) {
    // SAFETY: the caller promises one panel, and `c` has all rows.
    unsafe { walk_rows(args, 1, &Accumulators(args.c)) }
}

/// Block leaf: as [`micro`] over many panels, with the epilogue of a tile while the next one is
/// computed.
///
/// # Safety
///
/// As [`micro`], the CPU has the features below, and `args` keeps the promises of [`BlockArgs`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn block(args: &BlockArgs) {
    // SAFETY: the caller promises `BlockArgs`, whose output is of the type that `destination` says.
    unsafe {
        match args.destination {
            To::Store(Elem::F32) => block_to::<F32>(args),
            To::Store(Elem::F16) => block_to::<F16>(args),
            To::Store(Elem::Bf16) => block_to::<Bf16>(args),
            To::Add => block_to::<Add>(args),
            To::Code => block_to::<Code>(args),
            To::TwinCode => block_to::<TwinCode>(args),
        }
    }
}

/// # Safety
///
/// As [`block`], for outputs of `D`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn block_to<D: Destination>(args: &BlockArgs) {
    // SAFETY: the caller promises the panels and their outputs; `c` has room for a tile. A panel's columns
    // fill whole lines of `y`, so all panels start as early as the first one.
    unsafe {
        match columns_early::<D>(&args.output) {
            0 => walk_block::<D, 2>(args, 0),
            early => walk_block::<D, 3>(args, early),
        }
    }
}

/// # Safety
///
/// As [`block_to`], for outputs in `V` vectors a row, of which the first starts `columns_early` early.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn walk_block<D: Destination, const V: usize>(args: &BlockArgs, columns_early: usize) {
    let sink = Finished::<D, V> {
        block: args,
        columns_early,
        destination: PhantomData,
    };
    // SAFETY: the caller promises the panels and their outputs.
    unsafe { walk_rows(&args.first, args.panels, &sink) }
}

/// Chooses the height, arrangement and order of tiles, configures them, and walks.
///
/// # Safety
///
/// As [`walk`].
#[inline(always)]
unsafe fn walk_rows<K: Sink>(args: &MicroArgs, panels: usize, sink: &K) {
    let height = args.m.div_ceil(args.m.div_ceil(MR));
    // SAFETY: the configuration is valid and of the height that the walk is told.
    unsafe {
        let config = TileConfig::new(height);
        asm!(
            "ldtilecfg [{}]",
            in(reg) &config,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(readonly, nostack, preserves_flags),
        );
        if height <= TILE_ROWS {
            walk::<Single, K>(args, panels, height, sink);
        } else if height == args.m {
            walk::<Pair<false>, K>(args, panels, height, sink);
        } else {
            walk::<Pair<true>, K>(args, panels, height, sink);
        }
        asm!(
            "tilerelease",
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nomem, nostack, preserves_flags),
        );
    }
}

/// All tiles of `height` rows, panel by panel.
///
/// The accumulators of a tile are stored while the next one starts, and finished a few rows after each of its
/// steps.
///
/// # Safety
///
/// AMX is configured for `height ≤ m` rows; `args` keeps the promises of [`MicroArgs`] for `panels`
/// panels; `sink` has room for the accumulators and outputs of all tiles.
#[inline(always)]
unsafe fn walk<S: Shape, K: Sink>(args: &MicroArgs, panels: usize, height: usize, sink: &K) {
    let steps = args.k / K_ALIGN;
    // Rows to finish after each step, in 2⁻¹⁶ rows.
    let share = (height << 16) / steps;
    // Panel and row of the tile before, and how many of its rows an earlier one has, too: outputs that are
    // added to what is there are to be made once.
    let mut before: Option<(usize, usize, usize)> = None;
    for panel in 0..panels {
        let mut next = args.b.wrapping_add((panel + 1) * NR * args.k);
        for start in (0..args.m).step_by(height) {
            let row = start.min(args.m - height);
            // SAFETY: `row + height ≤ m`, the panel exists, and `k` is a multiple of 64. What was stored at
            // the start is finished before the next store. An address that is not there does no harm to a
            // prefetch.
            unsafe {
                let tile = Tile {
                    a: args.a.add(row * args.a_stride),
                    a_stride: args.a_stride,
                    b: args.b.add(panel * NR * args.k),
                };
                let (outputs, mut finished) = match before {
                    None => {
                        S::start(&tile);
                        (None, 0)
                    }
                    Some((panel, row, made)) => {
                        S::store_and_start(sink.accumulators(row), &tile);
                        (Some(sink.outputs(panel, row)), made)
                    }
                };
                for step in 1..steps {
                    S::step(&tile, step * K_ALIGN);
                    if S::CODES_PASS {
                        for _ in 0..LINES {
                            _mm_prefetch::<_MM_HINT_T1>(next);
                            next = next.wrapping_add(64);
                        }
                    }
                    if let Some(outputs) = &outputs {
                        let due = ((step * share) >> 16).max(finished);
                        K::finish(outputs, finished..due);
                        finished = due;
                    }
                }
                if let Some(outputs) = &outputs {
                    K::finish(outputs, finished..height);
                }
            }
            before = Some((panel, row, start - row));
        }
    }
    if let Some((panel, row, made)) = before {
        // SAFETY: the sink has room for the last tile.
        unsafe {
            S::store(sink.accumulators(row));
            K::finish(&sink.outputs(panel, row), made..height);
        }
    }
}
