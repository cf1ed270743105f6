//! The single pass: blocks of rows are quantized just before they are used, multiplied with one
//! panel after another, and finished while the accumulators are in registers or L1.

use std::ops::Range;

use noisyquant_kernels::layout::{codes_stride, padded_k};
use noisyquant_kernels::ready::{Codes, Panels, Ready};
use noisyquant_kernels::row::MicroKernel;
use noisyquant_kernels::view::{MatMut, MatRef};

use crate::linear::QuantLinear;
use crate::plan::Plan;

/// Computes the output channels of `panels` for all rows of `x` into `y`, on this thread.
/// `scratch` is [`Plan::task_bytes`] long.
pub(crate) fn run(
    layer: &QuantLinear,
    plan: &Plan,
    x: MatRef<'_>,
    mut y: MatMut<'_>,
    panels: Range<usize>,
    scratch: &mut [u8],
) {
    let kernels = layer.kernels();
    let (micro, nr) = (kernels.micro, kernels.micro.tile.nr);
    let prologue = kernels.prologue(x.elem());
    let epilogue = kernels.epilogue(y.elem());
    let stride = codes_stride(x.cols());
    let planes = if layer.second_plane().is_some() { 2 } else { 1 };
    let columns = y.cols();
    let (max_code, max_weight) = layer.largest_operands();
    let inputs = padded_k(x.cols());

    let (codes, wide, working) = split_scratch(plan, scratch);
    for block in steps(x.rows(), plan.block_rows) {
        let rows = x.rows_range(block.start, block.end);
        layer.quantize(prologue, rows, codes, stride);
        let used = planes * block.len() * stride;
        let (bytes, stride) = as_read(micro, &codes[..used], stride, wide);
        if let Some(shift) = layer.second_plane() {
            let planes = Planes {
                bytes,
                stride,
                rows: block.len(),
                k: inputs,
                max: max_code,
                shift,
            };
            let out = y.block(block.start, block.len(), 0, columns);
            two_planes(layer, plan, planes, panels.clone(), working, out);
            continue;
        }
        let codes = Codes {
            bytes,
            stride,
            rows: block.len(),
            k: inputs,
            max: max_code,
        };
        let weights = Panels {
            bytes: layer.weights().panels(panels.clone()),
            max: max_weight,
        };
        let channels = layer.channels(panels.start * nr);
        let out = y.block(block.start, block.len(), 0, columns);
        micro.run_block(codes, weights, epilogue, channels, working, out);
    }
}

/// The codes of a block in two planes (eq. 24): all rows of fine codes, then all rows of coarse ones,
/// which count `2^shift` times as much.
struct Planes<'a> {
    bytes: &'a [u8],
    stride: usize,
    rows: usize,
    k: usize,
    max: u8,
    shift: u32,
}

/// A block whose codes do not fit a byte: both planes meet a panel in turn, and their accumulators are
/// combined before the epilogue.
fn two_planes(
    layer: &QuantLinear,
    plan: &Plan,
    planes: Planes<'_>,
    panels: Range<usize>,
    working: &mut [i32],
    mut y: MatMut<'_>,
) {
    let kernels = layer.kernels();
    let (micro, nr) = (kernels.micro, kernels.micro.tile.nr);
    let epilogue = kernels.epilogue(y.elem());
    let (fine_sums, rest) = working.split_at_mut(plan.accumulators());
    let coarse_sums = &mut rest[..plan.accumulators()];
    for panel in panels.clone() {
        let weights = Panels {
            bytes: layer.weights().panels(panel..panel + 1),
            max: layer.largest_operands().1,
        };
        let column = (panel - panels.start) * nr;
        let columns = nr.min(y.cols() - column);
        for step in steps(planes.rows, plan.step_rows) {
            let codes = |first_row: usize| Codes {
                bytes: &planes.bytes[first_row * planes.stride..],
                stride: planes.stride,
                rows: step.len(),
                k: planes.k,
                max: planes.max,
            };
            micro.run(codes(step.start), weights, fine_sums);
            micro.run(codes(planes.rows + step.start), weights, coarse_sums);
            for (fine, coarse) in fine_sums.iter_mut().zip(&*coarse_sums) {
                *fine = fine.wrapping_add(coarse.wrapping_shl(planes.shift));
            }
            let out = y.block(step.start, step.len(), column, columns);
            epilogue.finish(fine_sums, nr, layer.channels(panel * nr), out);
        }
    }
}

/// A task's scratch as codes, widened codes, and the kernel's working memory.
pub(crate) fn split_scratch<'a>(
    plan: &Plan,
    scratch: &'a mut [u8],
) -> (&'a mut [u8], &'a mut [u8], &'a mut [i32]) {
    let [codes_bytes, wide_bytes, working_bytes] = plan.task_parts();
    let (codes, rest) = scratch.split_at_mut(codes_bytes);
    let (wide, rest) = rest.split_at_mut(wide_bytes);
    let working = bytemuck::cast_slice_mut(&mut rest[..working_bytes]);
    (codes, wide, working)
}

/// Rows of codes that begin `stride` bytes apart as `micro` reads them, and the bytes between those:
/// themselves, or widened into `wide`.
pub(crate) fn as_read<'a>(
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
pub(crate) fn steps(total: usize, step: usize) -> impl Iterator<Item = Range<usize>> {
    (0..total)
        .step_by(step)
        .map(move |start| start..total.min(start + step))
}
