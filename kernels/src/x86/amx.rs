//! AMX-INT8: `tdpbusd` on tile registers. Prologues and epilogues are those of AVX-512.
//!
//! The `_tile_*` intrinsics are not stable in Rust 1.95, so the loop is `asm!`. No compiled code uses
//! tile registers, and so they need no clobbers; the configuration lives from [`micro`]'s `ldtilecfg`
//! to its `tilerelease`, on the calling thread, and costs about as much as two `tdpbusd`.
//!
//! Two by two tiles, 32 × 32 accumulators, a step of 64 inputs:
//!
//! ```text
//!                                tmm6: B, channels 0..16    tmm7: B, channels 16..32
//!                                (16 groups × 16 × 4)
//!   tmm4: A, rows 0..16 (× 64)   tmm0                       tmm1
//!   tmm5: A, rows 16..32         tmm2                       tmm3
//! ```
//!
//! Four `tdpbusd` take 64 cycles, their four loads 32 from L1. The last tile of a block is
//! configured with as many rows as are left: the cost of `tdpbusd` follows rows.

use core::arch::asm;

use crate::layout::K_ALIGN;
use crate::table::MicroArgs;

/// Rows of one tile register.
const TILE_ROWS: usize = 16;
const MR: usize = 2 * TILE_ROWS;
const NR: usize = 32;

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
    /// Tiles of `upper` and `lower` rows of A and C; all tiles are 64 bytes wide.
    const fn new(upper: u8, lower: u8) -> TileConfig {
        let full = TILE_ROWS as u8;
        let mut config = TileConfig {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: [0; 16],
            rows: [0; 16],
        };
        let rows = [upper, upper, lower, lower, upper, lower, full, full];
        let mut tile = 0;
        while tile < rows.len() {
            config.rows[tile] = rows[tile];
            config.row_bytes[tile] = 64;
            tile += 1;
        }
        config
    }
}

/// Micro-kernel for any 8-bit operands, exact by nature of `tdpbusd` (no saturating step).
///
/// # Safety
///
/// The CPU has AMX-INT8, the process has permission to use it, and `args` keeps the promises of
/// [`MicroArgs`] for `NR = 32`, `KR = 4`.
pub(super) unsafe fn micro(args: &MicroArgs) {
    static FULL: TileConfig = TileConfig::new(16, 16);
    let whole = args.m - args.m % MR;
    let left = (args.m % MR) as u8;
    // SAFETY: the configuration is valid; each tile computes rows below `m`, and the last one is
    // configured to touch no others.
    unsafe {
        if whole > 0 {
            configure(&FULL);
            for row in (0..whole).step_by(MR) {
                two_by_two(args, row);
            }
        }
        if left > TILE_ROWS as u8 {
            configure(&TileConfig::new(16, left - 16));
            two_by_two(args, whole);
        } else if left > 0 {
            configure(&TileConfig::new(left, left));
            one_by_two(args, whole);
        }
        asm!("tilerelease", options(nomem, nostack, preserves_flags));
    }
}

/// # Safety
///
/// The CPU has AMX and the process permission to use it.
#[inline]
unsafe fn configure(config: &TileConfig) {
    // SAFETY: `config` is a valid palette-1 configuration.
    unsafe {
        asm!("ldtilecfg [{}]", in(reg) config, options(readonly, nostack, preserves_flags));
    }
}

/// Rows `row..` of both tiles of A, all 32 channels.
///
/// # Safety
///
/// As [`micro`]; the configured rows from `row` on are below `m`.
#[inline]
unsafe fn two_by_two(args: &MicroArgs, row: usize) {
    // SAFETY: A tiles read 64 codes of rows that exist, up to `k`; B tiles read whole groups of the
    // panel; C tiles read and write rows that exist.
    unsafe {
        let a = args.a.add(row * args.a_stride);
        let c = args.c.add(row * NR).cast::<u8>();
        let lower = c.add(TILE_ROWS * NR * 4);
        if args.accumulate {
            asm!(
                "tileloadd tmm0, [{c} + {s}]",
                "tileloadd tmm1, [{c} + {s} + 64]",
                "tileloadd tmm2, [{l} + {s}]",
                "tileloadd tmm3, [{l} + {s} + 64]",
                c = in(reg) c, l = in(reg) lower, s = in(reg) NR * 4,
                options(readonly, nostack, preserves_flags),
            );
        } else {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                options(nomem, nostack, preserves_flags),
            );
        }
        asm!(
            "2:",
            "tileloadd tmm6, [{b} + {bs}]",
            "tileloadd tmm4, [{a} + {s}]",
            "tdpbusd tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b} + {bs} + 64]",
            "tdpbusd tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{a1} + {s}]",
            "tdpbusd tmm2, tmm5, tmm6",
            "tdpbusd tmm3, tmm5, tmm7",
            "add {a}, 64",
            "add {a1}, 64",
            "add {b}, 2048",
            "dec {n}",
            "jnz 2b",
            a = inout(reg) a => _,
            a1 = inout(reg) a.add(TILE_ROWS * args.a_stride) => _,
            b = inout(reg) args.b => _,
            n = inout(reg) args.k / K_ALIGN => _,
            s = in(reg) args.a_stride,
            bs = in(reg) NR * 4,
            options(readonly, nostack),
        );
        asm!(
            "tilestored [{c} + {s}], tmm0",
            "tilestored [{c} + {s} + 64], tmm1",
            "tilestored [{l} + {s}], tmm2",
            "tilestored [{l} + {s} + 64], tmm3",
            c = in(reg) c, l = in(reg) lower, s = in(reg) NR * 4,
            options(nostack, preserves_flags),
        );
    }
}

/// Rows `row..` of one tile of A, all 32 channels: the end of a block.
///
/// # Safety
///
/// As [`two_by_two`], for the upper tiles alone.
#[inline]
unsafe fn one_by_two(args: &MicroArgs, row: usize) {
    // SAFETY: as in `two_by_two`.
    unsafe {
        let c = args.c.add(row * NR).cast::<u8>();
        if args.accumulate {
            asm!(
                "tileloadd tmm0, [{c} + {s}]",
                "tileloadd tmm1, [{c} + {s} + 64]",
                c = in(reg) c, s = in(reg) NR * 4,
                options(readonly, nostack, preserves_flags),
            );
        } else {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                options(nomem, nostack, preserves_flags)
            );
        }
        asm!(
            "2:",
            "tileloadd tmm4, [{a} + {s}]",
            "tileloadd tmm6, [{b} + {bs}]",
            "tdpbusd tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b} + {bs} + 64]",
            "tdpbusd tmm1, tmm4, tmm7",
            "add {a}, 64",
            "add {b}, 2048",
            "dec {n}",
            "jnz 2b",
            a = inout(reg) args.a.add(row * args.a_stride) => _,
            b = inout(reg) args.b => _,
            n = inout(reg) args.k / K_ALIGN => _,
            s = in(reg) args.a_stride,
            bs = in(reg) NR * 4,
            options(readonly, nostack),
        );
        asm!(
            "tilestored [{c} + {s}], tmm0",
            "tilestored [{c} + {s} + 64], tmm1",
            c = in(reg) c, s = in(reg) NR * 4,
            options(nostack, preserves_flags),
        );
    }
}

/// `tdpbusd` on full tiles, 16 384 MACs each, on 4 chains as in the kernel: the peak.
///
/// # Safety
///
/// The CPU has AMX-INT8 and the process permission to use it.
pub(super) unsafe fn probe(steps: u64) -> u64 {
    static FULL: TileConfig = TileConfig::new(16, 16);
    // SAFETY: tile registers only, zeroed by `ldtilecfg`.
    unsafe {
        configure(&FULL);
        asm!(
            "2:",
            "tdpbusd tmm0, tmm4, tmm6",
            "tdpbusd tmm1, tmm4, tmm7",
            "tdpbusd tmm2, tmm5, tmm6",
            "tdpbusd tmm3, tmm5, tmm7",
            "dec {n}",
            "jnz 2b",
            "tilerelease",
            n = inout(reg) steps.max(1) => _,
            options(nomem, nostack),
        );
    }
    steps.max(1) * 4 * 16 * 16 * 64
}
