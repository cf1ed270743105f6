//! Two layers in a row. A block of rows goes through both before the next one starts: what is between them
//! never leaves L2, and is there for one block alone.

use core::iter;
use core::ops::Range;

use noisyquant_kernels::cpu;
use noisyquant_kernels::layout::{K_ALIGN, codes_stride};
use noisyquant_kernels::output::Output;
use noisyquant_kernels::ready::NormNumbers;
use noisyquant_kernels::spec::Activation;
use noisyquant_kernels::view::{MatMut, MatRef};

use super::block::{self, Operand};
use super::executor::Executor;
use super::memory::Scratch;
use super::pass::{CodeRows, Pass};
use super::tasks::{self, cut};
use crate::error::Error;

/// `second(activation(first(x)))`; the second has as many inputs as the first has outputs.
#[derive(Clone, Copy)]
pub(crate) struct Chain<'a> {
    pub(crate) first: &'a Pass,
    pub(crate) activation: Activation,
    pub(crate) second: &'a Pass,
}

/// What the first layer reads, and where the outputs of the second go.
pub(crate) enum Ends<'a> {
    /// Each by itself.
    Apart(Operand<'a>, Output<'a>),
    /// f32 of which the norm is read, and which outputs are added to.
    Residual(MatMut<'a>, NormNumbers<'a>),
}

impl<'a> Ends<'a> {
    fn rows(&self) -> usize {
        match self {
            Ends::Apart(x, _) => x.rows(),
            Ends::Residual(tokens, _) => tokens.rows(),
        }
    }

    fn input(&self) -> Operand<'_> {
        match self {
            Ends::Apart(x, _) => *x,
            Ends::Residual(tokens, norm) => Operand::Normed(tokens.as_ref(), *norm),
        }
    }

    fn output(&mut self) -> Output<'_> {
        match self {
            Ends::Apart(_, y) => y.block(0, y.rows(), 0, y.cols()),
            Ends::Residual(tokens, _) => {
                Output::add(tokens.block(0, tokens.rows(), 0, tokens.cols()))
            }
        }
    }

    fn block(&mut self, rows: Range<usize>) -> Ends<'_> {
        match self {
            Ends::Apart(x, y) => {
                let columns = y.cols();
                Ends::Apart(
                    x.range(rows.clone()),
                    y.block(rows.start, rows.len(), 0, columns),
                )
            }
            Ends::Residual(tokens, norm) => {
                let columns = tokens.cols();
                Ends::Residual(tokens.block(rows.start, rows.len(), 0, columns), *norm)
            }
        }
    }

    fn split_rows(self, row: usize) -> (Ends<'a>, Ends<'a>) {
        match self {
            Ends::Apart(x, y) => {
                let (above, below) = y.split_rows(row);
                let rows = x.rows();
                (
                    Ends::Apart(x.range(0..row), above),
                    Ends::Apart(x.range(row..rows), below),
                )
            }
            Ends::Residual(tokens, norm) => {
                let (above, below) = tokens.split_rows(row);
                (Ends::Residual(above, norm), Ends::Residual(below, norm))
            }
        }
    }
}

/// How a call is cut.
struct Cut {
    /// Tasks that are worth it.
    tasks: usize,
    /// Rows that each task of many takes through both layers at a time.
    block_rows: usize,
}

impl Chain<'_> {
    fn cut(&self, rows: usize, threads: usize) -> Cut {
        let [first, second] = [self.first, self.second].map(|pass| pass.plan(rows, threads));
        let tasks = first.tasks.max(second.tasks);
        // As many rows as half of L2 holds codes of: weights are then read as few times as can be.
        let row = self.first.row_bytes() + self.second.row_bytes().max(self.hidden_bytes());
        let highest = (cpu::l2_bytes() / 2 / row).max(self.first.kernels.micro.tile.mr);
        let blocks = rows.div_ceil(tasks).div_ceil(highest).max(1);
        let block_rows = rows.div_ceil(tasks).div_ceil(blocks).max(1);
        Cut { tasks, block_rows }
    }

    /// Whether each task has rows of its own. Where they are few, tasks share out output channels.
    fn by_rows(&self, rows: usize, tasks: usize) -> bool {
        tasks == 1 || rows / (2 * self.first.kernels.micro.tile.mr) >= tasks
    }

    /// Bytes of a row of what is between the layers: codes, or numbers where they do not fit a byte.
    fn hidden_bytes(&self) -> usize {
        let bytes = match self.second.coding() {
            Some(_) => 1,
            None => size_of::<f32>(),
        };
        codes_stride(self.second.k * bytes)
    }

    /// Bytes of a task that takes up to `rows` rows through both layers at a time.
    fn task_bytes(&self, rows: usize) -> usize {
        let layers = [self.first, self.second].map(|pass| pass.task_bytes(rows));
        (rows.saturating_mul(self.hidden_bytes())).saturating_add(layers[0].max(layers[1]))
    }

    /// Bytes of scratch of calls of up to `max_rows` rows on so many threads.
    pub(crate) fn bytes(&self, max_rows: usize, threads: usize) -> usize {
        let rows = max_rows.max(1);
        let Cut { tasks, .. } = self.cut(rows, threads);
        // A call of fewer rows never has higher blocks than this.
        let highest = self.cut(usize::MAX, 1).block_rows.min(rows);
        let of_rows = tasks.saturating_mul(self.task_bytes(highest));
        // Nor more rows than this where tasks share out channels.
        let few = rows.min(2 * self.first.kernels.micro.tile.mr * tasks);
        let layers = [self.first, self.second].map(|pass| pass.scratch_bytes(few, threads));
        let of_channels = few * self.hidden_bytes() + layers[0].max(layers[1]);
        if tasks == 1 {
            of_rows
        } else {
            of_rows.max(of_channels)
        }
    }

    /// Runs both layers between `ends`, which have a row.
    ///
    /// # Errors
    ///
    /// [`Error::ScratchTooSmall`] if `scratch` does not hold one task.
    pub(crate) fn run(
        &self,
        ends: Ends<'_>,
        scratch: &mut Scratch<'_>,
        executor: Executor<'_>,
    ) -> Result<(), Error> {
        let rows = ends.rows();
        let Cut { tasks, block_rows } = self.cut(rows, executor.threads());
        // A scratch made for fewer threads may not hold all rows of one layer.
        if !self.by_rows(rows, tasks) && scratch.bytes() >= self.task_bytes(rows) {
            return self.run_apart(ends, scratch, executor);
        }
        let bytes = self.task_bytes(block_rows);
        let tasks = tasks.min(scratch.bytes() / bytes);
        if tasks <= 1 {
            self.run_blocks(ends, block_rows, scratch.first(bytes, rows)?);
            return Ok(());
        }
        let mut slots = scratch.as_mut_slice().chunks_exact_mut(bytes);
        let mut bands = (0..tasks).map(|number| cut(rows, tasks, number));
        let mut below = Some(ends);
        let parts = iter::from_fn(|| {
            let band = bands.next()?;
            let (ends, rest) = below.take()?.split_rows(band.len());
            below = Some(rest);
            Some((ends, slots.next()?))
        });
        executor.for_each(tasks, parts, |(ends, scratch)| {
            self.run_blocks(ends, block_rows, scratch);
        });
        Ok(())
    }

    /// Block after block, on this thread. `scratch` is [`task_bytes`](Self::task_bytes) long.
    fn run_blocks(&self, mut ends: Ends<'_>, block_rows: usize, scratch: &mut [u8]) {
        let [all_first, all_second] =
            [self.first, self.second].map(|pass| 0..pass.n.div_ceil(pass.kernels.micro.tile.nr));
        let (hidden, scratch) = scratch.split_at_mut(block_rows * self.hidden_bytes());
        for rows in block::steps(ends.rows(), block_rows) {
            let height = rows.len();
            let mut ends = ends.block(rows);
            let (first, second) = (self.first.plan(height, 1), self.second.plan(height, 1));
            let between = self.hidden_output(hidden, height);
            block::run(
                self.first,
                &first,
                ends.input(),
                between,
                all_first.clone(),
                scratch,
            );
            let input = self.hidden_input(hidden, height);
            block::run(
                self.second,
                &second,
                input,
                ends.output(),
                all_second.clone(),
                scratch,
            );
        }
    }

    /// One layer after the other, each on all threads. `scratch` has [`task_bytes`](Self::task_bytes) for all
    /// rows.
    fn run_apart(
        &self,
        mut ends: Ends<'_>,
        scratch: &mut Scratch<'_>,
        executor: Executor<'_>,
    ) -> Result<(), Error> {
        let rows = ends.rows();
        let (hidden, rest) = scratch
            .as_mut_slice()
            .split_at_mut(rows * self.hidden_bytes());
        let mut rest = Scratch::from_slice(rest)?;
        let between = self.hidden_output(hidden, rows);
        tasks::run(self.first, ends.input(), between, &mut rest, executor)?;
        let input = self.hidden_input(hidden, rows);
        tasks::run(self.second, input, ends.output(), &mut rest, executor)
    }

    /// `hidden` as what the first layer writes.
    fn hidden_output<'h>(&'h self, hidden: &'h mut [u8], rows: usize) -> Output<'h> {
        let (k, row) = (self.second.k, self.hidden_bytes());
        let hidden = &mut hidden[..rows * row];
        let fits = "a row for each row of the block";
        let output = match self.second.coding() {
            Some(coding) => {
                if !k.is_multiple_of(K_ALIGN) {
                    for codes in hidden.chunks_exact_mut(row) {
                        codes[k..].fill(0u8.wrapping_sub(coding.form.offset));
                    }
                }
                Output::codes(hidden, rows, row, coding).expect(fits)
            }
            None => {
                let numbers: &mut [f32] = bytemuck::cast_slice_mut(hidden);
                let stride = row / size_of::<f32>();
                MatMut::new(numbers, rows, k, stride).expect(fits).into()
            }
        };
        output.activated(self.activation)
    }

    /// `hidden` as what the second layer reads.
    fn hidden_input<'h>(&self, hidden: &'h [u8], rows: usize) -> Operand<'h> {
        let (k, stride) = (self.second.k, self.hidden_bytes());
        let bytes = &hidden[..rows * stride];
        match self.second.coding() {
            Some(_) => Operand::Codes(CodeRows { bytes, stride }),
            None => {
                let numbers: &[f32] = bytemuck::cast_slice(bytes);
                let x = MatRef::new(numbers, rows, k, stride / size_of::<f32>());
                Operand::Rows(x.expect("a row for each row of the block"))
            }
        }
    }
}
