//! AMX-INT8: `tdpbusd` on tile registers. Prologues and epilogues are those of AVX-512.
//!
//! The `_tile_*` intrinsics are not stable in Rust 1.95, so the steps are `asm!`. Each block declares the
//! tile registers that it writes. What `asm!` has no way to declare is that a block reads what the one
//! before left in them. That holds for three reasons. Blocks that are not `pure` stay in order. Compiled
//! code touches no tile register: LLVM uses them for AMX intrinsics alone, of which there are none. And what
//! is called between the blocks of a walk are the table's epilogues, which have no such block.
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
//! products 20 % whatever their order; storing and zeroing C costs another 20 % at K = 384, unless
//! each store is followed by the zero and the first `tdpbusd` of the next tile's same quarter. Then
//! the stores wait for results while the next products run, and cost nothing ([`walk`]).
//!
//! Rows are cut into tiles of even height. The last one may overlap the one before and computes
//! some rows twice, to the same result: `tdpbusd` takes a cycle a row, a second configuration 44 ns.

use core::arch::asm;

use crate::layout::K_ALIGN;
use crate::leaf::{BlockArgs, MicroArgs};

/// Rows of one tile register.
const TILE_ROWS: usize = 16;
const MR: usize = 2 * TILE_ROWS;
const NR: usize = 32;
/// Cache lines prefetched in each half of a step of a [`Pair`]: tiles of six rows of tiles share a
/// panel of 32 lines a step. From L3, prefetching takes 10 % off large layers; from L2 it is free.
const LINES: usize = 3;
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
    /// What to prefetch into L2 meanwhile: this tile's share of the next panel.
    next: *const i8,
}

/// The steps of a walk over tiles, for one arrangement of tile registers.
trait Shape {
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

    /// Takes `steps` more times 64 inputs, after the first.
    ///
    /// # Safety
    ///
    /// As [`start`](Shape::start), with `64 · (1 + steps)` inputs.
    unsafe fn proceed(tile: &Tile, steps: usize);

    /// Stores the accumulators to `c`.
    ///
    /// # Safety
    ///
    /// AMX is configured; `c` has room for the height of the tile.
    unsafe fn store(c: *mut i32);
}

/// Two tiles of A: 17 to 32 rows.
struct Pair;

impl Shape for Pair {
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
    unsafe fn proceed(tile: &Tile, steps: usize) {
        // SAFETY: the caller promises the operands; see `Shape`.
        unsafe {
            asm!(
                "jmp 3f",
                "2:",
                "add {a}, 64",
                "add {a1}, 64",
                "add {b}, 2048",
                "tileloadd tmm6, [{b} + {bs}]",
                "tileloadd tmm4, [{a} + {s}]",
                ".rept {lines}", "prefetcht1 [{next}]", "add {next}, 64", ".endr",
                "tdpbusd tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b} + {bs} + 64]",
                "tdpbusd tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{a1} + {s}]",
                ".rept {lines}", "prefetcht1 [{next}]", "add {next}, 64", ".endr",
                "tdpbusd tmm2, tmm5, tmm6",
                "tdpbusd tmm3, tmm5, tmm7",
                "3:",
                "dec {n}",
                "jns 2b",
                a = inout(reg) tile.a => _,
                a1 = inout(reg) tile.a.add(TILE_ROWS * tile.a_stride) => _,
                b = inout(reg) tile.b => _,
                n = inout(reg) steps => _,
                next = inout(reg) tile.next => _,
                s = in(reg) tile.a_stride,
                bs = in(reg) ROW_BYTES,
                lines = const LINES,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(readonly, nostack),
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
                "tilestored [{c} + {cs} + 2048], tmm2",
                "tilestored [{c} + {cs} + 2112], tmm3",
                c = in(reg) c, cs = in(reg) ROW_BYTES,
                options(nostack, preserves_flags),
            );
        }
    }
}

/// One tile of A: 1 to 16 rows.
struct Single;

impl Shape for Single {
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
    unsafe fn proceed(tile: &Tile, steps: usize) {
        // SAFETY: the caller promises the operands; see `Shape`.
        unsafe {
            asm!(
                "jmp 3f",
                "2:",
                "add {a}, 64",
                "add {b}, 2048",
                "tileloadd tmm4, [{a} + {s}]",
                "tileloadd tmm6, [{b} + {bs}]",
                "tdpbusd tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b} + {bs} + 64]",
                "tdpbusd tmm1, tmm4, tmm7",
                "3:",
                "dec {n}",
                "jns 2b",
                a = inout(reg) tile.a => _,
                b = inout(reg) tile.b => _,
                n = inout(reg) steps => _,
                s = in(reg) tile.a_stride,
                bs = in(reg) ROW_BYTES,
                out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                options(readonly, nostack),
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

/// Micro-kernel for any 8-bit operands, exact by nature of `tdpbusd` (no saturating step).
///
/// # Safety
///
/// The CPU has AMX-INT8, the process has permission to use it, and `args` keeps the promises of
/// [`MicroArgs`] for `NR = 32`, `KR = 4`.
pub(super) unsafe fn micro(args: &MicroArgs) {
    // SAFETY: the caller promises one panel, and `c` has all rows, those of a tile at `row` among them.
    unsafe { walk_rows(args, 1, |row| args.c.add(row * NR), |_, _, _| ()) }
}

/// Block leaf: as [`micro`] over many panels, with the epilogue of a tile while the next one is
/// computed.
///
/// # Safety
///
/// As [`micro`], and `args` keeps the promises of [`BlockArgs`].
pub(super) unsafe fn block(args: &BlockArgs) {
    // SAFETY: the caller promises the panels and their outputs; `c` has room for a tile.
    unsafe {
        let finish = |panel, row, m| (args.finish)(&args.output(panel, row, m));
        walk_rows(&args.first, args.panels, |_| args.first.c, finish);
    }
}

/// Chooses the height and arrangement of tiles, configures them, and walks.
///
/// # Safety
///
/// As [`walk`].
#[inline(always)]
unsafe fn walk_rows(
    args: &MicroArgs,
    panels: usize,
    c: impl Fn(usize) -> *mut i32,
    done: impl Fn(usize, usize, usize),
) {
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
        if height > TILE_ROWS {
            walk::<Pair>(args, panels, height, c, done);
        } else {
            walk::<Single>(args, panels, height, c, done);
        }
        asm!(
            "tilerelease",
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nomem, nostack, preserves_flags),
        );
    }
}

/// All tiles of `height` rows, panel by panel. `c(row)` says where the accumulators of the tile at
/// `row` go; `done(panel, row, height)` is called once they are there.
///
/// # Safety
///
/// AMX is configured for `height ≤ m` rows; `args` keeps the promises of [`MicroArgs`] for `panels`
/// panels; `c` gives room for `height` rows.
#[inline(always)]
unsafe fn walk<S: Shape>(
    args: &MicroArgs,
    panels: usize,
    height: usize,
    c: impl Fn(usize) -> *mut i32,
    done: impl Fn(usize, usize, usize),
) {
    let mut before: Option<(usize, usize)> = None;
    for panel in 0..panels {
        let next = args.b.wrapping_add((panel + 1) * NR * args.k);
        for start in (0..args.m).step_by(height) {
            let row = start.min(args.m - height);
            // SAFETY: `row + height ≤ m`, the panel exists, and `k` is a multiple of 64.
            unsafe {
                let tile = Tile {
                    a: args.a.add(row * args.a_stride),
                    a_stride: args.a_stride,
                    b: args.b.add(panel * NR * args.k),
                    next: next.wrapping_add(start / height * (args.k / K_ALIGN) * 2 * LINES * 64),
                };
                match before {
                    None => S::start(&tile),
                    Some((_, row)) => S::store_and_start(c(row), &tile),
                }
                S::proceed(&tile, args.k / K_ALIGN - 1);
            }
            if let Some((panel, row)) = before {
                done(panel, row, height);
            }
            before = Some((panel, row));
        }
    }
    if let Some((panel, row)) = before {
        // SAFETY: `c` gives room.
        unsafe { S::store(c(row)) };
        done(panel, row, height);
    }
}
