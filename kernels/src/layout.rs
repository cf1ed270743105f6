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
//!
//! A **dense** panel holds weights of six or four bits ([`Form`]) in so many bits. Two groups of it are four
//! *quarters*, each of which a kernel wants in registers of its own: the lower and the upper half of the
//! channels, in the first group and in the second. Byte `i` of the quarters is `w0`, `w1`, `w2` and `w3`;
//! they are stored in three runs of bytes, or in two (each of 64 bytes with `NR = 32` and `KR = 4`):
//!
//! ```text
//!   six bits, bit  7 6 5 4 3 2   1 0             four bits, bit  7 6 5 4   3 2 1 0
//!     run 0        w0            w3, bits 5 4      run 0         w1        w0
//!     run 1        w1            w3, bits 3 2      run 1         w3        w2
//!     run 2        w2            w3, bits 1 0
//! ```
//!
//! So a weight stands in the upper bits of its byte, or is moved there, and the rest is masked: as a signed
//! byte that is the weight times 4 or 16, and sums of such products are divided again at the end.

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

/// How many bits of a packed panel a weight takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// A byte.
    Bytes,
    /// Six: weights from −32 to 31.
    Six,
    /// Four: weights from −8 to 7.
    Four,
}

impl Form {
    /// Bits of a weight.
    pub const fn bits(self) -> usize {
        match self {
            Form::Bytes => 8,
            Form::Six => 6,
            Form::Four => 4,
        }
    }

    /// The largest weight; the least is one more in magnitude.
    pub const fn max_weight(self) -> i8 {
        i8::MAX >> (8 - self.bits())
    }

    /// One weight of each quarter of two groups as the bytes of the runs, of which a dense form has three or
    /// two.
    fn join(self, weights: [i8; 4]) -> [i8; 3] {
        let [w0, w1, w2, w3] = weights;
        match self {
            Form::Six => {
                let with = |w: i8, bits: i8| w << 2 | bits & 3;
                [with(w0, w3 >> 4), with(w1, w3 >> 2), with(w2, w3)]
            }
            _ => [w1 << 4 | w0 & 15, w3 << 4 | w2 & 15, 0],
        }
    }

    /// The weight of a quarter again.
    fn part(self, [x0, x1, x2]: [i8; 3], quarter: usize) -> i8 {
        match (self, quarter) {
            (Form::Six, 3) => (x0 << 6 | (x1 & 3) << 4 | (x2 & 3) << 2) >> 2,
            (Form::Six, _) => [x0, x1, x2][quarter] >> 2,
            (_, 0) => x0 << 4 >> 4,
            (_, 1) => x0 >> 4,
            (_, 2) => x1 << 4 >> 4,
            _ => x1 >> 4,
        }
    }
}

/// The form of a packed panel; kernels that agree on it can share one layer's weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PanelLayout {
    /// Output channels of a panel.
    pub nr: usize,
    /// Consecutive inputs in a group.
    pub kr: usize,
    /// Bits of a weight.
    pub form: Form,
}

impl Tile {
    /// A tile of `mr` rows and `nr` output channels, which takes `kr` inputs at a time.
    pub const fn new(mr: usize, nr: usize, kr: usize) -> Tile {
        Tile { mr, nr, kr }
    }

    /// The packed layout that the tile reads, of a byte a weight.
    pub const fn panel(self) -> PanelLayout {
        PanelLayout {
            nr: self.nr,
            kr: self.kr,
            form: Form::Bytes,
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
            Some(weights) => self.bytes(weights),
            None => panic!("a panel: expected fewer bytes than memory has"),
        }
    }

    /// Bytes of all panels for `n` channels of `k` inputs, or `None` where that overflows.
    pub const fn packed_len(self, n: usize, k: usize) -> Option<usize> {
        if k > usize::MAX - 2 * K_ALIGN {
            return None;
        }
        match padded_k(k).checked_mul(self.nr) {
            Some(weights) => self.panels(n).checked_mul(self.bytes(weights)),
            None => None,
        }
    }

    /// Bytes of so many weights, a multiple of 8.
    const fn bytes(self, weights: usize) -> usize {
        weights / 8 * self.form.bits()
    }

    /// The weight of channel `n` and input `k` (of `k_total`) in `packed`.
    ///
    /// # Panics
    ///
    /// If `packed` ends before it.
    pub fn weight(self, packed: &[i8], n: usize, k: usize, k_total: usize) -> i8 {
        if self.form == Form::Bytes {
            return packed[self.index(n, k, k_total)];
        }
        let (channel, group) = (n % self.nr, k / self.kr);
        let quarter = group % 2 * 2 + channel / (self.nr / 2);
        let pair = n / self.nr * self.panel_bytes(k_total) + group / 2 * self.pair_bytes();
        let at = pair + channel % (self.nr / 2) * self.kr + k % self.kr;
        let mut bytes = [0; 3];
        for (run, byte) in bytes[..self.form.bits() / 2].iter_mut().enumerate() {
            *byte = packed[at + run * self.run_bytes()];
        }
        self.form.part(bytes, quarter)
    }

    /// Bytes of a run of a dense panel.
    const fn run_bytes(self) -> usize {
        self.nr / 2 * self.kr
    }

    /// Bytes of two groups of a dense panel.
    const fn pair_bytes(self) -> usize {
        self.run_bytes() * (self.form.bits() / 2)
    }

    /// Where the weight of channel `n` and input `k` (of `k_total`) stands in a packed buffer of
    /// [`Form::Bytes`].
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
    /// [`packed_len`](Self::packed_len) long, or `kr` does not divide [`K_ALIGN`]; of a dense form, if a
    /// weight has more bits, `kr` does not divide half of that, or `nr` is odd.
    pub fn pack(self, weights: &[i8], stride: usize, n: usize, k: usize, packed: &mut [i8]) {
        self.clear(n, k, packed);
        let source = Source::new(weights, stride, n, k);
        if packed.is_empty() {
            return;
        }
        match self.kr {
            _ if self.form != Form::Bytes => {
                self.pack_dense(|channel, input| source.row(channel)[input], n, k, packed);
            }
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
    /// If `weights` does not hold the rows, `stride` is less than `n`, or as [`pack`](Self::pack).
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
            _ if self.form != Form::Bytes => {
                self.pack_dense(|channel, input| source.row(input)[channel], n, k, packed);
            }
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
        let quartered = self.nr.is_multiple_of(2) && (K_ALIGN / 2).is_multiple_of(self.kr);
        assert!(quartered || self.form == Form::Bytes, "pairs of groups");
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

    /// Four codes at a time, one of each quarter.
    fn pack_dense(self, code: impl Fn(usize, usize) -> i8, n: usize, k: usize, packed: &mut [i8]) {
        let (half, run) = (self.nr / 2, self.run_bytes());
        let most = 1i8 << (self.form.bits() - 1);
        for (panel, packed) in packed.chunks_exact_mut(self.panel_bytes(k)).enumerate() {
            for (pair, packed) in packed.chunks_exact_mut(self.pair_bytes()).enumerate() {
                for i in 0..run {
                    let weights = array::from_fn(|quarter| {
                        let channel = panel * self.nr + quarter % 2 * half + i / self.kr;
                        let input = (2 * pair + quarter / 2) * self.kr + i % self.kr;
                        let there = channel < n && input < k;
                        if there { code(channel, input) } else { 0 }
                    });
                    let fit = weights.iter().all(|w| (-most..most).contains(w));
                    assert!(fit, "weights of {} bits", self.form.bits());
                    let bytes = self.form.join(weights);
                    for (packed, byte) in packed[i..].iter_mut().step_by(run).zip(bytes) {
                        *packed = byte;
                    }
                }
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
mod tests;
