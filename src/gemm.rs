//! The single pass: blocks of rows are quantized just before they are used, multiplied with one
//! panel after another, and finished while the accumulators are still in L1.

use std::ops::Range;

use noisyquant_kernels::layout::codes_stride;
use noisyquant_kernels::table::Codes;
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

    let [codes_bytes, wide_bytes, _] = plan.task_parts();
    let (codes, rest) = scratch.split_at_mut(codes_bytes);
    let (wide, accumulators) = rest.split_at_mut(wide_bytes);
    let accumulators: &mut [i32] = bytemuck::cast_slice_mut(accumulators);

    for block in steps(x.rows(), plan.block_rows) {
        let rows = x.rows_range(block.start, block.end);
        layer.quantize(prologue, rows, codes, stride);
        let (bytes, stride) = match micro.code_bytes() {
            1 => (&*codes, stride),
            _ => {
                let used = block.len() * stride;
                micro.widen(&codes[..used], wide);
                (&*wide, 2 * stride)
            }
        };
        let codes = Codes {
            bytes,
            stride,
            rows: block.len(),
        };
        let weights = layer.weights().panels(panels.clone());
        let channels = layer.channels(panels.start * nr);
        let columns = y.cols();
        let out = y.block(block.start, block.len(), 0, columns);
        micro.run_block(codes, weights, epilogue, channels, accumulators, out);
    }
}

/// `0..total` in runs of `step`.
fn steps(total: usize, step: usize) -> impl Iterator<Item = Range<usize>> {
    (0..total)
        .step_by(step)
        .map(move |start| start..total.min(start + step))
}
