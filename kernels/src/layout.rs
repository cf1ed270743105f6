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
    /// The packed layout that the tile reads.
    pub const fn panel(self) -> PanelLayout {
        PanelLayout {
            nr: self.nr,
            kr: self.kr,
        }
    }
}

/// `k` rounded up to [`K_ALIGN`].
pub const fn padded_k(k: usize) -> usize {
    k.next_multiple_of(K_ALIGN)
}

/// Bytes from one row of codes to the next: [`padded_k`] made an odd multiple of 64.
pub const fn codes_stride(k: usize) -> usize {
    (k.div_ceil(K_ALIGN) | 1) * K_ALIGN
}

impl PanelLayout {
    /// Number of panels for `n` output channels.
    pub const fn panels(self, n: usize) -> usize {
        n.div_ceil(self.nr)
    }

    /// Bytes of one panel of `k` inputs.
    pub const fn panel_bytes(self, k: usize) -> usize {
        padded_k(k) * self.nr
    }

    /// Bytes of all panels for `n` channels of `k` inputs, or `None` where that overflows.
    pub const fn packed_len(self, n: usize, k: usize) -> Option<usize> {
        if k > usize::MAX - K_ALIGN {
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

    /// Packs `weights`, row-major `[n, k]`, into `packed`; padding is filled with zeros.
    ///
    /// # Panics
    ///
    /// If `weights` is not `n * k` long or `packed` is not [`packed_len`](Self::packed_len) long.
    pub fn pack(self, weights: &[i8], n: usize, k: usize, packed: &mut [i8]) {
        assert_eq!(Some(weights.len()), n.checked_mul(k), "weights [n, k]");
        assert_eq!(Some(packed.len()), self.packed_len(n, k), "packed panels");
        packed.fill(0);
        for (channel, row) in weights.chunks_exact(k.max(1)).enumerate() {
            for (group, values) in row.chunks(self.kr).enumerate() {
                let at = self.index(channel, group * self.kr, k);
                packed[at..at + values.len()].copy_from_slice(values);
            }
        }
    }
}

#[cfg(test)]
mod tests {
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
    fn packing_places_every_weight_once_and_pads_with_zeros() {
        for layout in [
            PanelLayout { nr: 32, kr: 4 },
            PanelLayout { nr: 16, kr: 2 },
            PanelLayout { nr: 5, kr: 2 },
        ] {
            for (n, k) in [(1, 1), (33, 65), (16, 64), (7, 130)] {
                let weights: Vec<i8> = (0..n * k).map(|i| (i % 127 + 1) as i8).collect();
                let mut packed = vec![-1; layout.packed_len(n, k).unwrap()];
                layout.pack(&weights, n, k, &mut packed);
                for (i, w) in weights.iter().enumerate() {
                    assert_eq!(packed[layout.index(i / k, i % k, k)], *w);
                }
                let nonzero = packed.iter().filter(|w| **w != 0).count();
                assert_eq!(nonzero, n * k);
            }
        }
    }
}
