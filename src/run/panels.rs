//! Weight codes in the form that one kernel's layout asks for, packed once when a layer is built.

use alloc::vec::Vec;
use core::ops::Range;

use noisyquant_kernels::layout::{PanelLayout, padded_k};
use noisyquant_kernels::ready::Panels;
use noisyquant_kernels::row::MicroKernel;

use super::memory::{Aligned, aligned};

#[derive(Debug)]
pub(crate) struct PackedWeights {
    panels: Aligned<i8>,
    /// Of each pair of panels, for a kernel that reads such.
    sums: Aligned<i8>,
    /// Bytes of those of one pair.
    pair_sums: usize,
    layout: PanelLayout,
    padded_k: usize,
    /// Largest magnitude of a code.
    max: u8,
}

impl PackedWeights {
    /// Packs `codes`, row-major `[n, k]`, whose magnitudes are at most `max`.
    pub(crate) fn pack(codes: &[i8], k: usize, max: u8, kernel: &MicroKernel) -> PackedWeights {
        let layout = kernel.tile.panel();
        let n = codes.len() / k;
        let len = layout
            .packed_len(n, k)
            .expect("as many codes fit the address space");
        let mut panels = aligned(len);
        layout.pack(codes, k, n, k, &mut panels);
        let mut sums = aligned(kernel.sums_bytes(layout.panels(n), k));
        kernel.sum_weights(&panels, k, &mut sums);
        PackedWeights {
            panels,
            sums,
            pair_sums: kernel.sums_bytes(2, k),
            layout,
            padded_k: padded_k(k),
            max,
        }
    }

    /// The panels of output channels `range.start · NR .. range.end · NR`.
    pub(crate) fn panels(&self, range: Range<usize>) -> Panels<'_> {
        let bytes = self.padded_k * self.layout.nr;
        Panels {
            bytes: &self.panels[range.start * bytes..range.end * bytes],
            sums: &self.sums[range.start / 2 * self.pair_sums..range.end / 2 * self.pair_sums],
            max: self.max,
        }
    }

    /// The codes again, row-major `[n, k]`.
    pub(crate) fn unpack(&self, n: usize, k: usize) -> Vec<i8> {
        let index = |channel, input| self.panels[self.layout.index(channel, input, k)];
        let row = |channel| (0..k).map(move |input| index(channel, input));
        (0..n).flat_map(row).collect()
    }
}
