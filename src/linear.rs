//! The layer: `y = x · Wᵀ + b` on integer kernels.

use std::sync::Arc;

use noisyquant_kernels::isa::Isa;
use noisyquant_kernels::layout::padded_k;
use noisyquant_kernels::spec;
use noisyquant_kernels::table::{Channels, CodeForm, Prologue, Ready};
use noisyquant_kernels::view::{Element, MatMut, MatRef};

use crate::calibrate;
use crate::error::Error;
use crate::kernels::{self, Kernels};
use crate::noise::{self, Noise};
use crate::parallel;
use crate::plan::Plan;
use crate::quantizer::{Affine, Quantizer};
use crate::scratch::Scratch;
use crate::weights::{Aligned, PackedWeights, WeightCodes, aligned};

/// A quantized linear layer, built once and shared between threads; a clone shares the weights.
///
/// Computes `Qw(W) · Qa(X + N) + (B − Qw(W) · N)` for inputs `X [rows, in]` (docs/math.md, eq. 3–9).
/// The same inputs give the same bits on every CPU, on any number of threads.
#[derive(Clone, Debug)]
pub struct QuantLinear {
    in_features: usize,
    out_features: usize,
    weight_bits: u32,
    affine: Affine,
    noise: Vec<f32>,
    weight_scales: Arc<[f32]>,
    weights: Arc<PackedWeights>,
    kernels: Kernels,
    /// Per input channel, zero past `in_features` up to `padded_k`.
    inv: Aligned<f32>,
    t: Aligned<f32>,
    /// Per output channel, zero past `out_features` up to a whole panel.
    comp: Aligned<i32>,
    scale: Aligned<f32>,
    bias: Aligned<f32>,
}

/// Options of a [`QuantLinear`]; see [`QuantLinear::builder`].
#[derive(Clone, Debug)]
pub struct Builder<'a> {
    weight: &'a [f32],
    n: usize,
    k: usize,
    bias: Option<&'a [f32]>,
    weight_bits: u32,
    activation_bits: u32,
    quantizer: Quantizer,
    noise: Noise,
    rows: &'a [f32],
    isa: Option<Isa>,
}

impl<'a> Builder<'a> {
    /// Bias `[out_features]`; zero if not given.
    pub fn bias(self, bias: &'a [f32]) -> Self {
        let bias = Some(bias);
        Builder { bias, ..self }
    }

    /// Bits of a weight, `2..=8`; 8 if not given.
    pub fn weight_bits(self, weight_bits: u32) -> Self {
        Builder {
            weight_bits,
            ..self
        }
    }

    /// Bits of an activation code, `2..=8`; 8 if not given.
    pub fn activation_bits(self, activation_bits: u32) -> Self {
        Builder {
            activation_bits,
            ..self
        }
    }

    /// Activation quantizer; symmetric min-max if not given.
    pub fn quantizer(self, quantizer: Quantizer) -> Self {
        Builder { quantizer, ..self }
    }

    /// Noisy bias; none if not given.
    pub fn noise(self, noise: Noise) -> Self {
        Builder { noise, ..self }
    }

    /// Real inputs of the layer, row-major `[rows, in_features]`.
    pub fn calibrate(self, rows: &'a [f32]) -> Self {
        Builder { rows, ..self }
    }

    /// Forces an instruction set, before `NOISYQUANT_ISA` and the best of the CPU.
    pub fn isa(self, isa: Isa) -> Self {
        let isa = Some(isa);
        Builder { isa, ..self }
    }

    /// Quantizes, calibrates and packs.
    ///
    /// # Errors
    ///
    /// [`Error`] for lengths that do not fit, dimensions of zero or over their limit, bits outside
    /// `2..=8`, values that are not finite, missing calibration rows, noise so large that the
    /// correction could overflow, or an instruction set that is not there.
    pub fn build(&self) -> Result<QuantLinear, Error> {
        let (n, k) = (self.n, self.k);
        check_dimension("in_features", k, spec::MAX_K)?;
        check_dimension("out_features", n, isize::MAX as usize / padded_k(k) - 64)?;
        check_bits("weight_bits", self.weight_bits)?;
        check_bits("activation_bits", self.activation_bits)?;
        check_length("weight", n * k, self.weight.len())?;
        check_finite("weight", self.weight)?;
        let zero = vec![0f32; if self.bias.is_some() { 0 } else { n }];
        let bias = self.bias.unwrap_or(&zero);
        check_length("bias", n, bias.len())?;
        check_finite("bias", bias)?;
        check_rows("calibration rows", k, self.rows.len())?;
        check_finite("calibration rows", self.rows)?;

        let max_code = spec::max_code(self.activation_bits);
        let max_weight = spec::max_weight(self.weight_bits);
        let isa = kernels::choose_isa(self.isa)?;
        let kernels = Kernels::select(isa, max_code, max_weight)?;

        let affine = self.quantizer.fit(self.rows, self.activation_bits)?;
        let codes = WeightCodes::quantize(self.weight, k, self.weight_bits);
        let packed = Arc::new(PackedWeights::pack(&codes, kernels.micro.tile.panel()));
        let scales: Arc<[f32]> = codes.scales.as_slice().into();
        let parts = Parts {
            codes: &codes,
            scales,
            packed,
            affine,
            kernels,
            bias,
            weight_bits: self.weight_bits,
        };
        match &self.noise {
            Noise::None => parts.assemble(vec![0.0; k]),
            Noise::PerChannel(noise) => {
                check_length("noise", k, noise.len())?;
                check_finite("noise", noise)?;
                parts.assemble(noise.clone())
            }
            Noise::Uniform { range, seed } => {
                if !(range.is_finite() && *range >= 0.0) {
                    return Err(Error::Value {
                        what: "noise range",
                        expected: "finite, not negative",
                        got: *range,
                        index: 0,
                    });
                }
                parts.assemble(scaled(&noise::unit_uniform(*seed, k), *range))
            }
            Noise::Searched { seed } => {
                if self.rows.is_empty() {
                    let what = "searched noise";
                    return Err(Error::Calibration { what });
                }
                let unit = noise::unit_uniform(*seed, k);
                let target = calibrate::float_outputs(self.rows, self.weight, bias, k);
                calibrate::search_noise_range(self.rows, &target, affine.scale, |range| {
                    parts.assemble(scaled(&unit, range))
                })
            }
        }
    }
}

fn scaled(unit: &[f32], range: f32) -> Vec<f32> {
    unit.iter().map(|u| u * range).collect()
}

/// What the candidates of a search have in common: everything but the noise.
struct Parts<'a> {
    codes: &'a WeightCodes,
    scales: Arc<[f32]>,
    packed: Arc<PackedWeights>,
    affine: Affine,
    kernels: Kernels,
    bias: &'a [f32],
    weight_bits: u32,
}

impl Parts<'_> {
    /// The layer with the given noise per input channel: offsets (eq. 2), corrections (eq. 6) and
    /// output constants (eq. 8).
    fn assemble(&self, noise: Vec<f32>) -> Result<QuantLinear, Error> {
        let (n, k) = (self.bias.len(), noise.len());
        let Affine {
            scale: s_x,
            zero_point,
            bits,
        } = self.affine;
        let mut inv = aligned(padded_k(k));
        let mut t = aligned(padded_k(k));
        inv[..k].fill(spec::code_multiplier(1.0, s_x));
        for (t, noise) in t.iter_mut().zip(&noise) {
            *t = spec::code_offset(*noise, s_x, zero_point);
        }
        let nr = self.kernels.micro.tile.nr;
        let mut comp = aligned(n.next_multiple_of(nr));
        let mut scale = aligned(n.next_multiple_of(nr));
        let mut bias = aligned(n.next_multiple_of(nr));
        for (channel, weights) in self.codes.channels().enumerate() {
            let correction = spec::correction(weights, &t[..k], spec::max_code(bits));
            let correction = correction.ok_or_else(|| Error::CorrectionOverflow {
                channel,
                largest: t.iter().fold(0f32, |m, t| m.max(t.abs())),
            })?;
            // Eq. 6a: the kernel sums Σ (u − o) · wq, so comp + o · Σ wq makes up for the offset.
            // Sums wrap in i32 on every ISA, and what they end in, acc + comp, fits (eq. 7).
            let sum: i32 = weights.iter().map(|w| i32::from(*w)).sum();
            let offset = i32::from(self.kernels.micro.code_offset);
            comp[channel] = correction.integer.wrapping_add(offset * sum);
            scale[channel] = spec::output_scale(s_x, self.scales[channel]);
            let (b, s) = (self.bias[channel], scale[channel]);
            bias[channel] = spec::corrected_bias(b, s, correction.remainder);
            let finite = scale[channel].is_finite() && bias[channel].is_finite();
            if !finite {
                return Err(Error::Value {
                    what: "output scale (activation scale times weight scale) or bias",
                    expected: "finite in f32",
                    got: scale[channel],
                    index: channel,
                });
            }
        }
        Ok(QuantLinear {
            in_features: k,
            out_features: n,
            weight_bits: self.weight_bits,
            affine: self.affine,
            noise,
            weight_scales: self.scales.clone(),
            weights: self.packed.clone(),
            kernels: self.kernels,
            inv,
            t,
            comp,
            scale,
            bias,
        })
    }
}

impl QuantLinear {
    /// Starts a layer from a float weight, row-major `[out_features, in_features]` (PyTorch's order).
    pub fn builder(weight: &[f32], out_features: usize, in_features: usize) -> Builder<'_> {
        Builder {
            weight,
            n: out_features,
            k: in_features,
            bias: None,
            weight_bits: 8,
            activation_bits: 8,
            quantizer: Quantizer::default(),
            noise: Noise::None,
            rows: &[],
            isa: None,
        }
    }

    /// Runs the layer on `x`, row-major `[rows, in_features]`, and returns `[rows, out_features]` of
    /// the same element type. Allocates output and scratch.
    ///
    /// # Errors
    ///
    /// [`Error::Rows`] if `x` is not whole rows.
    pub fn forward<T: Element>(&self, x: &[T]) -> Result<Vec<T>, Error> {
        check_rows("input", self.in_features, x.len())?;
        let rows = x.len() / self.in_features;
        let mut y = vec![T::default(); rows * self.out_features];
        self.forward_into(x, &mut y, &mut self.scratch(rows))?;
        Ok(y)
    }

    /// Runs the layer on `x`, row-major `[rows, in_features]`, into `y`, `[rows, out_features]`, both
    /// dense and of any two element types. Does not allocate. Runs on rayon's current thread pool
    /// if `scratch` was made for more than one thread.
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
        check_rows("input", k, x.len())?;
        let rows = x.len() / k;
        check_length("output", rows.saturating_mul(n), y.len())?;
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
        check_shape("input", (rows, self.in_features), (rows, x.cols()))?;
        check_shape("output", (rows, self.out_features), (y.rows(), y.cols()))?;
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
        self.plan(rows, 1)
            .task_bytes()
            .saturating_mul(threads.max(1))
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

    /// Step of the activation quantizer, `s_x`.
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

    /// The noisy bias per input channel, in units of the input; all zero without noise.
    pub fn noise(&self) -> &[f32] {
        &self.noise
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
        Plan::new(self.kernels.micro, shape, threads)
    }

    pub(crate) fn kernels(&self) -> &Kernels {
        &self.kernels
    }

    pub(crate) fn weights(&self) -> &PackedWeights {
        &self.weights
    }

    pub(crate) fn quantize(
        &self,
        prologue: Ready<Prologue>,
        x: MatRef<'_>,
        codes: &mut [u8],
        stride: usize,
    ) {
        let form = CodeForm {
            max: spec::max_code(self.affine.bits),
            offset: self.kernels.micro.code_offset,
        };
        prologue.quantize(x, &self.inv, &self.t, form, codes, stride);
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

fn check_dimension(what: &'static str, got: usize, limit: usize) -> Result<(), Error> {
    if (1..=limit).contains(&got) {
        return Ok(());
    }
    let expected = format!("1..={limit}");
    Err(Error::Dimension {
        what,
        expected,
        got,
    })
}

fn check_bits(what: &'static str, got: u32) -> Result<(), Error> {
    if (spec::MIN_BITS..=spec::MAX_BITS).contains(&got) {
        return Ok(());
    }
    let expected = format!("{}..={}", spec::MIN_BITS, spec::MAX_BITS);
    let got = got as usize;
    Err(Error::Dimension {
        what,
        expected,
        got,
    })
}

fn check_length(what: &'static str, expected: usize, got: usize) -> Result<(), Error> {
    let error = Error::Length {
        what,
        expected,
        got,
    };
    if expected == got { Ok(()) } else { Err(error) }
}

fn check_rows(what: &'static str, cols: usize, got: usize) -> Result<(), Error> {
    let error = Error::Rows { what, cols, got };
    if got.is_multiple_of(cols) {
        Ok(())
    } else {
        Err(error)
    }
}

fn check_shape(
    what: &'static str,
    expected: (usize, usize),
    got: (usize, usize),
) -> Result<(), Error> {
    let error = Error::Shape {
        what,
        expected,
        got,
    };
    if expected == got { Ok(()) } else { Err(error) }
}

fn check_finite(what: &'static str, values: &[f32]) -> Result<(), Error> {
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(index) => Err(Error::Value {
            what,
            expected: "a finite value",
            got: values[index],
            index,
        }),
    }
}
