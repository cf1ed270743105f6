//! The sizes of attention, and the parts that its work is cut into.

use std::ops::Range;

use noisyquant::{CodesPart, Error, MatRef};

/// Queries in a unit of the work that is divided between threads; a multiple of every kernel's
/// block.
pub(super) const UNIT: usize = 32;

/// Keys, or features, that an integer product can sum over.
pub(crate) const MAX_KEYS: usize = 65_536;

/// Sizes of the attention of one sequence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    pub(crate) tokens: usize,
    /// How many of the tokens, the first ones, ask: of the others only keys and values are used.
    pub(crate) queries: usize,
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

impl Heads {
    /// Features of one head.
    pub(super) fn features(self) -> usize {
        self.width / self.heads
    }

    /// Whether integer products can be so long.
    pub(crate) fn fit_integers(self) -> bool {
        self.tokens.max(self.features()) <= MAX_KEYS
    }

    /// Whether the integer products are faster than those in f32 on a CPU with a dot product of bytes; the
    /// same on all, as it decides about the bits. They take 64 features or keys at a time, and packing the
    /// operands is most of the work on short sequences: with AVX-512-VNNI and heads of 64 features, they take
    /// 0.52 of the time at 257 tokens, 0.68 at 101 and 0.87 at 65; with 32 features 0.78, 0.98 and 1.2, which
    /// is too little to give accuracy for.
    pub(crate) fn gain_by_integers(self) -> bool {
        self.features() >= 64 && self.tokens >= 64 && self.fit_integers()
    }

    /// Whether the features of a head are whole [lines](CodesPart::LINE) of codes.
    pub(crate) fn fit_lines(self) -> bool {
        self.features().is_multiple_of(CodesPart::LINE)
    }

    /// Units of one sequence.
    pub(super) fn units(self) -> usize {
        self.queries.div_ceil(UNIT)
    }

    /// The row of `mixed` at which `unit` begins.
    pub(super) fn first_row(self, unit: usize) -> usize {
        unit / self.units() * self.queries + unit % self.units() * UNIT
    }
}

/// Where attention writes what it mixes: rows of queries, of each the features of some heads.
pub(crate) enum Mixed<'a> {
    /// As they are.
    Numbers(Vec<&'a mut [f32]>),
    /// As the codes that the layer behind makes of them; of integer products alone, whose heads
    /// [fit lines](Heads::fit_lines). The numbers of a block stay in L1, and a quarter as much is written and
    /// read again.
    Codes(CodesPart<'a>),
}

impl<'a> Mixed<'a> {
    /// All of `numbers`, in rows of `width`.
    pub(crate) fn numbers(numbers: &'a mut [f32], width: usize) -> Self {
        Self::Numbers(numbers.chunks_exact_mut(width).collect())
    }

    /// Write `block`, rows of `features` numbers, from row `row` and column `column` on.
    pub(super) fn write(
        &mut self,
        (row, column): (usize, usize),
        block: &[f32],
        features: usize,
    ) -> Result<(), Error> {
        let count = block.len() / features;
        match self {
            Self::Numbers(rows) => {
                for (row, from) in rows[row..].iter_mut().zip(block.chunks_exact(features)) {
                    row[column..column + features].copy_from_slice(from);
                }
                Ok(())
            }
            Self::Codes(codes) => {
                let block = MatRef::new(block, count, features, features)?;
                codes.block(row, count, column, features).quantize(block)
            }
        }
    }

    fn split_rows(self, row: usize) -> (Self, Self) {
        match self {
            Self::Numbers(mut above) => {
                let below = above.split_off(row);
                (Self::Numbers(above), Self::Numbers(below))
            }
            Self::Codes(codes) => {
                let (above, below) = codes.split_rows(row);
                (Self::Codes(above), Self::Codes(below))
            }
        }
    }

    fn split_columns(self, column: usize) -> (Self, Self) {
        match self {
            Self::Numbers(rows) => {
                let halves = rows.into_iter().map(|row| row.split_at_mut(column));
                let (left, right) = halves.unzip();
                (Self::Numbers(left), Self::Numbers(right))
            }
            Self::Codes(codes) => {
                let (left, right) = codes.split_cols(column);
                (Self::Codes(left), Self::Codes(right))
            }
        }
    }
}

/// What one thread, or a few, do.
pub(super) struct Part<'a> {
    /// Units of queries.
    pub(super) units: Range<usize>,
    pub(super) heads: Range<usize>,
    /// The rows of `units`, of each the features of `heads`.
    pub(super) mixed: Mixed<'a>,
}

impl Part<'_> {
    /// The units before and from `unit` on, which begins at row `row`.
    pub(super) fn split_units(self, unit: usize, row: usize) -> (Self, Self) {
        let (first, second) = self.mixed.split_rows(row);
        let part = |units, mixed| Part {
            units,
            heads: self.heads.clone(),
            mixed,
        };
        (
            part(self.units.start..unit, first),
            part(unit..self.units.end, second),
        )
    }

    /// The first `count` heads of so many features, and the others.
    pub(super) fn split_heads(self, count: usize, features: usize) -> (Self, Self) {
        let (first, second) = self.mixed.split_columns(count * features);
        let Range { start, end } = self.heads;
        let part = |heads, mixed| Part {
            units: self.units.clone(),
            heads,
            mixed,
        };
        (
            part(start..start + count, first),
            part(start + count..end, second),
        )
    }
}
