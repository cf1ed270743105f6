//! A call cut into tasks. Every output is computed by one task from the same operands, so the bits do not
//! depend on how many there are.

use core::iter;
use core::ops::Range;

use noisyquant_kernels::output::Output;

use super::block::{self, Operand};
use super::executor::Executor;
use super::memory::Scratch;
use super::pass::Pass;
use crate::error::Error;

/// What one task computes: some output channels for some rows.
struct Task<'a> {
    x: Operand<'a>,
    y: Output<'a>,
    panels: Range<usize>,
    scratch: &'a mut [u8],
}

/// Makes `y`, `[rows, pass.n]`, of `x`, `[rows, pass.k]`; at least one row.
///
/// # Errors
///
/// [`Error::ScratchTooSmall`] if `scratch` does not hold one task.
pub(crate) fn run(
    pass: &Pass,
    x: Operand<'_>,
    y: Output<'_>,
    scratch: &mut Scratch<'_>,
    executor: Executor<'_>,
) -> Result<(), Error> {
    let (rows, nr) = (x.rows(), pass.kernels.micro.tile.nr);
    let (panels, together) = (pass.n.div_ceil(nr), pass.kernels.micro.together());
    let plan = pass.plan(rows, executor.threads());
    let bytes = plan.task_bytes();
    // A scratch made for fewer threads holds fewer tasks; one is enough.
    let slots = scratch.bytes() / bytes;
    if slots <= 1 || plan.tasks == 1 {
        let scratch = scratch.first(bytes, rows)?;
        block::run(pass, &plan, x, y, 0..panels, scratch);
        return Ok(());
    }
    let grid = plan.grid(plan.tasks.min(slots));
    let mut slots = scratch.as_mut_slice().chunks_exact_mut(bytes);
    let mut numbers = 0..grid.parts();
    // What is still to be handed out: the bands below, and of this band the columns on the right.
    let (mut below, mut right) = (Some(y), None);
    let tasks = iter::from_fn(|| {
        let number = numbers.next()?;
        let band = cut(rows, grid.bands, number / grid.groups);
        let whole = cut(panels.div_ceil(together), grid.groups, number % grid.groups);
        let panels = whole.start * together..panels.min(whole.end * together);
        let y = match right.take() {
            Some(y) if panels.start > 0 => y,
            _ => {
                let (above, rest) = below.take()?.split_rows(band.len());
                below = Some(rest);
                above
            }
        };
        let columns = y.cols().min(panels.len() * nr);
        let (y, rest) = y.split_cols(columns);
        right = Some(rest);
        Some(Task {
            x: x.range(band),
            y,
            panels,
            scratch: slots.next()?,
        })
    });
    executor.for_each(grid.parts(), tasks, |task| {
        block::run(pass, &plan, task.x, task.y, task.panels, task.scratch);
    });
    Ok(())
}

/// Part `number` of `0..total` in `parts` of the same length, or one more.
pub(super) fn cut(total: usize, parts: usize, number: usize) -> Range<usize> {
    total * number / parts..total * (number + 1) / parts
}
