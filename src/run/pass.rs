//! What the single pass of a layer needs: its kernels, and every number in the form that they read.

use alloc::sync::Arc;
use core::ops::Range;

use noisyquant_kernels::codes::CodesMut;
use noisyquant_kernels::layout::{ALIGN, codes_stride, padded_k};
use noisyquant_kernels::output::{Coarse, CodeForm, Coding};
use noisyquant_kernels::ready::{Channels, Panels, Ready};
use noisyquant_kernels::row::Prologue;
use noisyquant_kernels::spec::{self, Twin};
use noisyquant_kernels::view::MatRef;

use super::memory::Aligned;
use super::panels::PackedWeights;
use super::plan::Plan;
use super::select::Kernels;

/// A layer as one call sees it. Vectors of inputs are zero past `k` up to `padded_k`, those of outputs past
/// `n` up to a whole panel.
#[derive(Clone, Debug)]
pub(crate) struct Pass {
    pub(crate) kernels: Kernels,
    pub(crate) weights: Arc<PackedWeights>,
    /// Inputs and outputs of a row.
    pub(crate) k: usize,
    pub(crate) n: usize,
    pub(crate) planes: Planes,
    /// Constants of each output channel (eq. 6 and 8).
    pub(crate) comp: Aligned<i32>,
    pub(crate) scale: Aligned<f32>,
    pub(crate) bias: Aligned<f32>,
}

/// How rows become codes: in one plane, or in the two of a twin quantizer (eq. 24).
#[derive(Clone, Debug)]
pub(crate) enum Planes {
    /// The codes of a plain quantizer.
    One(Coder),
    /// Fine and coarse codes that fit a byte together: `fine + (coarse << shift)` in one plane.
    Merged(Arc<TwinCoders>),
    /// Fine and coarse codes in a plane each; the sums of the coarse ones count `2^shift` times as much.
    Two(Arc<TwinCoders>),
}

/// Multipliers and offsets of one plane of codes, and their form (eq. 2 and 3).
#[derive(Clone, Debug)]
pub(crate) struct Coder {
    pub(crate) inv: Aligned<f32>,
    pub(crate) t: Aligned<f32>,
    pub(crate) form: CodeForm,
}

/// Rows of codes, `stride` bytes each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CodeRows<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) stride: usize,
}

#[derive(Debug)]
pub(crate) struct TwinCoders {
    pub(crate) fine: Coder,
    pub(crate) coarse: Coder,
    pub(crate) twin: Twin,
}

/// A line of codes.
#[repr(align(64))]
struct Line([u8; ALIGN]);

impl Coder {
    /// Writes the codes of all rows of `x`.
    fn quantize(&self, prologue: Ready<Prologue>, x: MatRef<'_>, codes: &mut [u8]) {
        let stride = codes_stride(x.cols());
        prologue.quantize(x, &self.inv, &self.t, self.form, codes, stride);
    }

    /// Writes those of the columns from `first` on, where a line begins, to where a line ends.
    fn quantize_into(
        &self,
        prologue: Ready<Prologue>,
        x: MatRef<'_>,
        first: usize,
        codes: CodesMut<'_>,
    ) {
        prologue.quantize_into(x, &self.inv[first..], &self.t[first..], self.form, codes);
    }
}

impl Planes {
    /// Planes of codes that a block of rows takes in scratch while it is quantized.
    pub(crate) fn in_scratch(&self) -> usize {
        match self {
            Planes::One(_) => 1,
            Planes::Merged(_) | Planes::Two(_) => 2,
        }
    }
}

impl Pass {
    /// The blocking of a call of `rows` rows on up to `threads` threads.
    pub(crate) fn plan(&self, rows: usize, threads: usize) -> Plan {
        let shape = (rows, self.k, self.n);
        Plan::new(self.kernels.micro, shape, self.planes.in_scratch(), threads)
    }

    /// Bytes that a task needs for calls of up to `max_rows` rows.
    pub(crate) fn task_bytes(&self, max_rows: usize) -> usize {
        // A call of fewer rows never has higher blocks than this.
        let highest = self.plan(usize::MAX, 1).block_rows;
        self.plan(max_rows.min(highest).max(1), 1).task_bytes()
    }

    /// Bytes of scratch for calls of up to `max_rows` rows on so many threads.
    pub(crate) fn scratch_bytes(&self, max_rows: usize, threads: usize) -> usize {
        // Nor more tasks than are worth it for the most rows.
        let tasks = self.plan(max_rows, threads).tasks;
        self.task_bytes(max_rows).saturating_mul(tasks)
    }

    /// Bytes of all that a call reads of the layer: packed weights, and vectors of inputs and outputs.
    pub(crate) fn bytes(&self) -> usize {
        let inputs = self.planes.in_scratch() * 2 * padded_k(self.k);
        self.weights.bytes() + size_of::<f32>() * (inputs + 3 * self.comp.len())
    }

    /// Bytes of a row of codes as the kernel reads them.
    pub(crate) fn row_bytes(&self) -> usize {
        codes_stride(self.k) * self.planes.in_scratch() * self.kernels.micro.code_bytes()
    }

    /// Quantizes `x`, the rows from `first` on of a block of `rows`, into `codes`: those of all rows or, of
    /// [`Planes::Two`], fine codes of all and then coarse ones.
    pub(crate) fn quantize(&self, x: MatRef<'_>, first: usize, rows: usize, codes: &mut [u8]) {
        let prologue = self.kernels.prologue(x.elem());
        let stride = codes_stride(self.k);
        let part = first * stride..(first + x.rows()) * stride;
        let twins = match &self.planes {
            Planes::One(coder) => return coder.quantize(prologue, x, &mut codes[part]),
            Planes::Merged(twins) | Planes::Two(twins) => twins,
        };
        let (fine, coarse) = codes.split_at_mut(rows * stride);
        let (fine, coarse) = (&mut fine[part.clone()], &mut coarse[part]);
        twins.fine.quantize(prologue, x, fine);
        twins.coarse.quantize(prologue, x, coarse);
        if let Planes::Two(_) = self.planes {
            return;
        }
        for (fine, coarse) in fine.iter_mut().zip(coarse) {
            // Also of the unused bytes between rows.
            *fine = spec::merged_code(*fine, *coarse, twins.twin.shift);
        }
    }

    /// Quantizes `x`, the columns from `first` on, where a line begins, to where a line ends, into `codes`:
    /// the one plane of [`Planes::One`] or [`Planes::Merged`].
    pub(crate) fn quantize_into(&self, x: MatRef<'_>, first: usize, mut codes: CodesMut<'_>) {
        let prologue = self.kernels.prologue(x.elem());
        let twins = match &self.planes {
            Planes::One(coder) => return coder.quantize_into(prologue, x, first, codes),
            Planes::Merged(twins) | Planes::Two(twins) => twins,
        };
        // A line at a time: there is no room for coarse codes but here.
        let mut line = Line([0; ALIGN]);
        for row in 0..codes.rows() {
            let x = x.rows_range(row, row + 1);
            for at in 0..codes.lines() {
                let (from, to) = (at * ALIGN, x.cols().min((at + 1) * ALIGN));
                let (x, first) = (x.cols_range(from, to), first + from);
                let coarse = CodesMut::new(&mut line.0, 1, 1, ALIGN);
                twins.coarse.quantize_into(prologue, x, first, coarse);
                let mut fine = codes.block(row, 1, at, 1);
                twins
                    .fine
                    .quantize_into(prologue, x, first, fine.block(0, 1, 0, 1));
                for (fine, coarse) in fine.row(0).iter_mut().zip(&line.0) {
                    *fine = spec::merged_code(*fine, *coarse, twins.twin.shift);
                }
            }
        }
    }

    /// What the kernel reads of a block of `rows` rows that [`quantize`](Self::quantize) has written.
    pub(crate) fn code_rows<'a>(&self, codes: &'a [u8], rows: usize) -> CodeRows<'a> {
        let stride = codes_stride(self.k);
        let planes = match &self.planes {
            Planes::One(_) | Planes::Merged(_) => 1,
            Planes::Two(_) => 2,
        };
        CodeRows {
            bytes: &codes[..planes * rows * stride],
            stride,
        }
    }

    /// What another layer makes the codes with, where a number's fit a byte.
    pub(crate) fn coding(&self) -> Option<Coding<'_>> {
        let (code, coarse) = match &self.planes {
            Planes::One(coder) => (coder, None),
            Planes::Merged(twins) => (&twins.fine, Some((&twins.coarse, twins.twin.shift))),
            Planes::Two(_) => return None,
        };
        Some(Coding {
            inv: &code.inv[..self.k],
            t: &code.t[..self.k],
            form: code.form,
            coarse: coarse.map(|(coarse, shift)| Coarse {
                inv: &coarse.inv[..self.k],
                t: &coarse.t[..self.k],
                max: coarse.form.max,
                shift,
            }),
        })
    }

    /// The largest code of a plane as the kernel reads it.
    pub(crate) fn max_code(&self) -> u8 {
        match &self.planes {
            Planes::One(coder) => coder.form.max,
            Planes::Two(twins) => twins.fine.form.max,
            Planes::Merged(twins) => {
                u8::try_from(twins.twin.max_code()).expect("merged codes fit a byte")
            }
        }
    }

    /// The panels of `range`.
    pub(crate) fn panels(&self, range: Range<usize>) -> Panels<'_> {
        self.weights.panels(range)
    }

    /// Output constants of the panels from `panel` on.
    pub(crate) fn channels(&self, panel: usize) -> Channels<'_> {
        let first = panel * self.kernels.micro.tile.nr;
        Channels {
            comp: &self.comp[first..],
            scale: &self.scale[first..],
            bias: &self.bias[first..],
        }
    }
}
