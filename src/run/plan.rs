//! Blocking: how one call is cut into blocks of rows, panels of columns, and tasks for threads.

use core::fmt;

use noisyquant_kernels::cpu;
use noisyquant_kernels::isa::Isa;
use noisyquant_kernels::layout::{ALIGN, Form, codes_stride};
use noisyquant_kernels::ready::Ready;
use noisyquant_kernels::row::MicroKernel;

/// Bytes of codes of a block where weights stay in L2. They need not stay in L1: at 3136,96,96 on Zen 4
/// (AVX-512-VNNI) 24 KiB took 1 % longer, 8 KiB 4 %, and blocks of 24 rows 6 %, as each panel is a call for
/// each block.
const LOW_BLOCK_BYTES: usize = 48 << 10;

/// Such a block is at least this high.
const LOW_BLOCK: usize = 24;

/// Accumulators of one step, where the epilogue is a step of its own. Short steps spread the stores of
/// outputs between the products, so that the store buffer does not fill; one tile costs the smaller tiles
/// 4 %.
const ACCUMULATOR_BYTES: usize = 3 << 10;

/// Bytes of rows of which the norm has been taken, a few at a time; but one at least.
const NORMED_BYTES: usize = 8 << 10;

/// A task shorter than this is not worth handing to another thread.
const TASK_MICROSECONDS: usize = 10;

/// How the output of a call is divided between tasks: bands of rows, and in each band groups of panels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) bands: usize,
    pub(crate) groups: usize,
}

impl Grid {
    /// Number of parts.
    pub(crate) fn parts(self) -> usize {
        self.bands * self.groups
    }
}

/// How a call will run; see [`QuantLinear::explain`](crate::QuantLinear::explain). Displays itself
/// with its reasons.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// Instruction set.
    pub isa: Isa,
    /// Name of the micro-kernel.
    pub kernel: &'static str,
    /// Rows, inputs and output channels of the call.
    pub shape: (usize, usize, usize),
    /// Rows quantized at a time, just before they are used.
    pub block_rows: usize,
    /// Rows of accumulators in working memory: those of one call of the micro-kernel, where the kernel does
    /// not finish outputs in registers.
    pub step_rows: usize,
    /// Tasks that the call is split into at the most.
    pub tasks: usize,
    nr: usize,
    /// Panels that no task may part.
    together: usize,
    mr: usize,
    code_bytes: usize,
    low: bool,
    strassen: bool,
    form: Form,
    planes: usize,
    /// Values that the kernel has a use for beside accumulators.
    room: usize,
}

impl Plan {
    /// The blocking of `[m, k] × [n, k]` for a kernel and `planes` planes of codes, on up to `threads`
    /// threads.
    pub(crate) fn new(
        kernel: Ready<MicroKernel>,
        (m, k, n): (usize, usize, usize),
        planes: usize,
        threads: usize,
    ) -> Plan {
        let (mr, nr) = (kernel.tile.mr, kernel.tile.nr);
        let code_bytes = kernel.code_bytes();
        let l2 = cpu::l2_bytes();
        // A block meets every panel. Weights that stay in L2 beside inputs and outputs are read
        // again for each block at little cost: then blocks are low, and outputs are written along
        // rows. Other weights come from L3 or memory, and a kernel that widens or sums them does so once
        // a block: then a block is as high as half of L2 holds codes, and all of it what the kernel makes
        // beside them. With half of it for both, 257,3072,768 in six bits took 4 to 6 % longer.
        let weights_stay = n.saturating_mul(k) / 8 * kernel.form.bits() <= l2 / 3;
        let row_bytes = codes_stride(k) * code_bytes * planes;
        let fits = |rows: usize| {
            let (codes, room) = (rows * row_bytes, kernel.room(rows, k) * size_of::<i32>());
            codes <= l2 / 2 && codes + room <= l2
        };
        let highest = highest((l2 / 2 / row_bytes).min(m), fits).max(mr);
        let low = weights_stay && kernel.room(highest, k) == 0;
        let high = if low {
            let rows = LOW_BLOCK_BYTES / (codes_stride(k) * planes);
            rows.max(LOW_BLOCK).next_multiple_of(mr).min(highest)
        } else {
            highest
        };
        // Of even height: no short block at the end.
        let block_rows = m.div_ceil(m.div_ceil(high).max(1)).max(1);
        let room = kernel.room(block_rows, k);
        let most = (ACCUMULATOR_BYTES / (nr * size_of::<i32>() * mr)).max(1) * mr;
        let work = m.saturating_mul(n).saturating_mul(k);
        let worthwhile = work / macs_per_microsecond(kernel.isa) / TASK_MICROSECONDS;
        Plan {
            isa: kernel.isa,
            kernel: kernel.name,
            shape: (m, k, n),
            block_rows,
            step_rows: most,
            tasks: threads.min(worthwhile).max(1),
            nr,
            together: kernel.together(),
            mr,
            code_bytes,
            low,
            // A pair of panels is worth it from three quarters on.
            strassen: kernel.is_strassen(block_rows, k) && 2 * n > 3 * nr,
            form: kernel.form,
            planes,
            room,
        }
    }

    /// As many parts as there are `tasks`, or as near to that as there are rows and panels. Bands keep two
    /// register tiles of rows; they are preferred, since each group of panels quantizes its band anew.
    pub(crate) fn grid(&self, tasks: usize) -> Grid {
        let (m, _, n) = self.shape;
        // Each of a few thousand bands is worth a look, not each of all that a host may think of.
        let most_bands = (m / (2 * self.mr)).clamp(1, tasks.clamp(1, 4096));
        let panels = n.div_ceil(self.nr * self.together).max(1);
        let grid = |bands: usize| Grid {
            bands,
            groups: (tasks / bands).clamp(1, panels),
        };
        // The last of equals: the one of the most bands.
        let grids = (1..=most_bands).map(grid);
        grids.max_by_key(|grid| grid.parts()).unwrap_or(grid(1))
    }

    /// Bytes of codes, of widened codes, of the kernel's working memory, and of normalised rows that one task
    /// needs.
    pub(crate) fn task_parts(&self) -> [usize; 4] {
        let codes = self.planes * self.block_rows * codes_stride(self.shape.1);
        let wide = if self.code_bytes == 2 { 2 * codes } else { 0 };
        let accumulators = self.planes * self.accumulators() * size_of::<i32>();
        let working = accumulators + self.room * size_of::<i32>();
        let normed = NORMED_BYTES.max((self.shape.1 * size_of::<f32>()).next_multiple_of(ALIGN));
        [codes, wide, working, normed]
    }

    /// Accumulators of one step and plane: whole cache lines.
    pub(crate) fn accumulators(&self) -> usize {
        (self.step_rows * self.nr).next_multiple_of(16)
    }

    /// Bytes of scratch that one task needs: a multiple of 64.
    pub(crate) fn task_bytes(&self) -> usize {
        self.task_parts().iter().sum()
    }
}

/// The most rows, of up to `most`, that fit; where more never fit if fewer do not.
fn highest(most: usize, fits: impl Fn(usize) -> bool) -> usize {
    let (mut fit, mut not) = (0, most + 1);
    while fit + 1 < not {
        let middle = fit.midpoint(not);
        *(if fits(middle) { &mut fit } else { &mut not }) = middle;
    }
    fit
}

/// A rough rate per core, for deciding whether a second thread can pay.
fn macs_per_microsecond(isa: Isa) -> usize {
    match isa {
        Isa::Scalar => 1_000,
        Isa::Neon => 20_000,
        Isa::Avx2 | Isa::NeonDotprod => 70_000,
        Isa::AvxVnni | Isa::NeonI8mm => 200_000,
        Isa::Avx512Vnni => 350_000,
        Isa::Amx => 1_500_000,
        _ => 200_000, // whatever is added: it only has to be of the right order
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (m, k, n) = self.shape;
        let (panels, block) = (n.div_ceil(self.nr), self.block_rows);
        writeln!(f, "{m}x{k} · {n}x{k}ᵀ: {} ({})", self.kernel, self.isa)?;
        writeln!(
            f,
            "  rows: {} block(s) of up to {block}, whose codes take {} KiB: {}",
            m.div_ceil(block),
            (block * codes_stride(k) * self.code_bytes * self.planes) >> 10,
            if self.low {
                "low, as the weights stay in L2 from block to block"
            } else if self.room == 0 || self.together > 1 {
                "high, to read the weights once"
            } else {
                "high, to read and widen the weights once"
            },
        )?;
        if self.form != Form::Bytes {
            writeln!(f, "  weights: dense, {} bits each", self.form.bits())?;
        }
        if self.strassen {
            writeln!(
                f,
                "  products: seven for eight, by Strassen's algorithm on sums of codes and of weights",
            )?;
        }
        writeln!(
            f,
            "  columns: {panels} panel(s) of {}, each meets a whole block",
            self.nr,
        )?;
        match self.grid(self.tasks) {
            Grid {
                bands: 1,
                groups: 1,
            } => {
                write!(f, "  threads: 1 (one allowed, or a second would not pay)")
            }
            Grid { bands, groups: 1 } => write!(f, "  threads: {bands} tasks by rows"),
            Grid { bands: 1, groups } => {
                write!(f, "  threads: {groups} tasks by columns: rows are few")
            }
            Grid { bands, groups } => {
                write!(
                    f,
                    "  threads: {bands} bands of rows in {groups} tasks by columns each"
                )
            }
        }?;
        match Isa::ALL.into_iter().find(|isa| isa.is_refused()) {
            Some(isa) => write!(
                f,
                "\n  {isa}: the CPU has it, the operating system refused its use"
            ),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use noisyquant_kernels::table::micro_kernels;

    use super::*;

    const SIZES: [usize; 9] = [1, 3, 16, 64, 197, 384, 1152, 3072, 4096];

    /// Plans for one plane of codes of every kernel that runs here, over a grid of shapes and threads.
    fn for_each_plan(
        mut check: impl FnMut(Ready<MicroKernel>, (usize, usize, usize), usize, Plan),
    ) {
        for kernel in micro_kernels().filter_map(MicroKernel::ready) {
            for m in SIZES {
                for k in SIZES {
                    for (n, threads) in SIZES.into_iter().flat_map(|n| [(n, 1), (n, 2), (n, 5)]) {
                        let plan = Plan::new(kernel, (m, k, n), 1, threads);
                        check(kernel, (m, k, n), threads, plan);
                    }
                }
            }
        }
    }

    #[test]
    fn more_work_or_more_threads_never_make_fewer_tasks_or_blocks() {
        for_each_plan(|kernel, (m, k, n), threads, plan| {
            assert!((1..=threads).contains(&plan.tasks), "{plan}");
            let larger = [
                ((2 * m, k, n), threads),
                ((m, 2 * k, n), threads),
                ((m, k, 2 * n), threads),
                ((m, k, n), threads + 1),
            ];
            for (shape, threads) in larger {
                let more = Plan::new(kernel, shape, 1, threads);
                assert!(more.tasks >= plan.tasks, "{plan}\n{more}");
            }
            let blocks = |plan: Plan| plan.shape.0.div_ceil(plan.block_rows);
            let taller = Plan::new(kernel, (2 * m, k, n), 1, threads);
            // Blocks that are worth sums of their codes are high.
            let same = plan.room == 0 || taller.room > 0;
            assert!(!same || blocks(taller) >= blocks(plan), "{plan}\n{taller}");
        });
    }

    #[test]
    fn a_grid_uses_the_threads_that_it_can() {
        for_each_plan(|kernel, (m, _, n), threads, plan| {
            let grid = plan.grid(threads);
            let panels = n.div_ceil(kernel.tile.nr * kernel.together());
            assert!(grid.parts() <= threads && grid.groups <= panels, "{plan}");
            assert!(
                grid.bands == 1 || m / grid.bands >= 2 * kernel.tile.mr,
                "{plan}"
            );
            let enough = m / (2 * kernel.tile.mr) >= threads || panels >= threads;
            assert!(!enough || grid.parts() == threads, "{plan}: {grid:?}");
        });
    }

    #[test]
    fn blocks_are_low_where_weights_stay_or_as_high_as_l2_allows() {
        for_each_plan(|kernel, (m, k, n), _, plan| {
            let codes = plan.block_rows * codes_stride(k) * kernel.code_bytes();
            let one_tile = plan.block_rows <= kernel.tile.mr;
            assert!(one_tile || codes <= cpu::l2_bytes() / 2, "{plan}");
            if n * k / 8 * kernel.form.bits() <= cpu::l2_bytes() / 3
                && kernel.room(plan.block_rows, k) == 0
            {
                let low = LOW_BLOCK.max(LOW_BLOCK_BYTES / codes_stride(k));
                assert!(plan.block_rows < low + kernel.tile.mr, "{plan}");
            } else {
                // Read as few times as L2 allows: higher blocks by a tile would not fit.
                let blocks = m.div_ceil(plan.block_rows);
                let higher = m.div_ceil((blocks - 1).max(1));
                let codes = higher * codes_stride(k) * kernel.code_bytes();
                let room = kernel.room(higher, k) * size_of::<i32>();
                let l2 = cpu::l2_bytes();
                let fits = codes <= l2 / 2 && codes + room <= l2;
                assert!(blocks == 1 || !fits || one_tile, "{plan}");
            }
        });
    }
}
