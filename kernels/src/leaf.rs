//! What leaves are given, and the block leaf that most rows share.
//!
//! A leaf trusts its arguments. The checked calls make them, and vouch for what the fields say.

use core::ops::Range;
use core::ptr;

use crate::layout::Tile;
use crate::output::Destination;
use crate::spec::{Activation, NormKind};

/// What a micro-kernel leaf is given. The checked call vouches for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MicroArgs {
    /// `m` rows of `k` codes, each as wide as the row's `code_bytes` says.
    pub(crate) a: *const u8,
    /// Bytes from one row of codes to the next.
    pub(crate) a_stride: usize,
    /// One packed panel of `k` inputs, aligned to 64 bytes.
    pub(crate) b: *const i8,
    /// Inputs as padded: a multiple of [`K_ALIGN`](crate::layout::K_ALIGN), at least that.
    pub(crate) k: usize,
    /// Inputs that are there, from 1 to `k`; weights of the others are 0. A leaf may leave these out.
    pub(crate) inputs: usize,
    /// Rows; at least 1.
    pub(crate) m: usize,
    /// What will be read next: a leaf may fetch it meanwhile.
    pub(crate) next: Next,
    /// `m` rows of `NR` accumulators, dense, aligned to 64 bytes.
    pub(crate) c: *mut i32,
}

/// Bytes that are about to be read, of which each row of a product fetches a share, so that they come in
/// while all rows are multiplied. They need not exist.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Next {
    pub(crate) at: *const i8,
    /// The share of a row.
    pub(crate) per_row: usize,
}

/// Bytes of the longest panel of which the next one is fetched. Longer ones are streams that the hardware
/// follows by itself: there it lost 1 to 2 % on two threads.
const FETCHED: usize = 32 << 10;

impl Next {
    /// A part of the next panel, whose share of `rows` rows each is the same; or none, where panels are long.
    pub(crate) fn of(panel: usize, at: *const i8, bytes: usize, rows: usize) -> Next {
        Next {
            at,
            per_row: if panel <= FETCHED {
                bytes.div_ceil(rows)
            } else {
                0
            },
        }
    }

    /// None: what has been read before, so that fetching it costs least.
    pub(crate) fn none(again: *const i8) -> Next {
        Next {
            at: again,
            per_row: 0,
        }
    }

    /// What is left after so many rows.
    #[inline(always)]
    pub(crate) fn after(self, rows: usize) -> Next {
        Next {
            at: self.at.wrapping_add(rows * self.per_row),
            ..self
        }
    }
}

/// Dense rows of `NR` accumulators, aligned to 64 bytes, which a tile leaves in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accumulators(pub(crate) *mut i32);

/// What a block leaf is given: the operands of many tiles. The checked call vouches for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockArgs {
    /// Operands of the first panel; `panels` of them lie one after another. `c` is working memory
    /// of `step` rows.
    pub(crate) first: MicroArgs,
    pub(crate) panels: usize,
    /// Rows that fit `first.c`; at least 1.
    pub(crate) step: usize,
    /// The row's tile and micro-kernel, for a block leaf that is made of them.
    pub(crate) tile: Tile,
    pub(crate) micro: unsafe fn(&MicroArgs),
    /// Working memory of the row's `room` for so many rows and inputs, aligned to 64 bytes.
    #[allow(
        dead_code,
        reason = "not every architecture has a kernel that needs it"
    )]
    pub(crate) room: *mut i32,
    /// As many for each pair of panels as the row's `corrections` says.
    #[allow(dead_code, reason = "not every architecture has a kernel that asks")]
    pub(crate) corrections: *const i32,
    /// The epilogue, for a block leaf that has accumulators in memory; and its operands for the first row
    /// and panel: `m` and `n` are those of the whole output, `c` is not used.
    pub(crate) finish: unsafe fn(&FinishArgs),
    pub(crate) output: FinishArgs,
    /// What becomes of an output.
    pub(crate) destination: Destination,
}

impl BlockArgs {
    /// Some of its rows in some of its panels, for a leaf that needs no other working memory.
    ///
    /// # Safety
    ///
    /// The rows and panels exist, one of each at least.
    #[allow(dead_code, reason = "not every architecture has a kernel that asks")]
    pub(crate) unsafe fn part(&self, rows: Range<usize>, panels: Range<usize>) -> BlockArgs {
        let (first, nr) = (&self.first, self.tile.nr);
        let columns = self.output.n.min(panels.end * nr) - panels.start * nr;
        // SAFETY: the caller promises rows and panels.
        unsafe {
            BlockArgs {
                first: MicroArgs {
                    a: first.a.add(rows.start * first.a_stride),
                    b: first.b.add(panels.start * nr * first.k),
                    m: rows.len(),
                    ..*first
                },
                panels: panels.len(),
                output: FinishArgs {
                    n: columns,
                    ..self.output(panels.start, rows.start, rows.len())
                },
                ..*self
            }
        }
    }

    /// Operands of the micro-kernel in `panel`, whose weights are at `b`: all rows, and the next panel, or
    /// the first one again for the next block, is what they fetch.
    ///
    /// # Safety
    ///
    /// The panel exists.
    pub(crate) unsafe fn panel(&self, panel: usize, b: *const i8) -> MicroArgs {
        let bytes = self.tile.nr * self.first.k;
        MicroArgs {
            b,
            next: Next::of(
                bytes,
                self.first.b.wrapping_add((panel + 1) % self.panels * bytes),
                bytes,
                self.first.m,
            ),
            ..self.first
        }
    }

    /// Operands of the epilogue for `m` rows from `row` on in `panel`, whose accumulators are in
    /// `first.c`.
    ///
    /// # Safety
    ///
    /// The rows and the panel exist.
    #[inline]
    pub(crate) unsafe fn output(&self, panel: usize, row: usize, m: usize) -> FinishArgs {
        let nr = self.tile.nr;
        let (all, column) = (&self.output, panel * nr);
        // SAFETY: the caller promises that the tile lies within the operands.
        unsafe {
            FinishArgs {
                c: self.first.c,
                c_stride: nr,
                m,
                n: nr.min(all.n - column),
                comp: all.comp.add(column),
                scale: all.scale.add(column),
                bias: all.bias.add(column),
                y: all
                    .y
                    .add((row * all.y_stride + column) * self.destination.size()),
                y_stride: all.y_stride,
                activation: all.activation,
                coding: all.coding.at(column),
            }
        }
    }
}

/// Block leaf of kernels that leave their accumulators in memory: [`panel_by_steps`] for each panel.
///
/// # Safety
///
/// The CPU has what the row and the epilogue need; `args` keeps the promises of [`BlockArgs`].
pub(crate) unsafe fn block_by_steps(args: &BlockArgs) {
    for panel in 0..args.panels {
        // SAFETY: the panel exists.
        unsafe {
            let b = args.first.b.add(panel * args.tile.nr * args.first.k);
            panel_by_steps(args, panel, b, args.micro);
        }
    }
}

/// A few rows at a time, `micro` with the weights at `b` and then the epilogue while the accumulators are in
/// L1.
///
/// # Safety
///
/// As [`block_by_steps`]; the panel exists, and `b` holds its weights as `micro` reads them.
pub(crate) unsafe fn panel_by_steps(
    args: &BlockArgs,
    panel: usize,
    b: *const i8,
    micro: unsafe fn(&MicroArgs),
) {
    // SAFETY: the panel exists.
    let all = unsafe { args.panel(panel, b) };
    for row in (0..all.m).step_by(args.step) {
        let m = args.step.min(all.m - row);
        // SAFETY: panel and rows exist; `c` has room for `step` rows.
        unsafe {
            micro(&MicroArgs {
                a: all.a.add(row * all.a_stride),
                m,
                next: all.next.after(row),
                ..all
            });
            (args.finish)(&args.output(panel, row, m));
        }
    }
}

/// What a prologue leaf is given. The checked call vouches for it.
#[derive(Debug)]
pub(crate) struct QuantizeArgs {
    /// `m` rows of `k` source elements.
    pub(crate) x: *const u8,
    /// Elements from one row to the next.
    pub(crate) x_stride: usize,
    pub(crate) m: usize,
    pub(crate) k: usize,
    /// Multipliers, readable up to `padded_k(k)`; zero past `k`.
    pub(crate) inv: *const f32,
    /// Offsets, readable up to `padded_k(k)`; zero past `k`.
    pub(crate) t: *const f32,
    pub(crate) max_code: u8,
    /// Subtracted from each code as it is stored, wrapping.
    pub(crate) code_offset: u8,
    /// `m` rows of `padded_k(k)` codes, aligned to 64 bytes. Codes past `k` become (the stored form
    /// of) 0.
    pub(crate) codes: *mut u8,
    /// Bytes from one row of codes to the next.
    pub(crate) codes_stride: usize,
}

/// What a norm leaf is given. The checked call vouches for it.
#[derive(Debug)]
pub(crate) struct NormArgs {
    /// `m` rows of `k` numbers.
    pub(crate) x: *const f32,
    /// Numbers from one row to the next.
    pub(crate) x_stride: usize,
    pub(crate) m: usize,
    pub(crate) k: usize,
    pub(crate) kind: NormKind,
    pub(crate) eps: f32,
    /// Per column, `k` of them.
    pub(crate) weight: *const f32,
    /// Per column, `k` of them.
    pub(crate) bias: *const f32,
    /// `m` rows of `k` numbers, which are written.
    pub(crate) y: *mut f32,
    /// Numbers from one row to the next.
    pub(crate) y_stride: usize,
}

/// What a leaf of largest magnitudes is given. The checked call vouches for it.
#[derive(Debug)]
pub(crate) struct RaiseArgs {
    /// `m` rows of `k` source elements.
    pub(crate) x: *const u8,
    /// Elements from one row to the next.
    pub(crate) x_stride: usize,
    pub(crate) m: usize,
    pub(crate) k: usize,
    /// Per column, `k` of them: read, and written.
    pub(crate) most: *mut f32,
}

/// What a widening leaf is given. The checked call vouches for it.
#[derive(Debug)]
#[allow(dead_code, reason = "not every architecture has a kernel that widens")]
pub(crate) struct WidenArgs {
    /// Codes, a multiple of 64.
    pub(crate) codes: *const u8,
    pub(crate) len: usize,
    /// As many 16-bit codes.
    pub(crate) wide: *mut u8,
}

/// What an epilogue leaf is given. The checked call vouches for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FinishArgs {
    /// `m` rows of `c_stride` accumulators, of which `n` are used.
    pub(crate) c: *const i32,
    pub(crate) c_stride: usize,
    pub(crate) m: usize,
    /// Used columns, at most `c_stride`.
    pub(crate) n: usize,
    /// Per column, readable up to `c_stride`.
    pub(crate) comp: *const i32,
    /// Per column, readable up to `c_stride`.
    pub(crate) scale: *const f32,
    /// Per column, readable up to `c_stride`.
    pub(crate) bias: *const f32,
    /// `m` rows of `n` destination elements.
    pub(crate) y: *mut u8,
    /// Elements from one row to the next.
    pub(crate) y_stride: usize,
    pub(crate) activation: Activation,
    /// For a leaf that writes codes; else nothing that may be read.
    pub(crate) coding: CodingArgs,
}

/// What an epilogue that writes codes is given beside the rest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CodingArgs {
    /// The code; the fine one for a leaf that writes twin codes.
    pub(crate) code: CodeArgs,
    /// The coarse one for such a leaf; else nothing that may be read.
    pub(crate) coarse: CodeArgs,
    /// By how many bits it is shifted to the left: the largest codes fit a byte together.
    pub(crate) shift: u32,
    /// Subtracted from each byte as it is stored, wrapping.
    pub(crate) code_offset: u8,
}

/// What a code of an output is made with (eq. 3).
#[derive(Clone, Copy, Debug)]
pub(crate) struct CodeArgs {
    /// Per column, `n` of each.
    pub(crate) inv: *const f32,
    pub(crate) t: *const f32,
    pub(crate) max: u8,
}

impl CodingArgs {
    /// That of outputs which are no codes.
    pub(crate) const NONE: CodingArgs = CodingArgs {
        code: CodeArgs::NONE,
        coarse: CodeArgs::NONE,
        shift: 0,
        code_offset: 0,
    };

    /// That of the columns from `column` on.
    #[inline]
    pub(crate) fn at(self, column: usize) -> CodingArgs {
        CodingArgs {
            code: self.code.at(column),
            coarse: self.coarse.at(column),
            ..self
        }
    }
}

impl CodeArgs {
    /// That of no code.
    pub(crate) const NONE: CodeArgs = CodeArgs {
        inv: ptr::null(),
        t: ptr::null(),
        max: 0,
    };

    /// That of the columns from `column` on.
    #[inline]
    fn at(self, column: usize) -> CodeArgs {
        CodeArgs {
            inv: self.inv.wrapping_add(column),
            t: self.t.wrapping_add(column),
            ..self
        }
    }
}
