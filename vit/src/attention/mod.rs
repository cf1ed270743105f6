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

/// What one thread, or a few, do.
struct Part<'a> {
    /// Units of queries.
    units: Range<usize>,
    heads: Range<usize>,
    /// The rows of `units`, of each the features of `heads`.
    mixed: Vec<&'a mut [f32]>,
}

impl Part<'_> {
    /// The units before and from `unit` on, which begins at row `row`.
    fn split_units(mut self, unit: usize, row: usize) -> (Self, Self) {
        let second = Part {
            units: unit..self.units.end,
            heads: self.heads.clone(),
            mixed: self.mixed.split_off(row),
        };
        self.units.end = unit;
        (self, second)
    }

    /// The first `count` heads of so many features, and the others.
    fn split_heads(self, count: usize, features: usize) -> (Self, Self) {
        let Part {
            units,
            heads: Range { start, end },
            mixed,
        } = self;
        let halves = mixed
            .into_iter()
            .map(|row| row.split_at_mut(count * features));
        let (first, second) = halves.unzip();
        let part = |heads, mixed| Part {
            units: units.clone(),
            heads,
            mixed,
        };
        (
            part(start..start + count, first),
            part(start + count..end, second),
        )
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
        let part = Part {
            units: 0..sequences * self.units(),
            heads: 0..self.heads,
            mixed: mixed.chunks_exact_mut(self.width).collect(),
        };
        let scratch = &mut scratch.numbers[..threads * self.task_numbers()];
        self.divide(qkv, bias, part, scratch, threads);
    }

    /// Halve the work until each of `threads` threads has a part: by heads where that leaves no thread
    /// with more than another and sequences do not, as the last unit of a sequence is dear for its rows.
    fn divide(
        self,
        qkv: &[f32],
        bias: Option<Bias<'_>>,
        part: Part<'_>,
        scratch: &mut [f32],
        threads: usize,
    ) {
        let (units, heads) = (part.units.len(), part.heads.len());
        let by_heads =
            !units.is_multiple_of(self.units() * threads) && heads.is_multiple_of(threads);
        if threads == 1 || units == 1 && !by_heads {
            let scratch = &mut scratch[..self.task_numbers()];
            pulp::Arch::new().dispatch(Task {
                heads: self,
                qkv,
                bias,
                part,
                scratch,
            });
            return;
        }
        let many = threads.div_ceil(2);
        let (first, second) = match by_heads {
            true => part.split_heads(heads * many / threads, self.features()),
            false => {
                let middle = part.units.start + units * many / threads;
                let rows = self.first_row(middle) - self.first_row(part.units.start);
                part.split_units(middle, rows)
            }
        };
        let (left, right) = scratch.split_at_mut(many * self.task_numbers());
        rayon::join(
            || self.divide(qkv, bias, first, left, many),
            || self.divide(qkv, bias, second, right, threads - many),
        );
    }

    /// The row of `mixed` at which `unit` begins.
    fn first_row(self, unit: usize) -> usize {
        unit / self.units() * self.tokens + unit % self.units() * UNIT
    }
}

#[cfg(test)]
mod tests;
