//! The layer: `y = x · Wᵀ + b` on integer kernels.

use alloc::sync::Arc;
use alloc::vec::Vec;

use noisyquant_kernels::isa::Isa;
use noisyquant_kernels::spec::Activation;
use noisyquant_kernels::view::{Element, MatMut, MatRef};

use super::assemble;
use super::codes::Codes;
use super::numbers::{Numbers, Params};
use super::operands::{Input, Output};
use crate::check;
use crate::error::Error;
use crate::run::executor::Executor;
use crate::run::memory::Scratch;
use crate::run::panels::{PackedWeights, Packing};
use crate::run::pass::Pass;
use crate::run::plan::Plan;
use crate::run::select::Kernels;
use crate::run::tasks;

/// A quantized linear layer, built once and shared between threads; a clone shares the weights.
///
/// Computes `Qw(W) · Qa(X + N) + (B − Qw(W) · N)` for inputs `X [rows, in]` (docs/math.md, eq. 3–9).
/// The same layer gives the same bits on every CPU, on any number of threads.
#[derive(Clone, Debug)]
pub struct QuantLinear {
    /// The weight codes are in the pass alone, packed.
    params: Arc<Params>,
    pass: Arc<Pass>,
}

impl QuantLinear {
    /// A layer of numbers that were found elsewhere, on `isa`, or else on the set that `NOISYQUANT_ISA`
    /// names, or else on the best of this CPU that has a kernel which is exact for them. Runs on the calling
    /// thread.
    ///
    /// # Errors
    ///
    /// [`Error`] for lengths that do not fit, dimensions of zero or over their limit, bits outside `2..=8`,
    /// weight codes outside the range of their bits, scales that are not positive, values that are not
    /// finite, noise or a zero point so large that the correction could overflow; or for a named instruction
    /// set that is not there, or has no kernel that is exact for these codes. That is plain NEON with a
    /// weight of −128.
    ///
    /// Weights are [expanded](Packing::Expanded); [`with_packing`](Self::with_packing) packs them otherwise.
    pub fn from_numbers(numbers: Numbers, isa: Option<Isa>) -> Result<QuantLinear, Error> {
        QuantLinear::from_numbers_on(numbers, isa, Executor::serial())
    }

    /// As [`from_numbers`](Self::from_numbers), on `executor`: a layer at a time on all threads takes less
    /// memory than a layer on each.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn from_numbers_on(
        numbers: Numbers,
        isa: Option<Isa>,
        executor: Executor<'_>,
    ) -> Result<QuantLinear, Error> {
        numbers.check()?;
        QuantLinear::packed(&numbers, isa, Packing::default(), executor)
    }

    /// The same layer with its weights packed so, on the same instruction set; itself if they are. Outputs
    /// are the same, bit for bit. It is another layer to those that write codes for it. Runs on the calling
    /// thread.
    ///
    /// ```
    /// # use noisyquant::{Numbers, Packing, QuantLinear};
    /// # let numbers = Numbers::new(vec![1; 64 * 64], vec![0.5; 64], 0.1, 128.0).with_weight_bits(4);
    /// // Also of a layer that was loaded or calibrated.
    /// let layer = QuantLinear::from_numbers(numbers, None)?;
    /// let dense = layer.clone().with_packing(Packing::Dense)?;
    /// assert!(dense.packed_bytes() <= layer.packed_bytes());
    /// assert_eq!(dense.forward(&[0.3f32; 64])?, layer.forward(&[0.3f32; 64])?);
    /// # Ok::<(), noisyquant::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// None that a layer which exists is known to meet; [`Error`] as
    /// [`from_numbers`](Self::from_numbers).
    pub fn with_packing(self, packing: Packing) -> Result<QuantLinear, Error> {
        if self.packing() == packing {
            return Ok(self);
        }
        let executor = Executor::serial();
        QuantLinear::packed(&self.numbers(), Some(self.isa()), packing, executor)
    }

    /// The layer of checked `numbers`.
    fn packed(
        numbers: &Numbers,
        isa: Option<Isa>,
        packing: Packing,
        executor: Executor<'_>,
    ) -> Result<QuantLinear, Error> {
        let kernels = numbers.kernels(isa, packing)?;
        let weights = Arc::new(numbers.pack(&kernels.micro, executor));
        QuantLinear::assemble(numbers, kernels, weights, executor)
    }

    /// The layer of checked `numbers`, whose codes are packed in `weights` for `kernels`.
    pub(crate) fn assemble(
        numbers: &Numbers,
        kernels: Kernels,
        weights: Arc<PackedWeights>,
        executor: Executor<'_>,
    ) -> Result<QuantLinear, Error> {
        let pass = assemble::pass(numbers, kernels, weights, executor)?;
        Ok(QuantLinear {
            params: Arc::new(numbers.params.clone()),
            pass: Arc::new(pass),
        })
    }

    /// The numbers that the layer is made of. A layer made of them gives the same bits.
    pub fn numbers(&self) -> Numbers {
        Numbers {
            codes: self.weight_codes().into(),
            params: (*self.params).clone(),
        }
    }

    /// Runs the layer on `x`, row-major `[rows, in_features]`, and returns `[rows, out_features]` of
    /// the same element type. Allocates output and scratch, and runs on the
    /// [default executor](Executor::default).
    ///
    /// # Errors
    ///
    /// [`Error::Rows`] if `x` is not whole rows; [`Error::Memory`] if output or scratch cannot be allocated.
    pub fn forward<T: Element>(&self, x: &[T]) -> Result<Vec<T>, Error> {
        check::rows("input", self.pass.k, x.len())?;
        let rows = x.len() / self.pass.k;
        let length = rows.saturating_mul(self.pass.n);
        let mut y = Vec::new();
        y.try_reserve_exact(length).map_err(|_| Error::Memory {
            what: "output",
            bytes: length.saturating_mul(size_of::<T>()),
        })?;
        y.resize(length, T::default());
        let executor = Executor::default();
        let mut scratch = Scratch::try_with_bytes(self.scratch_bytes(rows, executor.threads()))?;
        self.forward_into(x, &mut y, &mut scratch, executor)?;
        Ok(y)
    }

    /// Runs the layer on `x`, row-major `[rows, in_features]`, and writes `y`, `[rows, out_features]`.
    /// Element types may differ: outputs are rounded to `U`. Allocates nothing, but for what rayon does where
    /// a thread outside of its pool calls.
    ///
    /// An input of NaN is quantized to code 0, as one of −∞ is, so that an output is never NaN. Inputs beyond
    /// the range of the codes saturate.
    ///
    /// A call on rayon's pool must not be made while holding a lock that other work of the pool waits for,
    /// such as that of a shared scratch; [`Scratch`] shows what to do instead.
    ///
    /// # Errors
    ///
    /// [`Error`] if `x` is not whole rows, `y` has another length than that asks for, or `scratch` is
    /// too small: [`scratch_bytes`](Self::scratch_bytes) tells its size.
    pub fn forward_into<T: Element, U: Element>(
        &self,
        x: &[T],
        y: &mut [U],
        scratch: &mut Scratch<'_>,
        executor: Executor<'_>,
    ) -> Result<(), Error> {
        let (k, n) = (self.pass.k, self.pass.n);
        check::rows("input", k, x.len())?;
        let rows = x.len() / k;
        check::length("output", rows.saturating_mul(n), y.len())?;
        let (x, y) = (MatRef::new(x, rows, k, k)?, MatMut::new(y, rows, n, n)?);
        self.forward_view(x, y, scratch, executor)
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
        scratch: &mut Scratch<'_>,
        executor: Executor<'_>,
    ) -> Result<(), Error> {
        let (input, output) = (Input::Rows(x), Output::Rows(y));
        self.forward_with(input, Activation::Identity, output, scratch, executor)
    }

    /// Runs the layer with what is before and after it: `input` may be rows of which a norm is taken first,
    /// or codes that the layer before has made for it, an activation is taken of each output, and `output`
    /// may be a residual that outputs are added to, or codes for the layer after it. Each output is made in
    /// one go, with the same bits as by one step after the other. Otherwise as
    /// [`forward_into`](Self::forward_into); [`Codes`](crate::Codes) has an example.
    ///
    /// # Errors
    ///
    /// [`Error`] if a shape does not fit, codes are for another layer, outputs should be added to other
    /// elements than f32, or `scratch` is too small.
    pub fn forward_with(
        &self,
        input: Input<'_>,
        activation: Activation,
        mut output: Output<'_, '_>,
        scratch: &mut Scratch<'_>,
        executor: Executor<'_>,
    ) -> Result<(), Error> {
        let x = input.of(&self.pass)?;
        let rows = x.rows();
        let y = output.of(rows, self.pass.n)?;
        if rows > 0 {
            tasks::run(&self.pass, x, y.activated(activation), scratch, executor)?;
        }
        output.made(rows);
        Ok(())
    }

    /// What a call needs.
    pub(crate) fn pass(&self) -> &Arc<Pass> {
        &self.pass
    }

    /// Scratch for calls of up to `max_rows` rows on the [default executor](Executor::default).
    ///
    /// # Panics
    ///
    /// If that is more than can be allocated.
    pub fn scratch(&self, max_rows: usize) -> Scratch<'static> {
        let threads = Executor::default().threads();
        Scratch::with_bytes(self.scratch_bytes(max_rows, threads))
    }

    /// Bytes of scratch for calls of up to `max_rows` rows on an executor of so many threads. A call on more
    /// threads than its scratch is made for uses fewer.
    pub fn scratch_bytes(&self, max_rows: usize, threads: usize) -> usize {
        self.pass.scratch_bytes(max_rows, threads)
    }

    /// Room for the codes of up to `max_rows` rows of inputs of this layer, which another layer writes; none
    /// are there yet. A clone of this layer may read them, too.
    ///
    /// # Errors
    ///
    /// [`Error::Codes`] if the layer has a twin quantizer whose codes do not fit a byte; [`Error::Memory`]
    /// if there is not so much.
    pub fn codes(&self, max_rows: usize) -> Result<Codes<'static>, Error> {
        let memory = Scratch::try_with_bytes(self.codes_bytes(max_rows))?;
        Codes::new(&self.pass, max_rows, memory)
    }

    /// As [`codes`](Self::codes), in memory of the host: [`codes_bytes`](Self::codes_bytes) at an address
    /// that is a multiple of [`Scratch::ALIGN`].
    ///
    /// # Errors
    ///
    /// [`Error::Codes`] as there; [`Error::Alignment`] or [`Error::ScratchTooSmall`] for other memory.
    pub fn codes_in<'a>(&self, max_rows: usize, memory: &'a mut [u8]) -> Result<Codes<'a>, Error> {
        Codes::new(&self.pass, max_rows, Scratch::from_slice(memory)?)
    }

    /// Bytes of room for the codes of up to `max_rows` rows.
    pub fn codes_bytes(&self, max_rows: usize) -> usize {
        Codes::bytes(&self.pass, max_rows)
    }

    /// Which kernel and blocking a call of `rows` rows will run on the [default
    /// executor](Executor::default), and why.
    pub fn explain(&self, rows: usize) -> Plan {
        self.explain_on(rows, Executor::default())
    }

    /// As [`explain`](Self::explain), on `executor`.
    pub fn explain_on(&self, rows: usize, executor: Executor<'_>) -> Plan {
        self.pass.plan(rows, executor.threads())
    }

    /// Inputs of a row.
    pub fn in_features(&self) -> usize {
        self.pass.k
    }

    /// Outputs of a row.
    pub fn out_features(&self) -> usize {
        self.pass.n
    }

    /// Bits of a weight.
    pub fn weight_bits(&self) -> u32 {
        self.params.weight_bits
    }

    /// Bits of an activation code.
    pub fn activation_bits(&self) -> u32 {
        self.params.affine.bits
    }

    /// Step of the activation quantizer, `s_x`; the fine step `Δ₁` of a twin quantizer.
    pub fn activation_scale(&self) -> f32 {
        self.params.affine.scale
    }

    /// Code of the value 0 without noise, `z`.
    pub fn zero_point(&self) -> f32 {
        self.params.affine.zero_point
    }

    /// Scale of the weights of each output channel, `s_w`.
    pub fn weight_scales(&self) -> &[f32] {
        &self.params.weight_scales
    }

    /// `log2(Δ₂ / Δ₁)` of a twin quantizer.
    pub fn twin_shift(&self) -> Option<u32> {
        self.params.affine.twin_shift
    }

    /// The bias per input channel, shift and noise together, in units of the input times its
    /// [channel scale](Self::channel_scale); all zero without either.
    pub fn noise(&self) -> &[f32] {
        &self.params.noise
    }

    /// The scale of each input channel, `r`; all one if none was chosen.
    pub fn channel_scale(&self) -> &[f32] {
        &self.params.channel_scale
    }

    /// The bias of each output channel, as given or corrected (eq. 27).
    pub fn bias(&self) -> &[f32] {
        &self.params.bias
    }

    /// The weight codes, row-major `[out_features, in_features]`: a weight is about
    /// `code · weight_scales()[n] · channel_scale()[k]`.
    pub fn weight_codes(&self) -> Vec<i8> {
        self.pass.weights.unpack(self.pass.n, self.pass.k)
    }

    /// How the weights are packed: dense only if that was asked for, and there is a kernel for it.
    pub fn packing(&self) -> Packing {
        self.pass.weights.packing()
    }

    /// Bytes of the packed weights in memory. The form is the kernel's: outputs and inputs are filled up to
    /// whole panels, and some kernels keep corrections beside them. A clone shares them.
    pub fn packed_bytes(&self) -> usize {
        self.pass.weights.bytes()
    }

    /// Bytes that the layer takes in memory: [packed weights](Self::packed_bytes), what a call reads beside
    /// them, and the vectors of its [numbers](Self::numbers). A clone shares them.
    pub fn memory_bytes(&self) -> usize {
        self.pass.bytes() + self.params.bytes()
    }

    /// The instruction set that the layer was packed for.
    pub fn isa(&self) -> Isa {
        self.pass.kernels.micro.isa
    }

    /// Name of the micro-kernel that the layer was packed for.
    pub fn kernel(&self) -> &'static str {
        self.pass.kernels.micro.name
    }
}
