//! Weight codes in the form that one kernel's layout asks for, packed once when a layer is built.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use noisyquant_kernels::layout::{Form, PanelLayout};
use noisyquant_kernels::ready::Panels;
use noisyquant_kernels::row::MicroKernel;

use super::executor::Executor;
use super::memory::{Aligned, aligned};

/// How a layer keeps its weights in memory: a choice of speed and memory, never of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Packing {
    /// A byte a weight. The fastest for calls of many rows with weights and codes of six bits or fewer, which
    /// most instruction sets then multiply by Strassen's algorithm.
    #[default]
    Expanded,
    /// Six bits a weight for weights of 5 and 6 bits, four for those of 2 to 4 bits. The smallest, and the
    /// fastest for calls of few rows with weights that do not stay in the caches, for which reading them is
    /// the limit. With many rows it takes about as long as eight bits do on Zen 4, the only CPU on which it
    /// has been measured (docs/kernels.md).
    ///
    /// Weights of 7 and 8 bits, and all on instruction sets other than AVX-512-VNNI, which alone has kernels
    /// for it, are as [expanded](Packing::Expanded): [`QuantLinear::packing`](crate::QuantLinear::packing)
    /// says what a layer has.
    Dense,
}

#[derive(Debug)]
pub(crate) struct PackedWeights {
    panels: Aligned<i8>,
    /// Of each pair of panels, for a kernel that reads such.
    corrections: Vec<i32>,
    /// Those of one pair.
    of_pair: usize,
    layout: PanelLayout,
    /// Bytes of a panel.
    panel: usize,
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
        let layout = kernel.panel();
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
            panel: layout.panel_bytes(k),
            max,
        }
    }

    /// The panels of output channels `range.start · NR .. range.end · NR`.
    pub(crate) fn panels(&self, range: Range<usize>) -> Panels<'_> {
        let pairs = range.start / 2 * self.of_pair..range.end / 2 * self.of_pair;
        Panels {
            bytes: &self.panels[range.start * self.panel..range.end * self.panel],
            corrections: &self.corrections[pairs],
            max: self.max,
        }
    }

    /// Bytes of all panels, and of the corrections beside them.
    pub(crate) fn bytes(&self) -> usize {
        self.panels.len() + size_of_val(&*self.corrections)
    }

    pub(crate) fn packing(&self) -> Packing {
        match self.layout.form {
            Form::Bytes => Packing::Expanded,
            Form::Six | Form::Four => Packing::Dense,
        }
    }

    /// The codes again, row-major `[n, k]`.
    pub(crate) fn unpack(&self, n: usize, k: usize) -> Vec<i8> {
        let weight = |channel, input| self.layout.weight(&self.panels, channel, input, k);
        let row = |channel| (0..k).map(move |input| weight(channel, input));
        (0..n).flat_map(row).collect()
    }
}
