//! Geometry of the two operands of a micro-kernel.
//!
//! **Codes** (operand A) are plain row-major `u8` for every kernel. `K` is padded to [`K_ALIGN`]
//! with zero weights facing it, and the row stride is an *odd* multiple of 64 bytes, so that the
//! rows of a tile do not fall into the same L1 sets:
//!
//! ```text
//!            k ->  0 .............. K-1 | padding |
//!   row 0          u u u u u u u u u u  | 0 0 0 0 |   stride = 64 * odd
//!   row 1          u u u u u u u u u u  | 0 0 0 0 |
//! ```
//!
//! **Weights** (operand B) are packed as `[N/NR][K/KR][NR][KR]`: panels of `NR` output channels; in
//! a panel, groups of `KR` consecutive inputs, one group for each of the `NR` channels in turn. A
//! vector register loads a run of channels, a 32-bit lane holds the `KR` weights of one channel:
//!
//! ```text
//!   panel p, group g (NR = 32, KR = 4):
//!     n0: k0 k1 k2 k3 | n1: k0 k1 k2 k3 | ... | n31: k0 k1 k2 k3       128 bytes
//! ```
//!
//! Channels past `N` and inputs past `K` are packed as zero weights.

use core::array;

/// Codes and packed weights are padded to a multiple of this many inputs (one AMX tile row).
pub const K_ALIGN: usize = 64;

/// Rows of codes and panels of weights start on this many bytes (a cache line, a 512-bit register).
pub const ALIGN: usize = 64;

/// The part of the output that one step of a micro-kernel computes, and the run of inputs that one
/// of its dot products takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Rows of codes (tokens).
    pub mr: usize,
    /// Output channels: the width of a packed panel.
    pub nr: usize,
    /// Consecutive inputs in a packed group.
    pub kr: usize,
}

/// The form of a packed panel; kernels that agree on it can share one layer's weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PanelLayout {
    /// Output channels of a panel.
    pub nr: usize,
    /// Consecutive inputs in a group.
    pub kr: usize,
}

impl Tile {
    /// A tile of `mr` rows and `nr` output channels, which takes `kr` inputs at a time.
    pub const fn new(mr: usize, nr: usize, kr: usize) -> Tile {
        Tile { mr, nr, kr }
    }

    /// The packed layout that the tile reads.
    pub const fn panel(self) -> PanelLayout {
        PanelLayout {
            nr: self.nr,
            kr: self.kr,
        }
    }
}

/// `k` rounded up to [`K_ALIGN`].
///
/// # Panics
///
/// If that overflows.
pub const fn padded_k(k: usize) -> usize {
    assert!(
        k <= usize::MAX - 2 * K_ALIGN,
        "inputs: expected fewer than memory has"
    );
    k.next_multiple_of(K_ALIGN)
}

/// Bytes from one row of codes to the next: [`padded_k`] made an odd multiple of 64.
///
/// # Panics
///
/// If that overflows.
pub const fn codes_stride(k: usize) -> usize {
    (padded_k(k).div_ceil(K_ALIGN) | 1) * K_ALIGN
}

impl PanelLayout {
    /// Number of panels for `n` output channels.
    pub const fn panels(self, n: usize) -> usize {
        n.div_ceil(self.nr)
    }

    /// Bytes of one panel of `k` inputs.
    ///
    /// # Panics
    ///
    /// If that overflows.
    pub const fn panel_bytes(self, k: usize) -> usize {
        match padded_k(k).checked_mul(self.nr) {
            Some(bytes) => bytes,
            None => panic!("a panel: expected fewer bytes than memory has"),
        }
    }

    /// Bytes of all panels for `n` channels of `k` inputs, or `None` where that overflows.
    pub const fn packed_len(self, n: usize, k: usize) -> Option<usize> {
        if k > usize::MAX - 2 * K_ALIGN {
            return None;
        }
        match padded_k(k).checked_mul(self.nr) {
            Some(panel) => self.panels(n).checked_mul(panel),
            None => None,
        }
    }

    /// Where the weight of channel `n` and input `k` (of `k_total`) stands in the packed buffer.
    pub const fn index(self, n: usize, k: usize, k_total: usize) -> usize {
        let group = k / self.kr * self.nr * self.kr;
        n / self.nr * self.panel_bytes(k_total) + group + n % self.nr * self.kr + k % self.kr
    }

    /// Packs `weights`, `n` rows of `k` codes that begin `stride` codes apart; padding is filled with
    /// zeros.
    ///
    /// # Panics
    ///
    /// If `weights` does not hold the rows, `stride` is less than `k`, `packed` is not
    /// [`packed_len`](Self::packed_len) long, or `kr` does not divide [`K_ALIGN`].
    pub fn pack(self, weights: &[i8], stride: usize, n: usize, k: usize, packed: &mut [i8]) {
        self.clear(n, k, packed);
        let source = Source::new(weights, stride, n, k);
        if packed.is_empty() {
            return;
        }
        match self.kr {
            2 => self.pack_rows::<2>(&source, n, k, packed),
            4 => self.pack_rows::<4>(&source, n, k, packed),
            8 => self.pack_rows::<8>(&source, n, k, packed),
            16 => self.pack_rows::<16>(&source, n, k, packed),
            32 => self.pack_rows::<32>(&source, n, k, packed),
            _ => self.pack_each(|channel, input| source.row(channel)[input], n, k, packed),
        }
    }

    /// Packs the transpose of `weights`, `k` rows of `n` codes that begin `stride` codes apart: a column
    /// holds the weights of one channel. Padding is filled with zeros.
    ///
    /// # Panics
    ///
    /// If `weights` does not hold the rows, `stride` is less than `n`, `packed` is not
    /// [`packed_len`](Self::packed_len) long, or `kr` does not divide [`K_ALIGN`].
    pub fn pack_transposed(
        self,
        weights: &[i8],
        stride: usize,
        n: usize,
        k: usize,
        packed: &mut [i8],
    ) {
        self.clear(n, k, packed);
        let source = Source::new(weights, stride, k, n);
        if packed.is_empty() {
            return;
        }
        match self.kr {
            2 => self.pack_columns::<2>(&source, n, k, packed),
            4 => self.pack_columns::<4>(&source, n, k, packed),
            8 => self.pack_columns::<8>(&source, n, k, packed),
            16 => self.pack_columns::<16>(&source, n, k, packed),
            32 => self.pack_columns::<32>(&source, n, k, packed),
            _ => self.pack_each(|channel, input| source.row(input)[channel], n, k, packed),
        }
    }

    /// Checks the layout and the length of `packed`, and writes its padding.
    fn clear(self, n: usize, k: usize, packed: &mut [i8]) {
        let whole = self.nr > 0 && self.kr > 0 && K_ALIGN.is_multiple_of(self.kr);
        assert!(whole, "groups that fill {K_ALIGN} inputs");
        assert_eq!(Some(packed.len()), self.packed_len(n, k), "packed panels");
        if !(n.is_multiple_of(self.nr) && k.is_multiple_of(K_ALIGN)) {
            packed.fill(0);
        }
    }

    /// Rows that are channels, a group at a time.
    fn pack_rows<const KR: usize>(
        self,
        source: &Source<'_>,
        n: usize,
        k: usize,
        packed: &mut [i8],
    ) {
        for channel in 0..n {
            let (groups, rest) = source.row(channel).as_chunks::<KR>();
            let slots = packed[self.index(channel, 0, k)..].as_chunks_mut().0;
            for (slot, group) in slots.iter_mut().step_by(self.nr).zip(groups) {
                *slot = *group;
            }
            if !rest.is_empty() {
                slots[groups.len() * self.nr][..rest.len()].copy_from_slice(rest);
            }
        }
    }

    /// Rows that are inputs: those of a group interleave.
    fn pack_columns<const KR: usize>(
        self,
        source: &Source<'_>,
        n: usize,
        k: usize,
        packed: &mut [i8],
    ) {
        for first in (0..n).step_by(self.nr) {
            let width = self.nr.min(n - first);
            for group in 0..k / KR {
                let rows: [&[i8]; KR] =
                    array::from_fn(|row| &source.row(group * KR + row)[first..first + width]);
                let slots = packed[self.index(first, group * KR, k)..].as_chunks_mut().0;
                for (channel, slot) in slots[..width].iter_mut().enumerate() {
                    *slot = rows.map(|row| row[channel]);
                }
            }
            for input in k / KR * KR..k {
                let row = &source.row(input)[first..first + width];
                for (channel, code) in (first..).zip(row) {
                    packed[self.index(channel, input, k)] = *code;
                }
            }
        }
    }

    /// One code after the other.
    fn pack_each(self, code: impl Fn(usize, usize) -> i8, n: usize, k: usize, packed: &mut [i8]) {
        for channel in 0..n {
            for input in 0..k {
                packed[self.index(channel, input, k)] = code(channel, input);
            }
        }
    }
}

/// Rows of codes to be packed.
struct Source<'a> {
    codes: &'a [i8],
    stride: usize,
    cols: usize,
}

impl<'a> Source<'a> {
    fn new(codes: &'a [i8], stride: usize, rows: usize, cols: usize) -> Self {
        let needed = match rows.checked_sub(1) {
            _ if cols == 0 => Some(0),
            Some(last) => last.checked_mul(stride).and_then(|at| at.checked_add(cols)),
            None => Some(0),
        };
        let fits = needed.is_some_and(|needed| codes.len() >= needed);
        assert!(fits && (stride >= cols || rows < 2), "rows of codes");
        Source {
            codes,
            // Nothing is read of rows without columns.
            stride: if cols == 0 { 0 } else { stride },
            cols,
        }
    }

    fn row(&self, row: usize) -> &'a [i8] {
        &self.codes[row * self.stride..][..self.cols]
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn strides_are_odd_multiples_of_a_line() {
        for k in 0..1000 {
            let stride = codes_stride(k);
            assert!(stride >= padded_k(k) && stride <= padded_k(k) + 64);
            assert_eq!(stride / 64 % 2, 1, "k = {k}");
        }
    }

    #[test]
    fn lengths_that_overflow_are_none() {
        let layout = PanelLayout { nr: 32, kr: 4 };
        for (n, k) in [(1, usize::MAX), (1, usize::MAX / 2), (usize::MAX, 64)] {
            assert_eq!(layout.packed_len(n, k), None, "{n} {k}");
        }
    }

    #[test]
    fn sizes_that_overflow_are_refused() {
        let layout = PanelLayout { nr: 32, kr: 4 };
        let refused = |size: &dyn Fn() -> usize| catch_unwind(AssertUnwindSafe(size)).is_err();
        for k in [usize::MAX, usize::MAX - 64, usize::MAX - 127] {
            assert!(refused(&|| padded_k(k)), "{k}");
            assert!(refused(&|| codes_stride(k)), "{k}");
            assert!(refused(&|| layout.panel_bytes(k)), "{k}");
        }
        assert!(refused(&|| layout.panel_bytes(usize::MAX / 16)));
        let most = usize::MAX - 2 * K_ALIGN;
        assert!(codes_stride(most) >= padded_k(most) && padded_k(most) >= most);
    }

    #[test]
    fn packing_places_every_weight_once_and_pads_with_zeros() {
        for (nr, kr) in [(32, 4), (16, 2), (5, 2), (8, 8), (12, 16), (8, 32), (7, 1)] {
            let layout = PanelLayout { nr, kr };
            for (n, k) in [
                (1, 1),
                (33, 65),
                (16, 64),
                (7, 130),
                (32, 128),
                (0, 3),
                (3, 0),
            ] {
                let code = |channel: usize, input: usize| ((channel * k + input) % 127 + 1) as i8;
                let mut rows = vec![-1; n * (k + 3)];
                let mut columns = vec![-1; k * (n + 3)];
                for (channel, input) in (0..n).flat_map(|n| (0..k).map(move |k| (n, k))) {
                    rows[channel * (k + 3) + input] = code(channel, input);
                    columns[input * (n + 3) + channel] = code(channel, input);
                }
                let mut packed = vec![-1; layout.packed_len(n, k).unwrap()];
                let mut transposed = packed.clone();
                layout.pack(&rows, k + 3, n, k, &mut packed);
                layout.pack_transposed(&columns, n + 3, n, k, &mut transposed);
                assert_eq!(packed, transposed, "{layout:?} {n} {k}");
                for (channel, input) in (0..n).flat_map(|n| (0..k).map(move |k| (n, k))) {
                    let at = layout.index(channel, input, k);
                    assert_eq!(packed[at], code(channel, input));
                }
                let nonzero = packed.iter().filter(|w| **w != 0).count();
                assert_eq!(nonzero, n * k);
            }
        }
    }
}
