//! Multi-head attention of many short sequences (images, or windows of one image), its products in f32 or
//! in integers.
//!
//! Queries are taken in blocks small enough for their scores against all keys to stay in the
//! nearest caches: a block's products, softmax and products with the values are done before the
//! next begins. In f32, every number is a chain of fused multiply-adds in a fixed order, one lane a query
//! or feature; in integers, every sum is exact. So the results have the same bits for any number of threads
//! and on every CPU; no gemm library promises that.

use noisyquant::Isa;

use super::{
    float,
    heads::{Bias, Heads, Part},
    integer::{self, Products},
};

/// Multiply-adds below which a second thread costs more than it saves.
const THREAD_PAYS: usize = 1 << 18;

/// How the two products of attention run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Arithmetic {
    Float,
    /// On 8-bit integers, with the kernels of this instruction set, and without a bias.
    Int8(Isa),
}

/// Intermediate results of [`Heads::attend`], made once and used again.
#[derive(Debug)]
pub(crate) struct AttentionScratch {
    threads: Vec<ThreadScratch>,
    /// See [`integer::noise`].
    noise: Vec<f32>,
}

/// Those of one thread.
#[derive(Debug, Default)]
struct ThreadScratch {
    numbers: Vec<f32>,
    /// Of each instruction set that was asked for so far.
    products: Vec<Products>,
}

impl AttentionScratch {
    /// Scratch for attention of any of these `sizes` on up to `threads` threads.
    pub(crate) fn new(sizes: impl IntoIterator<Item = Heads>, threads: usize) -> Self {
        let (mut numbers, mut tokens) = (0, 0);
        for heads in sizes {
            numbers = numbers.max(task_numbers(heads));
            tokens = tokens.max(heads.tokens);
        }
        let scratch = |_| ThreadScratch {
            numbers: vec![0.0; numbers],
            products: Vec::new(),
        };
        Self {
            threads: (0..threads.max(1)).map(scratch).collect(),
            noise: integer::noise(tokens),
        }
    }
}

impl ThreadScratch {
    /// Numbers, and the products on `isa`.
    fn on(&mut self, isa: Isa) -> Result<(&mut [f32], &mut Products), noisyquant::Error> {
        let found = self
            .products
            .iter()
            .position(|products| products.isa() == isa);
        let at = match found {
            Some(at) => at,
            None => {
                self.products.push(Products::new(isa)?);
                self.products.len() - 1
            }
        };
        Ok((&mut self.numbers, &mut self.products[at]))
    }
}

impl Heads {
    /// Write `mixed[sequences, tokens, width]`, in each head `softmax(q · kᵀ / √d + bias) · v`, with
    /// `qkv[sequences, tokens, 3 · width]` holding all heads of q, then all of k, then all of v.
    ///
    /// Runs on rayon's current pool if `scratch` was made for more than one thread and the work is
    /// worth it.
    ///
    /// # Errors
    ///
    /// Of integer products: an instruction set that this CPU lacks, or more than 65 536 tokens.
    ///
    /// # Panics
    ///
    /// If there is a bias for integer products.
    pub(crate) fn attend(
        self,
        arithmetic: Arithmetic,
        qkv: &[f32],
        bias: Option<Bias<'_>>,
        mixed: &mut [f32],
        scratch: &mut AttentionScratch,
    ) -> Result<(), noisyquant::Error> {
        let integers = arithmetic != Arithmetic::Float;
        assert!(!integers || bias.is_none(), "a bias for integer products");
        let sequences = mixed.len() / (self.tokens * self.width);
        let work = 2 * sequences * self.tokens * self.tokens * self.width;
        let threads = scratch
            .threads
            .len()
            .min(rayon::current_num_threads())
            .min(work / THREAD_PAYS)
            .max(1);
        let part = Part {
            units: 0..sequences * self.units(),
            heads: 0..self.heads,
            mixed: mixed.chunks_exact_mut(self.width).collect(),
        };
        let call = Call {
            heads: self,
            arithmetic,
            qkv,
            bias,
            noise: &scratch.noise,
        };
        call.divide(part, &mut scratch.threads[..threads])
    }
}

/// Numbers of scratch that a thread needs.
fn task_numbers(heads: Heads) -> usize {
    float::Task::numbers(heads).max(integer::Task::numbers(heads))
}

/// What all threads of a call share.
#[derive(Clone, Copy)]
struct Call<'a> {
    heads: Heads,
    arithmetic: Arithmetic,
    qkv: &'a [f32],
    bias: Option<Bias<'a>>,
    noise: &'a [f32],
}

impl Call<'_> {
    /// Halve the work until each thread that there is scratch for has a part: by heads where that leaves
    /// no thread with more than another and sequences do not, as the last unit of a sequence is dear for its
    /// rows.
    fn divide(
        self,
        part: Part<'_>,
        scratch: &mut [ThreadScratch],
    ) -> Result<(), noisyquant::Error> {
        let (heads, threads) = (self.heads, scratch.len());
        let (units, count) = (part.units.len(), part.heads.len());
        let by_heads =
            !units.is_multiple_of(heads.units() * threads) && count.is_multiple_of(threads);
        if threads == 1 || units == 1 && !by_heads {
            return self.run(part, &mut scratch[0]);
        }
        let many = threads.div_ceil(2);
        let (first, second) = match by_heads {
            true => part.split_heads(count * many / threads, heads.features()),
            false => {
                let middle = part.units.start + units * many / threads;
                let rows = heads.first_row(middle) - heads.first_row(part.units.start);
                part.split_units(middle, rows)
            }
        };
        let (left, right) = scratch.split_at_mut(many);
        let (left, right) = rayon::join(|| self.divide(first, left), || self.divide(second, right));
        left.and(right)
    }

    /// A part on this thread.
    fn run(self, part: Part<'_>, scratch: &mut ThreadScratch) -> Result<(), noisyquant::Error> {
        let Self {
            heads,
            qkv,
            bias,
            noise,
            ..
        } = self;
        match self.arithmetic {
            Arithmetic::Float => {
                pulp::Arch::new().dispatch(float::Task {
                    heads,
                    qkv,
                    bias,
                    part,
                    scratch: &mut scratch.numbers,
                });
                Ok(())
            }
            Arithmetic::Int8(isa) => {
                let (scratch, products) = scratch.on(isa)?;
                let task = integer::Task {
                    heads,
                    qkv,
                    part,
                    noise,
                    scratch,
                    products,
                };
                task.run()
            }
        }
    }
}
