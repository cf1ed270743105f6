//! Attention in f32; the part of it that one thread does.
//!
//! A block is as many queries as two vectors have lanes, or one at the end of a sequence. Its scores are kept
//! with the keys as rows and a lane for each query:
//!
//! ```text
//!              lanes: queries                    lanes: features
//!            ┌───────────────┐                 ┌───────────────┐
//!   features │ q, scaled     │           keys  │ v, in place   │
//!            └───────────────┘                 └───────────────┘
//!   ┌──────┐ ┌───────────────┐   ┌──────────┐  ┌───────────────┐
//!   │ k, in│ │ scores        │   │ scoresᵀ  │  │ mixed         │
//!   │ place│ │          keys │   │  queries │  │       queries │
//!   └──────┘ └───────────────┘   └──────────┘  └───────────────┘
//! ```
//!
//! So both products broadcast a number of the left operand and multiply it by two vectors of the
//! upper one; only the queries are transposed, and softmax runs down the lanes without reducing
//! across them.

use std::{array, f32::consts::LOG2_E};

use pulp::{Simd, WithSimd};

use super::{
    exponential::exp2,
    heads::{Bias, Heads, Mixed, Part, UNIT},
};

/// Features that a tile of scores takes at a time, so that bounds are checked once for them.
const STEP: usize = 8;

/// What one thread does.
pub(super) struct Task<'a> {
    pub(super) heads: Heads,
    /// All sequences.
    pub(super) qkv: &'a [f32],
    pub(super) bias: Option<Bias<'a>>,
    pub(super) part: Part<'a>,
    pub(super) scratch: &'a mut [f32],
}

impl Task<'_> {
    /// Numbers of scratch: a block of queries, its scores, its bias and its mask.
    pub(super) fn numbers(heads: Heads) -> usize {
        UNIT * (heads.features() + 3 * heads.tokens)
    }
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let queries = self.heads.queries;
        for head in self.part.heads.clone() {
            let mut query = 0;
            while query < queries {
                if queries - query > S::F32_LANES {
                    self.block::<S, 2>(simd, head, query);
                    query += 2 * S::F32_LANES;
                } else {
                    self.block::<S, 1>(simd, head, query);
                    query += S::F32_LANES;
                }
            }
        }
    }
}

impl<'a> Task<'a> {
    /// The block of `N` vectors of queries from `query` on, in all sequences: they share the bias.
    #[inline(always)]
    fn block<S: Simd, const N: usize>(&mut self, simd: S, head: usize, query: usize) {
        let Heads { tokens, width, .. } = self.heads;
        let Part {
            units: all,
            heads,
            mixed,
        } = &mut self.part;
        let Mixed::Numbers(mixed) = mixed else {
            unreachable!("codes of products in f32");
        };
        let features = self.heads.features();
        let columns = N * S::F32_LANES;
        let rows = columns.min(self.heads.queries - query);
        let (queries, scratch) = self.scratch.split_at_mut(features * columns);
        let (scores, scratch) = scratch.split_at_mut(tokens * columns);
        let (bias_block, scratch) = scratch.split_at_mut(tokens * columns);
        let mask_block = &mut scratch[..tokens * columns];
        // Softmax to the base 2 is a step shorter.
        let scale = LOG2_E / (features as f32).sqrt();
        let rows_of = |numbers, stride| Rows { numbers, stride };
        // The rows of this block's queries in a square of queries and keys.
        let square = |squares: &'a [f32], at: usize| {
            rows_of(&squares[(at * tokens + query) * tokens..], tokens)
        };
        let mut added_bias: Option<&[f32]> = None;
        if let Some(bias) = self.bias {
            let from = square(bias.per_head, head);
            transpose(from, rows, LOG2_E, bias_block, columns);
            added_bias = Some(bias_block);
        }
        let (units, unit) = (self.heads.units(), query / UNIT);
        let sequence_at = |end: usize| (end + units - 1 - unit) / units;
        for sequence in sequence_at(all.start)..sequence_at(all.end) {
            let first = sequence * tokens * 3 * width + head * features;
            let part = |offset: usize| rows_of(&self.qkv[first + offset..], 3 * width);
            transpose(part(query * 3 * width), rows, scale, queries, columns);
            let mut added = [added_bias, None];
            if let Some(mask) = self.bias.and_then(|bias| bias.mask) {
                let windows = mask.len() / (tokens * tokens);
                let from = square(mask, sequence % windows);
                transpose(from, rows, LOG2_E, mask_block, columns);
                added[1] = Some(mask_block);
            }
            let max = score::<S, N>(simd, part(width), queries, added, scores);
            let mix = Mix::<S, N> {
                simd,
                scales: softmax(simd, scores, max),
                scores,
                values: part(2 * width),
                rows,
                features,
                column: (head - heads.start) * features,
            };
            let row = sequence * self.heads.queries + query - self.heads.first_row(all.start);
            mix.run(&mut mixed[row..]);
        }
    }
}

/// Row-major numbers; the last row may end before the stride does.
#[derive(Clone, Copy)]
struct Rows<'a> {
    numbers: &'a [f32],
    stride: usize,
}

/// Rows and columns of the squares that are transposed.
const SQUARE: usize = 4;

/// `to[f, i] = scale · from[i, f]`, with zeros where `i ≥ rows`; `to` has `columns` columns and `from`
/// as many as `to` has rows.
///
/// Never part of the kernel: what squares are shuffles for the vectors of any CPU becomes a scatter,
/// which is slow, where a compiler has AVX-512.
#[inline(never)]
fn transpose(from: Rows<'_>, rows: usize, scale: f32, to: &mut [f32], columns: usize) {
    let length = to.len() / columns;
    let row = |i: usize| &from.numbers[i * from.stride..][..length];
    let whole = rows / SQUARE * SQUARE;
    for i in (0..whole).step_by(SQUARE) {
        let together: [&[f32]; SQUARE] = array::from_fn(|at| row(i + at));
        let (squares, rest) = (length / SQUARE, length % SQUARE);
        let chunks = together.map(|row| row.as_chunks::<SQUARE>().0);
        for at in 0..squares {
            let [a, b, c, d] = chunks.each_ref().map(|chunks| &chunks[at]);
            for f in 0..SQUARE {
                let to = to[(at * SQUARE + f) * columns + i..].first_chunk_mut();
                let to = to.expect("as many columns as rows");
                *to = [scale * a[f], scale * b[f], scale * c[f], scale * d[f]];
            }
        }
        for f in length - rest..length {
            let to = to[f * columns + i..].first_chunk_mut();
            *to.expect("as many columns as rows") = together.map(|row| scale * row[f]);
        }
    }
    for i in whole..rows {
        for (to, from) in to.chunks_exact_mut(columns).zip(row(i)) {
            to[i] = scale * from;
        }
    }
    if rows < columns {
        for to in to.chunks_exact_mut(columns) {
            to[rows..].fill(0.0);
        }
    }
}

/// `scores[key, query] = k · q + added` and each query's largest.
#[inline(always)]
fn score<S: Simd, const N: usize>(
    simd: S,
    keys: Rows<'_>,
    queries: &[f32],
    added: [Option<&[f32]>; 2],
    scores: &mut [f32],
) -> [S::f32s; N] {
    let queries = vectors::<S, N>(queries);
    let added = added.map(|block| block.map(vectors::<S, N>));
    let scores = vectors_mut::<S, N>(scores);
    let mut max = [simd.splat_f32s(f32::NEG_INFINITY); N];
    let mut at = 0;
    if S::REGISTER_COUNT >= 32 {
        at = score_rows::<S, N, 8>(simd, at, keys, queries, added, scores, &mut max);
    } else {
        at = score_rows::<S, N, 6>(simd, at, keys, queries, added, scores, &mut max);
    }
    at = score_rows::<S, N, 4>(simd, at, keys, queries, added, scores, &mut max);
    score_rows::<S, N, 1>(simd, at, keys, queries, added, scores, &mut max);
    max
}

/// The part of [`score`] for keys from `at` on, `K` at a time, up to the returned one.
#[inline(always)]
fn score_rows<S: Simd, const N: usize, const K: usize>(
    simd: S,
    mut at: usize,
    keys: Rows<'_>,
    queries: &[[S::f32s; N]],
    added: [Option<&[[S::f32s; N]]>; 2],
    scores: &mut [[S::f32s; N]],
    max: &mut [S::f32s; N],
) -> usize {
    while let Some(scores) = scores[at..].first_chunk_mut::<K>() {
        let keys = array::from_fn(|k| &keys.numbers[(at + k) * keys.stride..][..queries.len()]);
        *scores = score_tile::<S, N, K>(simd, keys, queries);
        for added in added.iter().flatten() {
            for (score, added) in scores.iter_mut().zip(&added[at..]) {
                for n in 0..N {
                    score[n] = simd.add_f32s(score[n], added[n]);
                }
            }
        }
        for score in scores {
            for n in 0..N {
                max[n] = simd.max_f32s(max[n], score[n]);
            }
        }
        at += K;
    }
    at
}

/// Products of `K` keys with a block of queries, over all their features in order.
#[inline(always)]
fn score_tile<S: Simd, const N: usize, const K: usize>(
    simd: S,
    keys: [&[f32]; K],
    queries: &[[S::f32s; N]],
) -> [[S::f32s; N]; K] {
    let mut sums = [[simd.splat_f32s(0.0); N]; K];
    let (whole, rest) = queries.as_chunks::<STEP>();
    let chunks = keys.map(|key| key.as_chunks::<STEP>().0);
    for (step, queries) in whole.iter().enumerate() {
        let keys: [&[f32; STEP]; K] = array::from_fn(|k| &chunks[k][step]);
        for feature in 0..STEP {
            for k in 0..K {
                let key = simd.splat_f32s(keys[k][feature]);
                for n in 0..N {
                    sums[k][n] = simd.mul_add_f32s(key, queries[feature][n], sums[k][n]);
                }
            }
        }
    }
    for (feature, query) in (whole.len() * STEP..).zip(rest) {
        for k in 0..K {
            let key = simd.splat_f32s(keys[k][feature]);
            for n in 0..N {
                sums[k][n] = simd.mul_add_f32s(key, query[n], sums[k][n]);
            }
        }
    }
    sums
}

/// Replace scores by `2^(score − max)`; returns what makes each query's add up to one.
#[inline(always)]
fn softmax<S: Simd, const N: usize>(simd: S, scores: &mut [f32], max: [S::f32s; N]) -> [f32; UNIT] {
    let mut sum = [simd.splat_f32s(0.0); N];
    for scores in vectors_mut::<S, N>(scores) {
        for n in 0..N {
            scores[n] = exp2(simd, simd.sub_f32s(scores[n], max[n]));
            sum[n] = simd.add_f32s(sum[n], scores[n]);
        }
    }
    let mut scales = [0.0; UNIT];
    let one = simd.splat_f32s(1.0);
    for (scale, sum) in S::as_mut_simd_f32s(&mut scales).0.iter_mut().zip(sum) {
        *scale = simd.div_f32s(one, sum);
    }
    scales
}

/// `to[query, feature] = scales[query] · Σ_key scores[key, query] · values[key, feature]` for one
/// block.
struct Mix<'a, S, const L: usize> {
    simd: S,
    /// In rows of `L` vectors.
    scores: &'a [f32],
    values: Rows<'a>,
    scales: [f32; UNIT],
    /// Queries.
    rows: usize,
    features: usize,
    /// Where the head's features begin in the rows of `to`.
    column: usize,
}

impl<S: Simd, const L: usize> Mix<'_, S, L> {
    #[inline(always)]
    fn run(&self, to: &mut [&mut [f32]]) {
        let pair = 2 * S::F32_LANES;
        let whole = self.features / pair * pair;
        for feature in (0..whole).step_by(pair) {
            self.columns::<2>(feature, to);
        }
        for feature in (whole..self.features).step_by(S::F32_LANES) {
            self.columns::<1>(feature, to);
        }
    }

    /// `N` vectors of features from `feature` on; one alone may be cut short.
    #[inline(always)]
    fn columns<const N: usize>(&self, feature: usize, to: &mut [&mut [f32]]) {
        let mut at = 0;
        if S::REGISTER_COUNT >= 32 {
            at = self.rows::<8, N>(at, feature, to);
        } else {
            at = self.rows::<6, N>(at, feature, to);
        }
        at = self.rows::<4, N>(at, feature, to);
        self.rows::<1, N>(at, feature, to);
    }

    /// Queries from `at` on, `Q` at a time, up to the returned one.
    #[inline(always)]
    fn rows<const Q: usize, const N: usize>(
        &self,
        mut at: usize,
        feature: usize,
        to: &mut [&mut [f32]],
    ) -> usize {
        let count = (N * S::F32_LANES).min(self.features - feature);
        while at + Q <= self.rows {
            let sums = self.tile::<Q, N>(at, feature, count);
            for (row, sums) in (at..).zip(sums) {
                let scale = self.simd.splat_f32s(self.scales[row]);
                let mixed = sums.map(|sum| self.simd.mul_f32s(sum, scale));
                let to = &mut to[row][self.column + feature..][..count];
                if N == 1 {
                    self.simd.partial_store_f32s(to, mixed[0]);
                } else {
                    S::as_mut_simd_f32s(to).0.copy_from_slice(&mixed);
                }
            }
            at += Q;
        }
        at
    }

    /// Sums of the products, over all keys in order.
    #[inline(always)]
    fn tile<const Q: usize, const N: usize>(
        &self,
        at: usize,
        feature: usize,
        count: usize,
    ) -> [[S::f32s; N]; Q] {
        let simd = self.simd;
        let mut sums = [[simd.splat_f32s(0.0); N]; Q];
        let values = self.values.numbers[feature..].chunks(self.values.stride);
        for (scores, values) in self.scores.chunks_exact(L * S::F32_LANES).zip(values) {
            let scores: &[f32; Q] = scores[at..].first_chunk().expect("Q scores");
            let values: [S::f32s; N] = if N == 1 {
                [simd.partial_load_f32s(&values[..count]); N]
            } else {
                let values = S::as_simd_f32s(&values[..N * S::F32_LANES]).0;
                array::from_fn(|n| values[n])
            };
            for q in 0..Q {
                let score = simd.splat_f32s(scores[q]);
                for n in 0..N {
                    sums[q][n] = simd.mul_add_f32s(score, values[n], sums[q][n]);
                }
            }
        }
        sums
    }
}

/// Numbers as rows of `N` vectors.
#[inline(always)]
fn vectors<S: Simd, const N: usize>(numbers: &[f32]) -> &[[S::f32s; N]] {
    S::as_simd_f32s(numbers).0.as_chunks().0
}

/// Numbers as rows of `N` vectors.
#[inline(always)]
fn vectors_mut<S: Simd, const N: usize>(numbers: &mut [f32]) -> &mut [[S::f32s; N]] {
    S::as_mut_simd_f32s(numbers).0.as_chunks_mut().0
}
