//! Quantized weights: codes, scales, and the packed panels that a kernel reads.

use std::ops::Range;

use aligned_vec::{AVec, ConstAlign};
use noisyquant_kernels::layout::{ALIGN, PanelLayout, padded_k};
use noisyquant_kernels::spec;

/// A vector that starts on a cache line.
pub(crate) type Aligned<T> = AVec<T, ConstAlign<ALIGN>>;

/// `len` default values, aligned.
pub(crate) fn aligned<T: Default + Clone>(len: usize) -> Aligned<T> {
    let mut values = AVec::with_capacity(ALIGN, len);
    values.resize(len, T::default());
    values
}

/// Weight codes of a layer, row-major `[n, k]`, with a scale per output channel (eq. 1).
#[derive(Debug)]
pub(crate) struct WeightCodes {
    pub(crate) codes: Vec<i8>,
    pub(crate) scales: Vec<f32>,
    pub(crate) k: usize,
}

impl WeightCodes {
    /// Quantizes `weight`, row-major `[n, k]` and finite, symmetrically to `bits` bits, each channel
    /// by its largest magnitude.
    pub(crate) fn quantize(weight: &[f32], k: usize, bits: u32) -> WeightCodes {
        let q = f32::from(spec::max_weight(bits));
        let scale = |row: &[f32]| {
            let largest = row.iter().fold(0f32, |m, w| m.max(w.abs()));
            if largest == 0.0 {
                1.0
            } else {
                (largest / q).max(f32::MIN_POSITIVE)
            }
        };
        let scales: Vec<f32> = weight.chunks_exact(k).map(scale).collect();
        let rows = weight.chunks_exact(k).zip(&scales);
        let codes = rows.flat_map(|(row, s)| row.iter().map(|w| spec::weight_code(*w, *s, bits)));
        WeightCodes {
            codes: codes.collect(),
            scales,
            k,
        }
    }

    /// The codes of each output channel in turn.
    pub(crate) fn channels(&self) -> impl Iterator<Item = &[i8]> {
        self.codes.chunks_exact(self.k)
    }
}

/// Weight codes in the form of one kernel's layout, packed once when a layer is built.
#[derive(Debug)]
pub(crate) struct PackedWeights {
    panels: Aligned<i8>,
    layout: PanelLayout,
    padded_k: usize,
}

impl PackedWeights {
    pub(crate) fn pack(weights: &WeightCodes, layout: PanelLayout) -> PackedWeights {
        let (n, k) = (weights.scales.len(), weights.k);
        let len = layout.packed_len(n, k).expect("checked by the builder");
        let mut panels = aligned(len);
        layout.pack(&weights.codes, n, k, &mut panels);
        PackedWeights {
            panels,
            layout,
            padded_k: padded_k(k),
        }
    }

    /// The panels of output channels `range.start · NR .. range.end · NR`.
    pub(crate) fn panels(&self, range: Range<usize>) -> &[i8] {
        let bytes = self.padded_k * self.layout.nr;
        &self.panels[range.start * bytes..range.end * bytes]
    }
}
