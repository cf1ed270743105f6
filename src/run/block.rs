//! One task of a call: blocks of rows are quantized just before they are used, multiplied with one panel
//! after another, and finished while the accumulators are in registers or L1.

use core::ops::Range;

use noisyquant_kernels::output::Output;
use noisyquant_kernels::ready::{Codes, NormNumbers, Ready};
use noisyquant_kernels::row::MicroKernel;
use noisyquant_kernels::view::{MatMut, MatRef};

use super::pass::{CodeRows, Pass, Planes};
use super::plan::Plan;

/// What a layer reads.
#[derive(Clone, Copy)]
pub(crate) enum Operand<'a> {
    /// Numbers, which it quantizes.
    Rows(MatRef<'a>),
    /// Numbers, of which it quantizes the norm.
    Normed(MatRef<'a>, NormNumbers<'a>),
    /// Codes that another layer made for it, as its kernel stores them.
    Codes(CodeRows<'a>),
}

impl Operand<'_> {
    pub(crate) fn rows(&self) -> usize {
        match self {
            Operand::Rows(x) | Operand::Normed(x, _) => x.rows(),
            Operand::Codes(codes) => codes.bytes.len() / codes.stride,
        }
    }

    pub(crate) fn range(&self, rows: Range<usize>) -> Self {
        match self {
            Operand::Rows(x) => Operand::Rows(x.rows_range(rows.start, rows.end)),
            Operand::Normed(x, norm) => Operand::Normed(x.rows_range(rows.start, rows.end), *norm),
            Operand::Codes(codes) => Operand::Codes(CodeRows {
                bytes: &codes.bytes[rows.start * codes.stride..rows.end * codes.stride],
                ..*codes
            }),
        }
    }
}

/// Computes the output channels of `panels` for all rows of `x` into `y`, on this thread.
/// `scratch` is [`Plan::task_bytes`] long.
pub(crate) fn run(
    pass: &Pass,
    plan: &Plan,
    x: Operand<'_>,
    mut y: Output<'_>,
    panels: Range<usize>,
    scratch: &mut [u8],
) {
    let micro = pass.kernels.micro;
    let epilogue = pass.kernels.epilogue(y.destination());
    let columns = y.cols();
    let Parts {
        codes: room,
        wide,
        working,
        normed,
    } = Parts::of(plan, scratch);
    for block in steps(x.rows(), plan.block_rows) {
        let codes = match x.range(block.clone()) {
            Operand::Rows(x) => {
                pass.quantize(x, 0, block.len(), room);
                pass.code_rows(room, block.len())
            }
            Operand::Normed(x, norm) => {
                quantize_normed(pass, x, norm, normed, room);
                pass.code_rows(room, block.len())
            }
            Operand::Codes(codes) => codes,
        };
        let (bytes, stride) = as_read(micro, codes.bytes, codes.stride, wide);
        let codes = Codes {
            bytes,
            stride,
            rows: block.len(),
            k: pass.k,
            max: pass.max_code(),
        };
        let out = y.block(block.start, block.len(), 0, columns);
        if let Planes::Two(twins) = &pass.planes {
            two_planes(
                pass,
                plan,
                codes,
                twins.twin.shift,
                panels.clone(),
                working,
                out,
            );
        } else {
            let (weights, channels) = (pass.panels(panels.clone()), pass.channels(panels.start));
            micro.run_block(codes, weights, epilogue, channels, working, out);
        }
    }
}

/// The codes of the norm of all rows of `x`, a few at a time by way of `normed`.
fn quantize_normed(
    pass: &Pass,
    x: MatRef<'_>,
    norm: NormNumbers<'_>,
    normed: &mut [f32],
    codes: &mut [u8],
) {
    let k = pass.k;
    for rows in steps(x.rows(), normed.len() / k) {
        let (count, part) = (rows.len(), &mut normed[..rows.len() * k]);
        let fits = "as many numbers as the rows have";
        let y = MatMut::new(&mut *part, count, k, k).expect(fits);
        let x_part = x.rows_range(rows.start, rows.end);
        pass.kernels.norm().normalize(x_part, norm, y);
        let normal = MatRef::new(&*part, count, k, k).expect(fits);
        pass.quantize(normal, rows.start, x.rows(), codes);
    }
}

/// A block whose codes do not fit a byte (eq. 24). `codes` holds the rows of fine codes, and as many rows of
/// coarse ones follow. Both planes meet a panel in turn, and their accumulators are combined before the
/// epilogue.
fn two_planes(
    pass: &Pass,
    plan: &Plan,
    codes: Codes<'_>,
    shift: u32,
    panels: Range<usize>,
    working: &mut [i32],
    mut y: Output<'_>,
) {
    let (micro, nr) = (pass.kernels.micro, pass.kernels.micro.tile.nr);
    let epilogue = pass.kernels.epilogue(y.destination());
    let (fine_sums, rest) = working.split_at_mut(plan.accumulators());
    let coarse_sums = &mut rest[..plan.accumulators()];
    for panel in panels.clone() {
        let weights = pass.panels(panel..panel + 1);
        let column = (panel - panels.start) * nr;
        let columns = nr.min(y.cols() - column);
        for step in steps(codes.rows, plan.step_rows) {
            let plane = |first_row: usize| Codes {
                bytes: &codes.bytes[first_row * codes.stride..],
                rows: step.len(),
                ..codes
            };
            micro.run(plane(step.start), weights, fine_sums);
            micro.run(plane(codes.rows + step.start), weights, coarse_sums);
            for (fine, coarse) in fine_sums.iter_mut().zip(&*coarse_sums) {
                *fine = fine.wrapping_add(coarse.wrapping_shl(shift));
            }
            let out = y.block(step.start, step.len(), column, columns);
            epilogue.finish(fine_sums, nr, pass.channels(panel), out);
        }
    }
}

/// A task's scratch.
pub(super) struct Parts<'a> {
    pub(super) codes: &'a mut [u8],
    /// The same, widened, for a kernel that reads them so.
    pub(super) wide: &'a mut [u8],
    /// The kernel's own.
    pub(super) working: &'a mut [i32],
    /// Rows of which the norm has been taken.
    pub(super) normed: &'a mut [f32],
}

impl<'a> Parts<'a> {
    pub(super) fn of(plan: &Plan, scratch: &'a mut [u8]) -> Self {
        let [codes_bytes, wide_bytes, working_bytes, normed_bytes] = plan.task_parts();
        let (codes, rest) = scratch.split_at_mut(codes_bytes);
        let (wide, rest) = rest.split_at_mut(wide_bytes);
        let (working, rest) = rest.split_at_mut(working_bytes);
        Parts {
            codes,
            wide,
            working: bytemuck::cast_slice_mut(working),
            normed: bytemuck::cast_slice_mut(&mut rest[..normed_bytes]),
        }
    }
}

/// Rows of codes that begin `stride` bytes apart as `micro` reads them, and the bytes between those:
/// themselves, or widened into `wide`.
pub(super) fn as_read<'a>(
    micro: Ready<MicroKernel>,
    codes: &'a [u8],
    stride: usize,
    wide: &'a mut [u8],
) -> (&'a [u8], usize) {
    match micro.code_bytes() {
        1 => (codes, stride),
        _ => {
            micro.widen(codes, wide);
            (wide, 2 * stride)
        }
    }
}

/// `0..total` in runs of `step`.
pub(super) fn steps(total: usize, step: usize) -> impl Iterator<Item = Range<usize>> {
    (0..total)
        .step_by(step)
        .map(move |start| start..total.min(start + step))
}
