//! The sizes of attention, and the parts that its work is cut into.

use std::ops::Range;

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

    /// Units of one sequence.
    pub(super) fn units(self) -> usize {
        self.queries.div_ceil(UNIT)
    }

    /// The row of `mixed` at which `unit` begins.
    pub(super) fn first_row(self, unit: usize) -> usize {
        unit / self.units() * self.queries + unit % self.units() * UNIT
    }
}

/// What one thread, or a few, do.
pub(super) struct Part<'a> {
    /// Units of queries.
    pub(super) units: Range<usize>,
    pub(super) heads: Range<usize>,
    /// The rows of `units`, of each the features of `heads`.
    pub(super) mixed: Vec<&'a mut [f32]>,
}

impl Part<'_> {
    /// The units before and from `unit` on, which begins at row `row`.
    pub(super) fn split_units(mut self, unit: usize, row: usize) -> (Self, Self) {
        let second = Part {
            units: unit..self.units.end,
            heads: self.heads.clone(),
            mixed: self.mixed.split_off(row),
        };
        self.units.end = unit;
        (self, second)
    }

    /// The first `count` heads of so many features, and the others.
    pub(super) fn split_heads(self, count: usize, features: usize) -> (Self, Self) {
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
