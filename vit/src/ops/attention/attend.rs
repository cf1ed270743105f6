//! Multi-head attention of many short sequences (images, or windows of one image), its products in f32 or
//! in integers.
//!
//! Queries are taken in blocks small enough for their scores against all keys to stay in the
//! nearest caches: a block's products, softmax and products with the values are done before the
//! next begins. In f32, every number is a chain of fused multiply-adds in a fixed order, one lane a query
//! or feature; in integers, every sum is exact. So the results have the same bits for any number of threads
//! and on every CPU; no gemm library promises that.

use noisyquant::DynamicMatmul;

use super::{
    super::lines::Lines,
    float,
    heads::{Bias, Heads, Mixed, Part, UNIT},
    integer::{self, ProductSizes, Products},
};

/// Multiply-adds below which a second thread costs more than it saves.
const THREAD_PAYS: usize = 1 << 18;

/// How the two products of attention run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arithmetic {
    Float,
    /// On 8-bit integers, with these kernels, and without a bias.
    Int8(DynamicMatmul),
}

/// How much memory the intermediate results of [`Heads::attend`] take.
#[derive(Clone, Debug)]
pub(crate) struct AttentionSizes {
    threads: usize,
    /// Of each thread.
    numbers: usize,
    products: ProductSizes,
    /// See [`integer::noise`].
    noise: Vec<f32>,
}

/// Intermediate results of [`Heads::attend`].
#[derive(Debug)]
pub(crate) struct AttentionScratch<'a> {
    threads: Vec<ThreadScratch<'a>>,
    noise: &'a [f32],
}

/// Those of one thread.
#[derive(Debug)]
struct ThreadScratch<'a> {
    numbers: &'a mut [f32],
    products: Products<'a>,
}

impl AttentionSizes {
    /// Of attention of any of these `sizes` in any of these `arithmetics`, on up to `threads` threads.
    pub(crate) fn new(
        sizes: impl IntoIterator<Item = Heads>,
        arithmetics: impl IntoIterator<Item = Arithmetic> + Clone,
        threads: usize,
    ) -> Self {
        let (mut numbers, mut tokens) = (0, 0);
        let mut products = ProductSizes::default();
        for heads in sizes {
            numbers = numbers.max(task_numbers(heads));
            tokens = tokens.max(heads.tokens);
            for arithmetic in arithmetics.clone() {
                if let Arithmetic::Int8(matmul) = arithmetic {
                    products = products.max(ProductSizes::of(heads, matmul));
                }
            }
        }
        Self {
            threads: threads.max(1),
            numbers,
            products,
            noise: integer::noise(tokens),
        }
    }

    /// Bytes of all threads.
    pub(crate) fn bytes(&self) -> usize {
        self.threads * (Lines::of_numbers(self.numbers) + self.products.bytes())
    }

    /// Cut out of `memory`.
    pub(crate) fn cut<'a>(&'a self, memory: &mut Lines<'a>) -> AttentionScratch<'a> {
        let scratch = |_| ThreadScratch {
            numbers: memory.numbers(self.numbers),
            products: self.products.cut(memory),
        };
        AttentionScratch {
            threads: (0..self.threads).map(scratch).collect(),
            noise: &self.noise,
        }
    }
}

impl Heads {
    /// Write `mixed[sequences, queries, width]`, in each head `softmax(q · kᵀ / √d + bias) · v` or the codes
    /// of it, with `qkv[sequences, tokens, 3 · width]` holding all heads of q, then all of k, then all of v.
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
    /// If there is a bias for integer products, or if products in f32 are to be codes.
    pub(crate) fn attend(
        self,
        arithmetic: Arithmetic,
        qkv: &[f32],
        bias: Option<Bias<'_>>,
        mixed: Mixed<'_>,
        scratch: &mut AttentionScratch<'_>,
    ) -> Result<(), noisyquant::Error> {
        let float = matches!(arithmetic, Arithmetic::Float);
        assert!(float || bias.is_none(), "a bias for integer products");
        let codes = matches!(mixed, Mixed::Codes(_));
        assert!(!float || !codes, "codes of products in f32");
        let sequences = qkv.len() / (self.tokens * 3 * self.width);
        // A unit of few queries costs about what a full one does: lanes stay empty, operands are packed.
        let work = 2 * sequences * self.units() * UNIT * self.tokens * self.width;
        let threads = scratch
            .threads
            .len()
            .min(rayon::current_num_threads())
            .min(work / THREAD_PAYS)
            .max(1);
        let part = Part {
            units: 0..sequences * self.units(),
            heads: 0..self.heads,
            mixed,
        };
        let call = Call {
            heads: self,
            arithmetic,
            qkv,
            bias,
            noise: scratch.noise,
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
        scratch: &mut [ThreadScratch<'_>],
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
    fn run(self, part: Part<'_>, scratch: &mut ThreadScratch<'_>) -> Result<(), noisyquant::Error> {
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
                    scratch: scratch.numbers,
                });
                Ok(())
            }
            Arithmetic::Int8(matmul) => {
                let task = integer::Task {
                    heads,
                    matmul,
                    qkv,
                    part,
                    noise,
                    scratch: scratch.numbers,
                    products: &mut scratch.products,
                };
                task.run()
            }
        }
    }
}
