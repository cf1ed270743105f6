//! The layer: `y = x · Wᵀ + b` on integer kernels.

use std::sync::Arc;

use noisyquant_kernels::isa::Isa;
use noisyquant_kernels::ready::{Channels, CodeForm, Ready};
use noisyquant_kernels::row::Prologue;
use noisyquant_kernels::spec;
use noisyquant_kernels::view::{Element, MatMut, MatRef};

use crate::builder::Builder;
use crate::check;
use crate::error::Error;
use crate::kernels::Kernels;
use crate::parallel;
use crate::parts::Parts;
use crate::plan::Plan;
use crate::quantizer::Affine;
use crate::scratch::Scratch;
use crate::weights::{Aligned, PackedWeights};

/// A quantized linear layer, built once and shared between threads; a clone shares the weights.
///
/// Computes `Qw(W) · Qa(X + N) + (B − Qw(W) · N)` for inputs `X [rows, in]` (docs/math.md, eq. 3–9).
/// The same layer gives the same bits on every CPU, on any number of threads.
#[derive(Clone, Debug)]
pub struct QuantLinear {
    pub(crate) in_features: usize,
    pub(crate) out_features: usize,
    pub(crate) weight_bits: u32,
    pub(crate) affine: Affine,
    pub(crate) noise: Vec<f32>,
    pub(crate) channel_scale: Arc<[f32]>,
    /// Per output channel, before the remainder of the correction is added.
    pub(crate) given_bias: Arc<[f32]>,
    pub(crate) weight_scales: Arc<[f32]>,
    pub(crate) weights: Arc<PackedWeights>,
    pub(crate) kernels: Kernels,
    /// Per input channel, zero past `in_features` up to `padded_k`.
    pub(crate) inv: Aligned<f32>,
    pub(crate) t: Aligned<f32>,
    pub(crate) twin: Option<Arc<TwinPlane>>,
    /// Per output channel, zero past `out_features` up to a whole panel.
    pub(crate) comp: Aligned<i32>,
    pub(crate) scale: Aligned<f32>,
    pub(crate) bias: Aligned<f32>,
}

/// The second plane of a twin quantizer's codes (eq. 24): multipliers and offsets of the coarse codes,
/// padded with zeros as those of the fine codes are.
#[derive(Debug)]
pub(crate) struct TwinPlane {
    pub(crate) twin: spec::Twin,
    pub(crate) inv: Aligned<f32>,
    pub(crate) t: Aligned<f32>,
}

impl TwinPlane {
    /// Whether the combined codes fit a byte, so that one plane is enough.
    fn merges(&self) -> bool {
        self.twin.max_code() <= u8::MAX.into()
    }
}

impl QuantLinear {
    /// Starts a layer from a float weight, row-major `[out_features, in_features]` (PyTorch's order).
    pub fn builder(weight: &[f32], out_features: usize, in_features: usize) -> Builder<'_> {
        Builder::new(weight, out_features, in_features)
    }

    /// Runs the layer on `x`, row-major `[rows, in_features]`, and returns `[rows, out_features]` of
    /// the same element type. Allocates output and scratch.
    ///
    /// # Errors
    ///
    /// [`Error::Rows`] if `x` is not whole rows.
    pub fn forward<T: Element>(&self, x: &[T]) -> Result<Vec<T>, Error> {
        check::rows("input", self.in_features, x.len())?;
        let rows = x.len() / self.in_features;
        let mut y = vec![T::default(); rows * self.out_features];
        self.forward_into(x, &mut y, &mut self.scratch(rows))?;
        Ok(y)
    }

    /// Runs the layer on `x`, row-major `[rows, in_features]`, into `y`, `[rows, out_features]`, both
    /// dense and of any two element types. Runs on rayon's current thread pool if `scratch` was made
    /// for more than one thread. Does not allocate, on one thread or on a worker of the pool; entering a
    /// pool from another thread is rayon's affair, which allocates now and then.
    ///
    /// # Errors
    ///
    /// [`Error`] if `x` is not whole rows, `y` has another length than that asks for, or `scratch` is
    /// too small.
    pub fn forward_into<T: Element, U: Element>(
        &self,
        x: &[T],
        y: &mut [U],
        scratch: &mut Scratch,
    ) -> Result<(), Error> {
        let (k, n) = (self.in_features, self.out_features);
        check::rows("input", k, x.len())?;
        let rows = x.len() / k;
        check::length("output", rows.saturating_mul(n), y.len())?;
        let fits = "lengths were checked";
        let x = MatRef::new(x, rows, k, k).expect(fits);
        let y = MatMut::new(y, rows, n, n).expect(fits);
        self.forward_view(x, y, scratch)
    }

    /// Runs the layer on strided views: `x` is `rows × in_features`, `y` `rows × out_features`.
    /// Otherwise as [`forward_into`](Self::forward_into).
    ///
    /// # Errors
    ///
    /// [`Error`] if a shape does not fit or `scratch` is too small.
    pub fn forward_view(
        &self,
        x: MatRef<'_>,
        y: MatMut<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), Error> {
        let rows = x.rows();
        check::shape("input", (rows, self.in_features), (rows, x.cols()))?;
        check::shape("output", (rows, self.out_features), (y.rows(), y.cols()))?;
        if rows == 0 {
            return Ok(());
        }
        let threads = match scratch.threads() {
            1 => 1, // do not even look for a pool
            threads => threads.min(rayon::current_num_threads()),
        };
        let plan = self.plan(rows, threads);
        // A scratch made for another pool may hold fewer tasks; one is enough.
        let slots = scratch.bytes() / plan.task_bytes();
        if slots == 0 {
            return Err(Error::ScratchTooSmall {
                expected: plan.task_bytes(),
                got: scratch.bytes(),
                rows,
            });
        }
        let tasks = plan.tasks.min(slots);
        let panels = 0..self.out_features.div_ceil(self.kernels.micro.tile.nr);
        parallel::run(self, &plan, tasks, x, y, panels, scratch.as_mut_slice());
        Ok(())
    }

    /// Scratch for calls of up to `max_rows` rows on all threads of rayon's current pool.
    pub fn scratch(&self, max_rows: usize) -> Scratch {
        self.scratch_with_threads(max_rows, rayon::current_num_threads())
    }

    /// Scratch for calls of up to `max_rows` rows on at most `threads` threads; with 1, calls run on
    /// the calling thread and never touch rayon.
    pub fn scratch_with_threads(&self, max_rows: usize, threads: usize) -> Scratch {
        Scratch::with_bytes(self.scratch_bytes(max_rows, threads), threads)
    }

    /// Bytes of scratch for calls of up to `max_rows` rows on `threads` threads.
    pub fn scratch_bytes(&self, max_rows: usize, threads: usize) -> usize {
        // A call of fewer rows never has higher blocks than this.
        let highest = self.plan(usize::MAX, 1).block_rows;
        let rows = max_rows.min(highest).max(1);
        // Nor more tasks than are worth it for the most rows.
        let tasks = self.plan(max_rows, threads).tasks;
        self.plan(rows, 1).task_bytes().saturating_mul(tasks)
    }

    /// Which kernel and blocking a call of `rows` rows will run on rayon's current pool, and why.
    pub fn explain(&self, rows: usize) -> Plan {
        self.plan(rows, rayon::current_num_threads())
    }

    /// Inputs of a row.
    pub fn in_features(&self) -> usize {
        self.in_features
    }

    /// Outputs of a row.
    pub fn out_features(&self) -> usize {
        self.out_features
    }

    /// Bits of a weight.
    pub fn weight_bits(&self) -> u32 {
        self.weight_bits
    }

    /// Bits of an activation code.
    pub fn activation_bits(&self) -> u32 {
        self.affine.bits
    }

    /// Step of the activation quantizer, `s_x`; the fine step `Δ₁` of a twin quantizer.
    pub fn activation_scale(&self) -> f32 {
        self.affine.scale
    }

    /// Code of the value 0 without noise, `z`.
    pub fn zero_point(&self) -> f32 {
        self.affine.zero_point
    }

    /// Scale of the weights of each output channel, `s_w`.
    pub fn weight_scales(&self) -> &[f32] {
        &self.weight_scales
    }

    /// `log2(Δ₂ / Δ₁)` of a twin quantizer.
    pub fn twin_shift(&self) -> Option<u32> {
        self.affine.twin_shift
    }

    /// The bias per input channel, shift and noise together, in units of the input times its
    /// [channel scale](Self::channel_scale); all zero without either.
    pub fn noise(&self) -> &[f32] {
        &self.noise
    }

    /// The scale of each input channel, `r`; all one if none was chosen.
    pub fn channel_scale(&self) -> &[f32] {
        &self.channel_scale
    }

    /// The bias of each output channel, as given or corrected (eq. 27).
    pub fn bias(&self) -> &[f32] {
        &self.given_bias
    }

    /// The weight codes, row-major `[out_features, in_features]`: a weight is about
    /// `code · weight_scales()[n] · channel_scale()[k]`.
    pub fn weight_codes(&self) -> Vec<i8> {
        self.weights.unpack(self.out_features, self.in_features)
    }

    /// The instruction set that the layer was packed for.
    pub fn isa(&self) -> Isa {
        self.kernels.micro.isa
    }

    /// Name of the micro-kernel that the layer was packed for.
    pub fn kernel(&self) -> &'static str {
        self.kernels.micro.name
    }

    fn plan(&self, rows: usize, threads: usize) -> Plan {
        let shape = (rows, self.in_features, self.out_features);
        Plan::new(self.kernels.micro, shape, self.code_planes(), threads)
    }

    pub(crate) fn kernels(&self) -> &Kernels {
        &self.kernels
    }

    pub(crate) fn weights(&self) -> &PackedWeights {
        &self.weights
    }

    /// Planes of codes that a block of rows takes in scratch.
    fn code_planes(&self) -> usize {
        if self.twin.is_some() { 2 } else { 1 }
    }

    /// If the accumulators of a second plane of codes are to be added: how far they are shifted.
    pub(crate) fn second_plane(&self) -> Option<u32> {
        let twin = self.twin.as_ref().filter(|twin| !twin.merges());
        twin.map(|twin| twin.twin.shift)
    }

    /// Quantizes a block of rows into `codes`. A twin quantizer writes the fine codes of all rows and
    /// then their coarse codes, merged into the first plane where they fit a byte.
    pub(crate) fn quantize(
        &self,
        prologue: Ready<Prologue>,
        x: MatRef<'_>,
        codes: &mut [u8],
        stride: usize,
    ) {
        let offset = self.kernels.micro.code_offset;
        let form = |max, offset| CodeForm { max, offset };
        let Some(plane) = &self.twin else {
            let form = form(spec::max_code(self.affine.bits), offset);
            return prologue.quantize(x, &self.inv, &self.t, form, codes, stride);
        };
        let (fine, coarse) = codes.split_at_mut(x.rows() * stride);
        let twin = plane.twin;
        // Of a merged code, one part carries the kernel's offset.
        let second = if plane.merges() { 0 } else { offset };
        let (fine_form, coarse_form) = (
            form(twin.max_fine(), offset),
            form(twin.max_coarse(), second),
        );
        prologue.quantize(x, &self.inv, &self.t, fine_form, fine, stride);
        prologue.quantize(x, &plane.inv, &plane.t, coarse_form, coarse, stride);
        if plane.merges() {
            for (fine, coarse) in fine.iter_mut().zip(coarse) {
                // Wraps as stored codes do, and in the unused bytes between rows.
                *fine = fine.wrapping_add(*coarse << twin.shift);
            }
        }
    }

    /// Largest activation code and weight code that the micro-kernel meets.
    pub(crate) fn largest_operands(&self) -> (u8, i8) {
        Parts::largest_operands(self.weight_bits, &self.affine)
    }

    /// Output constants of the panel that starts at output channel `first`.
    pub(crate) fn channels(&self, first: usize) -> Channels<'_> {
        Channels {
            comp: &self.comp[first..],
            scale: &self.scale[first..],
            bias: &self.bias[first..],
        }
    }
}
