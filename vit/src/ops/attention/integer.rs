//! Attention whose two products run on 8-bit integers; the part of it that one thread does.
//!
//! ```text
//!   k of a head ─▶ codes, packed ──┐         v of a head ─▶ codes, packed ──┐
//!   q of a block ─▶ codes ─────────┴─▶ scores ─▶ levels 0 ..= 255 ──────────┴─▶ sums ─▶ mixed
//! ```
//!
//! The exponentials of softmax are in `0 ..= 1`, so their levels need no range to be found. Most of them
//! are far below one level, but they are many: rounded to nearest they vanish, and with them a good part of
//! what is to be mixed. So a fixed noisy bias is added before they are rounded, as NoisyQuant adds one to the
//! input of a layer. It is uniform over one level, which makes rounded levels right on average, and so there
//! is nothing to be corrected (docs/math.md, eq. 34).
//!
//! What a block has mixed may go on as codes of the layer behind ([`Mixed::Codes`](super::Mixed::Codes)).

use std::{f32::consts::LOG2_E, ops::Range};

use noisyquant::{DynamicMatmul, DynamicRange, Error, MatMut, MatRef, Scratch};
use pulp::{Simd, WithSimd};

use super::{
    super::{lines::Lines, vectorise::vectorised},
    exponential::{ROUND, polynomial, split_exponent},
    heads::{Heads, Part, UNIT},
};

/// Queries at a time: whole tiles of most kernels, and their scores stay in L1.
const BLOCK: usize = 24;

/// Lanes of the widest vectors: rows of scores are padded to a multiple, and so to whole vectors of any CPU.
const LANES: usize = 16;

/// The largest level.
const MOST: f32 = 255.0;

/// Bytes of [`Products`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ProductSizes {
    keys: OperandSizes,
    values: OperandSizes,
    levels: usize,
    scratch: usize,
}

/// Bytes of an [`Operand`].
#[derive(Clone, Copy, Debug, Default)]
struct OperandSizes {
    packed: usize,
    constants: usize,
}

impl ProductSizes {
    pub(super) fn of(heads: Heads, matmul: DynamicMatmul) -> Self {
        let (tokens, features) = (heads.tokens, heads.features());
        Self {
            keys: OperandSizes::of(matmul, tokens, features),
            values: OperandSizes::of(matmul, features, tokens),
            levels: BLOCK * matmul.codes_stride(tokens),
            scratch: (matmul.scratch_bytes(BLOCK, tokens, features))
                .max(matmul.scratch_bytes(BLOCK, features, tokens)),
        }
    }

    /// Enough for both.
    pub(super) fn max(self, other: Self) -> Self {
        Self {
            keys: self.keys.max(other.keys),
            values: self.values.max(other.values),
            levels: self.levels.max(other.levels),
            scratch: self.scratch.max(other.scratch),
        }
    }

    pub(super) fn bytes(self) -> usize {
        let [levels, scratch] = [self.levels, self.scratch].map(Lines::bytes);
        self.keys.bytes() + self.values.bytes() + levels + scratch
    }

    pub(super) fn cut<'a>(self, memory: &mut Lines<'a>) -> Products<'a> {
        Products {
            keys: self.keys.cut(memory),
            values: self.values.cut(memory),
            levels: memory.cut(self.levels),
            scratch: memory.scratch(self.scratch),
        }
    }
}

impl OperandSizes {
    fn of(matmul: DynamicMatmul, outputs: usize, inputs: usize) -> Self {
        Self {
            packed: matmul.operand_bytes(outputs, inputs),
            constants: matmul.product_bytes(outputs, inputs),
        }
    }

    fn max(self, other: Self) -> Self {
        Self {
            packed: self.packed.max(other.packed),
            constants: self.constants.max(other.constants),
        }
    }

    fn bytes(self) -> usize {
        Lines::bytes(self.packed) + Lines::bytes(self.constants)
    }

    fn cut<'a>(self, memory: &mut Lines<'a>) -> Operand<'a> {
        Operand {
            packed: memory.scratch(self.packed),
            constants: memory.scratch(self.constants),
        }
    }
}

/// Memory of the keys and values of the head at hand, and of their products.
#[derive(Debug)]
pub(super) struct Products<'a> {
    keys: Operand<'a>,
    values: Operand<'a>,
    /// Codes of a block's softmax.
    levels: &'a mut [u8],
    scratch: Scratch<'a>,
}

/// Memory of a packed operand, and of what all its products have in common.
#[derive(Debug)]
struct Operand<'a> {
    packed: Scratch<'a>,
    constants: Scratch<'a>,
}

/// The noise of each key, in levels. Multiples of the golden ratio, modulo 1, spread evenly over
/// `−½ .. ½` in any run of keys; random numbers, which do so less evenly, double the error.
pub(super) fn noise(keys: usize) -> Vec<f32> {
    let golden = (5f64.sqrt() - 1.0) / 2.0;
    let noise = |key: usize| (((key + 1) as f64 * golden).fract() - 0.5) as f32;
    (0..keys.next_multiple_of(LANES)).map(noise).collect()
}

/// What one thread does.
pub(super) struct Task<'a, 'm> {
    pub(super) heads: Heads,
    pub(super) matmul: DynamicMatmul,
    /// All sequences.
    pub(super) qkv: &'a [f32],
    pub(super) part: Part<'a>,
    /// Of as many keys or more.
    pub(super) noise: &'a [f32],
    pub(super) scratch: &'a mut [f32],
    pub(super) products: &'a mut Products<'m>,
}

impl Task<'_, '_> {
    /// Numbers of scratch: the scores of a block, and what it mixes.
    pub(super) fn numbers(heads: Heads) -> usize {
        BLOCK * (heads.tokens.next_multiple_of(LANES) + heads.features())
    }

    pub(super) fn run(mut self) -> Result<(), Error> {
        let units = self.heads.units();
        let all = self.part.units.clone();
        for sequence in all.start / units..all.end.div_ceil(units) {
            let begin = sequence * units;
            let first = all.start.max(begin) - begin;
            let last = all.end.min(begin + units) - begin;
            let queries = first * UNIT..self.heads.queries.min(last * UNIT);
            for head in self.part.heads.clone() {
                self.head(sequence, head, queries.clone())?;
            }
        }
        Ok(())
    }

    /// These queries of one head.
    fn head(&mut self, sequence: usize, head: usize, queries: Range<usize>) -> Result<(), Error> {
        let Heads { tokens, width, .. } = self.heads;
        let features = self.heads.features();
        let Products {
            keys,
            values,
            levels,
            scratch: product,
        } = &mut *self.products;
        let begin = sequence * tokens * 3 * width + head * features;
        let part = |at: usize| {
            let numbers = &self.qkv[begin + at * width..];
            MatRef::new(numbers, tokens, features, 3 * width).expect("a row for each token")
        };
        let q = part(0);
        let packed = (self.matmul).pack_rows(part(1), &mut keys.packed, product)?;
        // That of all tokens, whichever this thread has and whichever ask.
        let range = self.matmul.range(q);
        // Softmax to the base 2 is a step shorter.
        let factor = LOG2_E / (features as f32).sqrt();
        let keys = packed.product(range, factor, &mut keys.constants)?;
        let packed = (self.matmul).pack_columns(part(2), &mut values.packed, product)?;
        let range = DynamicRange::Positive(MOST);
        let values = packed.product(range, 1.0, &mut values.constants)?;
        let stride = tokens.next_multiple_of(LANES);
        let codes_stride = self.matmul.codes_stride(tokens);
        let (scores, mixed) = self.scratch.split_at_mut(BLOCK * stride);
        let first_row = self.heads.first_row(self.part.units.start);
        let column = (head - self.part.heads.start) * features;
        let fits = "the scratch has room for a block";
        for query in queries.clone().step_by(BLOCK) {
            let count = BLOCK.min(queries.end - query);
            let scores = &mut scores[..count * stride];
            let y = MatMut::new(scores, count, tokens, stride).expect(fits);
            keys.multiply(q.rows_range(query, query + count), y, product)?;

            for row in scores.chunks_exact_mut(stride) {
                row[tokens..].fill(f32::NEG_INFINITY);
            }
            let mut sums = [0.0; BLOCK];
            let levels = &mut levels[..count * codes_stride];
            pulp::Arch::new().dispatch(Softmax {
                scores,
                noise: &self.noise[..stride],
                codes: levels,
                codes_stride,
                code_offset: self.matmul.code_offset(),
                sums: &mut sums,
            });

            let mixed = &mut mixed[..count * features];
            let y = MatMut::new(mixed, count, features, features).expect(fits);
            values.multiply_codes(levels, y, product)?;

            divide(mixed, features, &sums);
            let row = sequence * self.heads.queries + query - first_row;
            self.part.mixed.write((row, column), mixed, features)?;
        }
        Ok(())
    }
}

/// Divide each row of `features` numbers by the sum of its levels.
fn divide(mixed: &mut [f32], features: usize, sums: &[f32]) {
    vectorised(
        #[inline(always)]
        || {
            for (row, sum) in mixed.chunks_exact_mut(features).zip(sums) {
                let scale = 1.0 / sum;
                for number in row {
                    *number *= scale;
                }
            }
        },
    );
}

/// The levels of the scores of a block.
struct Softmax<'a> {
    /// Rows as long as the noise, a query each, with −∞ after the last key. Overwritten.
    scores: &'a mut [f32],
    noise: &'a [f32],
    /// As many rows, of so many bytes each, as `DynamicProduct::multiply_codes` wants them.
    codes: &'a mut [u8],
    codes_stride: usize,
    code_offset: u8,
    /// Of the levels of each row; exact, and so the same in any order.
    sums: &'a mut [f32],
}

impl WithSimd for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let noise = S::as_simd_f32s(self.noise).0;
        let length = self.noise.len();
        // First of all rows, as a row alone waits for its last comparisons.
        let mut largest = [0.0; BLOCK];
        for (largest, scores) in largest.iter_mut().zip(self.scores.chunks_exact(length)) {
            *largest = max(simd, S::as_simd_f32s(scores).0);
        }
        let rows = self.scores.chunks_exact_mut(length).zip(self.sums);
        let codes = self.codes.chunks_exact_mut(self.codes_stride);
        for (((scores, sum), largest), codes) in rows.zip(largest).zip(codes) {
            *sum = levels(simd, S::as_mut_simd_f32s(scores).0, largest, noise);
            store(scores, self.code_offset, codes);
        }
    }
}

#[inline(always)]
fn max<S: Simd>(simd: S, scores: &[S::f32s]) -> f32 {
    let mut max = [simd.splat_f32s(f32::NEG_INFINITY); 2];
    for pair in scores.chunks(2) {
        max[0] = simd.max_f32s(max[0], pair[0]);
        max[1] = simd.max_f32s(max[1], pair[pair.len() - 1]);
    }
    simd.reduce_max_f32s(simd.max_f32s(max[0], max[1]))
}

/// Stores the lowest bytes of numbers, a multiple of `LANES` of them, less `offset`.
#[inline(always)]
fn store(numbers: &[f32], offset: u8, codes: &mut [u8]) {
    let codes = codes.as_chunks_mut::<LANES>().0;
    for (codes, numbers) in codes.iter_mut().zip(numbers.as_chunks::<LANES>().0) {
        // A copy, from which a compiler sees that no code overwrites a number: then it takes vectors.
        let numbers = *numbers;
        for (code, number) in codes.iter_mut().zip(&numbers) {
            *code = (number.to_bits() as u8).wrapping_sub(offset);
        }
    }
}

/// Replaces scores by numbers whose lowest byte is their level, `rne(255 · 2^(score − max) + noise)`, and
/// returns the sum of the levels.
#[inline(always)]
fn levels<S: Simd>(simd: S, scores: &mut [S::f32s], max: f32, noise: &[S::f32s]) -> f32 {
    /// `255 · 2^r` for `|r| ≤ ½`, off by at most 7.5e-5 of it, and below 255 for `r ≤ 0`.
    const POLYNOMIAL: [f32; 4] = [14.068_776, 61.865_837, 176.781_55, 254.981_66];
    let (max, round) = (simd.splat_f32s(max), simd.splat_f32s(ROUND));
    let mut sum = simd.splat_f32s(0.0);
    for (score, noise) in scores.iter_mut().zip(noise) {
        let (r, power) = split_exponent(simd, simd.sub_f32s(*score, max));
        let level = simd.mul_add_f32s(polynomial(simd, POLYNOMIAL, r), power, *noise);
        *score = simd.add_f32s(level, round);
        sum = simd.add_f32s(sum, simd.sub_f32s(*score, round));
    }
    simd.reduce_sum_f32s(sum)
}
