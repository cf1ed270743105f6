//! Weight codes in the form that one kernel's layout asks for, packed once when a layer is built.

use alloc::vec::Vec;
use core::ops::Range;

use noisyquant_kernels::layout::{PanelLayout, padded_k};
use noisyquant_kernels::ready::Panels;

use super::executor::Executor;
use super::memory::{Aligned, aligned};

#[derive(Debug)]
pub(crate) struct PackedWeights {
    panels: Aligned<i8>,
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
        layout: PanelLayout,
        executor: Executor<'_>,
    ) -> PackedWeights {
        let n = codes.len() / k;
        let len = layout
            .packed_len(n, k)
            .expect("as many codes fit the address space");
        let mut panels = aligned(len);
        let channels = codes.chunks(layout.nr * k);
        let each = channels.zip(panels.chunks_mut(layout.panel_bytes(k)));
        executor.for_each(layout.panels(n), each, |(codes, panel)| {
            layout.pack(codes, k, codes.len() / k, k, panel);
        });
        PackedWeights {
            panels,
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
            max: self.max,
        }
    }

    /// Bytes of all panels.
    pub(crate) fn bytes(&self) -> usize {
        self.panels.len()
    }

    /// The codes again, row-major `[n, k]`.
    pub(crate) fn unpack(&self, n: usize, k: usize) -> Vec<i8> {
        let index = |channel, input| self.panels[self.layout.index(channel, input, k)];
        let row = |channel| (0..k).map(move |input| index(channel, input));
        (0..n).flat_map(row).collect()
    }
}
