//! Multi-head attention of many short sequences (images, or windows of one image) in f32.
//!
//! Queries are taken in blocks small enough for their scores against all keys to stay in the
//! nearest caches: a block's products, softmax and products with the values are done before the
//! next begins. Every number is a chain of fused multiply-adds in a fixed order, one lane a query
//! or feature, so the results have the same bits for any number of threads and on every CPU; no
//! gemm library promises that.

mod kernel;

use std::ops::Range;

use kernel::Task;

/// Queries in a unit of the work that is divided between threads; a multiple of every kernel's
/// block.
const UNIT: usize = 32;

/// Multiply-adds below which a second thread costs more than it saves.
const THREAD_PAYS: usize = 1 << 18;

/// Sizes of the attention of one sequence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    pub(crate) tokens: usize,
    /// Features of a token, of all heads together.
    pub(crate) width: usize,
    pub(crate) heads: usize,
}

/// What is added to the scaled scores before softmax.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bias<'a> {
    /// `[heads, tokens, tokens]`: of each head, of each query, for each key.
    pub(crate) per_head: &'a [f32],
    /// `[windows, tokens, tokens]`: sequence `s` adds `mask[s % windows]` in every head. −∞ hides a
    /// key from a query.
    pub(crate) mask: Option<&'a [f32]>,
}

/// Intermediate results of [`Heads::attend`], made once and used again.
#[derive(Debug, Default)]
pub(crate) struct AttentionScratch {
    numbers: Vec<f32>,
    threads: usize,
}

impl AttentionScratch {
    /// Scratch for attention of any of these `sizes` on up to `threads` threads.
    pub(crate) fn new(sizes: impl IntoIterator<Item = Heads>, threads: usize) -> Self {
        let numbers = sizes.into_iter().map(Heads::task_numbers).max();
        let threads = threads.max(1);
        Self {
            numbers: vec![0.0; numbers.unwrap_or(0) * threads],
            threads,
        }
    }
}

impl Heads {
    /// Features of one head.
    fn features(self) -> usize {
        self.width / self.heads
    }

    /// Units of one sequence.
    fn units(self) -> usize {
        self.tokens.div_ceil(UNIT)
    }

    /// Numbers of scratch that a thread needs: a block of queries, its scores, its bias and its
    /// mask.
    fn task_numbers(self) -> usize {
        UNIT * (self.features() + 3 * self.tokens)
    }

    /// Write `mixed[sequences, tokens, width]`, in each head `softmax(q · kᵀ / √d + bias) · v`, with
    /// `qkv[sequences, tokens, 3 · width]` holding all heads of q, then all of k, then all of v.
    ///
    /// Runs on rayon's current pool if `scratch` was made for more than one thread and the work is
    /// worth it.
    pub(crate) fn attend(
        self,
        qkv: &[f32],
        bias: Option<Bias<'_>>,
        mixed: &mut [f32],
        scratch: &mut AttentionScratch,
    ) {
        let sequences = mixed.len() / (self.tokens * self.width);
        let work = 2 * sequences * self.tokens * self.tokens * self.width;
        let threads = scratch
            .threads
            .min(rayon::current_num_threads())
            .min(work / THREAD_PAYS)
            .max(1);
        let scratch = &mut scratch.numbers[..threads * self.task_numbers()];
        let units = 0..sequences * self.units();
        self.divide(qkv, bias, units, mixed, scratch, threads);
    }

    /// Halve the work until each of `threads` threads has a part; `mixed` holds the rows of
    /// `units`.
    fn divide(
        self,
        qkv: &[f32],
        bias: Option<Bias<'_>>,
        units: Range<usize>,
        mixed: &mut [f32],
        scratch: &mut [f32],
        threads: usize,
    ) {
        if threads == 1 || units.len() == 1 {
            let scratch = &mut scratch[..self.task_numbers()];
            pulp::Arch::new().dispatch(Task {
                heads: self,
                qkv,
                bias,
                units,
                mixed,
                scratch,
            });
            return;
        }
        let many = threads.div_ceil(2);
        let middle = units.start + units.len() * many / threads;
        let rows = self.first_row(middle) - self.first_row(units.start);
        let (above, below) = mixed.split_at_mut(rows * self.width);
        let (left, right) = scratch.split_at_mut(many * self.task_numbers());
        rayon::join(
            || self.divide(qkv, bias, units.start..middle, above, left, many),
            || self.divide(qkv, bias, middle..units.end, below, right, threads - many),
        );
    }

    /// The row of `mixed` at which `unit` begins.
    fn first_row(self, unit: usize) -> usize {
        unit / self.units() * self.tokens + unit % self.units() * UNIT
    }
}

#[cfg(test)]
mod tests;
