//! A feature map cut into windows, after a cyclic shift, with padding where windows do not divide it.

use noisyquant::Norm;

use crate::{config::Padding, ops};

/// What hides tokens of other regions: added to scores, it leaves nothing of them after softmax.
const HIDDEN: f32 = -100.0;

/// Which token of a map stands where in its windows.
pub(super) struct Windows {
    /// For each token of a map, its row of the windows.
    tokens: Vec<u32>,
    /// For each row of the windows, its token in the map; none for padding.
    source: Vec<Option<u32>>,
    /// `[windows, window², window²]`: [`HIDDEN`] for tokens that a shift brought together from
    /// opposite sides of the map.
    mask: Vec<f32>,
}

impl Windows {
    /// Windows of `window` × `window` tokens over a map of `side` × `side`, shifted up and to the
    /// left by `shift`.
    pub(super) fn new(side: usize, window: usize, shift: usize, padding: Padding) -> Self {
        let across = side.div_ceil(window);
        let padded = across * window;
        // Where the token at a place of the shifted, padded axis comes from.
        let origin = |place: usize| {
            let token = match padding {
                Padding::BeforeShift => (place + shift) % padded,
                Padding::AfterShift if place < side => (place + shift) % side,
                Padding::AfterShift => side,
            };
            (token < side).then_some(token)
        };
        // Parts of a shifted axis that are no neighbours in the map.
        let region = |place: usize| match place {
            _ if place < padded - window => 0,
            _ if place < padded - shift => 1,
            _ => 2,
        };
        let (mut source, mut regions) = (Vec::new(), Vec::new());
        for at in 0..padded * padded {
            let (window_at, inside) = (at / (window * window), at % (window * window));
            let row = window_at / across * window + inside / window;
            let column = window_at % across * window + inside % window;
            let token = origin(row).zip(origin(column));
            source.push(token.map(|(row, column)| (row * side + column) as u32));
            regions.push((region(row), region(column)));
        }
        let mut tokens = vec![0; side * side];
        for (row, token) in source.iter().enumerate() {
            if let Some(token) = token {
                tokens[*token as usize] = row as u32;
            }
        }
        let mut mask = Vec::new();
        if shift > 0 {
            for regions in regions.chunks_exact(window * window) {
                for query in regions {
                    let hidden = |key| if key == query { 0.0 } else { HIDDEN };
                    mask.extend(regions.iter().map(hidden));
                }
            }
        }
        Self {
            tokens,
            source,
            mask,
        }
    }

    /// Rows of a map's windows.
    pub(super) fn rows(&self) -> usize {
        self.source.len()
    }

    /// What attention adds to the scores of each window.
    pub(super) fn mask(&self) -> Option<&[f32]> {
        (!self.mask.is_empty()).then_some(&*self.mask)
    }

    /// Rows of windows, from row `first` on: the norms of their tokens, out of all `maps`; padding is zero.
    pub(super) fn gather(&self, norm: &Norm, maps: &[f32], first: usize, windows: &mut [f32]) {
        let width = norm.width();
        for (at, row) in windows.chunks_exact_mut(width).enumerate() {
            let (map, at) = ((first + at) / self.rows(), (first + at) % self.rows());
            match self.source[at] {
                Some(token) => {
                    let start = (map * self.tokens.len() + token as usize) * width;
                    ops::normalise(norm, &maps[start..start + width], row);
                }
                None => row.fill(0.0),
            }
        }
    }

    /// Add to tokens, from token `first` of all maps on, their rows of all `windows`.
    pub(super) fn add_back(&self, windows: &[f32], width: usize, first: usize, tokens: &mut [f32]) {
        for (at, token) in tokens.chunks_exact_mut(width).enumerate() {
            let map = (first + at) / self.tokens.len();
            let row = map * self.rows() + self.tokens[(first + at) % self.tokens.len()] as usize;
            for (sum, value) in token.iter_mut().zip(&windows[row * width..]) {
                *sum += value;
            }
        }
    }
}
