//! Tasks on rayon's ambient pool. Every output is computed by one task from the same operands, so
//! the bits do not depend on how many there are.

use std::ops::Range;

use noisyquant_kernels::view::{MatMut, MatRef};

use crate::gemm;
use crate::linear::QuantLinear;
use crate::plan::{Plan, Split};

/// Computes the channels of `panels` for all rows of `x` into `y`, halving the work until each of
/// `tasks` threads has a part. One task runs right here, without rayon.
pub(crate) fn run(
    layer: &QuantLinear,
    plan: &Plan,
    tasks: usize,
    x: MatRef<'_>,
    y: MatMut<'_>,
    panels: Range<usize>,
    scratch: &mut [u8],
) {
    let split = if tasks > 1 {
        plan.split(x.rows(), panels.len())
    } else {
        None
    };
    let (few, many) = (tasks / 2, tasks - tasks / 2);
    let share = |total: usize| total * many / tasks;
    let Some(split) = split else {
        gemm::run(layer, plan, x, y, panels, &mut scratch[..plan.task_bytes()]);
        return;
    };
    let (left, right) = scratch.split_at_mut(many * plan.task_bytes());
    match split {
        Split::Rows => {
            let row = share(x.rows());
            let (above, below) = (x.rows_range(0, row), x.rows_range(row, x.rows()));
            let (y_above, y_below) = y.split_rows(row);
            let same = panels.clone();
            rayon::join(
                || run(layer, plan, many, above, y_above, same, left),
                || run(layer, plan, few, below, y_below, panels, right),
            );
        }
        Split::Columns => {
            let middle = panels.start + share(panels.len());
            let column = (middle - panels.start) * layer.kernels().micro.tile.nr;
            let (y_left, y_right) = y.split_cols(column);
            rayon::join(
                || run(layer, plan, many, x, y_left, panels.start..middle, left),
                || run(layer, plan, few, x, y_right, middle..panels.end, right),
            );
        }
    }
}
