//! Weight codes in the form that one kernel's layout asks for, packed once when a layer is built.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use noisyquant_kernels::layout::{PanelLayout, padded_k};
use noisyquant_kernels::ready::Panels;
use noisyquant_kernels::row::MicroKernel;

use super::executor::Executor;
use super::memory::{Aligned, aligned};

#[derive(Debug)]
pub(crate) struct PackedWeights {
    panels: Aligned<i8>,
    /// Of each pair of panels, for a kernel that reads such.
    corrections: Vec<i32>,
    /// Those of one pair.
    of_pair: usize,
    layout: PanelLayout,
    padded_k: usize,
    /// Largest magnitude of a code.
    max: u8,
}

impl PackedWeights {
    /// Packs `codes`, row-major `[n, k]`, whose magnitudes are at most `max`; each panel by itself.
    pub(crate) fn pack(
        codes: &[i8],
        k: usize,
        max: u8,
        kernel: &MicroKernel,
        executor: Executor<'_>,
    ) -> PackedWeights {
        let layout = kernel.tile.panel();
        let n = codes.len() / k;
        let len = layout
            .packed_len(n, k)
            .expect("as many codes fit the address space");
        let mut panels = aligned(len);
        let (bytes, of_pair) = (layout.panel_bytes(k), kernel.corrections(2, k));
        let channels = codes.chunks(layout.nr * k);
        let each = channels.zip(panels.chunks_exact_mut(bytes));
        executor.for_each(layout.panels(n), each, |(codes, panel)| {
            layout.pack(codes, k, codes.len() / k, k, panel);
        });
        let mut corrections = vec![0; kernel.corrections(layout.panels(n), k)];
        if !corrections.is_empty() {
            let pairs = panels.chunks_exact(2 * bytes);
            let each = pairs.zip(corrections.chunks_exact_mut(of_pair));
            executor.for_each(layout.panels(n) / 2, each, |(pair, corrections)| {
                kernel.correct(pair, k, corrections);
            });
        }
        PackedWeights {
            panels,
            corrections,
            of_pair,
            layout,
            padded_k: padded_k(k),
            max,
        }
    }

    /// The panels of output channels `range.start · NR .. range.end · NR`.
    pub(crate) fn panels(&self, range: Range<usize>) -> Panels<'_> {
        let bytes = self.padded_k * self.layout.nr;
        let pairs = range.start / 2 * self.of_pair..range.end / 2 * self.of_pair;
        Panels {
            bytes: &self.panels[range.start * bytes..range.end * bytes],
            corrections: &self.corrections[pairs],
            max: self.max,
        }
    }

    /// Bytes of all panels, and of the corrections beside them.
    pub(crate) fn bytes(&self) -> usize {
        self.panels.len() + size_of_val(&*self.corrections)
    }

    /// The codes again, row-major `[n, k]`.
    pub(crate) fn unpack(&self, n: usize, k: usize) -> Vec<i8> {
        let index = |channel, input| self.panels[self.layout.index(channel, input, k)];
        let row = |channel| (0..k).map(move |input| index(channel, input));
        (0..n).flat_map(row).collect()
    }
}
