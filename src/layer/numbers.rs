//! The numbers of a quantized layer: everything that determines its outputs, and nothing that depends on
//! the CPU.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use noisyquant_kernels::isa::Isa;
use noisyquant_kernels::layout::padded_k;
use noisyquant_kernels::row::MicroKernel;
use noisyquant_kernels::spec::{self, Twin};

use super::affine::Affine;
use crate::check;
use crate::error::Error;
use crate::run::executor::Executor;
use crate::run::panels::{PackedWeights, Packing};
use crate::run::select::{self, Kernels};

/// The numbers of a quantized layer, as this crate's calibration, a file, or any other tool gives them: ONNX
/// QDQ models, PyTorch's per-channel int8, GPTQ's symmetric weights of one group per channel. Weights are
/// symmetric with a scale per output channel; scales per group of inputs, and weights with a zero point, as
/// AWQ's, have to be brought into that form first.
///
/// With weight codes `w`, weight scales `s_w`, activation scale `s_x` and zero point `z`, the layer is
///
/// ```text
/// u[m, k] = clamp(round(x[m, k] / s_x + z), 0, 2^bits − 1)
/// y[m, n] = s_x · s_w[n] · Σ_k (u[m, k] − z) · w[n, k] + b[n]
/// ```
///
/// or, where a channel scale `r` and a noise `N` are given, the same with `u = round((r · x + N) / s_x + z)`
/// and the effect of `N` taken out of the output (docs/math.md, eq. 2 to 9). Rounding is to nearest, ties to
/// even; `x / s_x` is `x` times the reciprocal of `s_x` in f32, fused with the addition of `z`.
///
/// Numbers are checked when a layer is made of them, by
/// [`QuantLinear::from_numbers`](crate::QuantLinear::from_numbers), and
/// [`QuantLinear::numbers`](crate::QuantLinear::numbers) gives them back.
///
/// ```
/// use noisyquant::{Numbers, QuantLinear};
///
/// // What ONNX's DynamicQuantizeLinear and a QDQ model hold: u8 activations with scale and zero point, and
/// // s8 weights with a scale per output channel. (Of s8 activations, add 128 to the zero point.)
/// let (x_scale, x_zero_point) = (0.02f32, 113u8);
/// let weight: [[i8; 3]; 2] = [[5, -128, 9], [0, 127, -1]];
/// let weight_scale = [0.5f32, 0.25];
/// let bias = [1.0f32, -2.0];
///
/// let numbers = Numbers::new(weight.concat(), weight_scale.to_vec(), x_scale, x_zero_point)
///     .with_bias(bias.to_vec());
/// let layer = QuantLinear::from_numbers(numbers, None)?;
///
/// let u = [200u8, 0, 114]; // the codes of an input
/// let difference = |u: u8| f32::from(u) - f32::from(x_zero_point);
/// let y = layer.forward(&u.map(|u| difference(u) * x_scale))?;
/// for n in 0..2 {
///     let terms = u.iter().zip(weight[n]);
///     let sum: f32 = terms.map(|(u, w)| difference(*u) * f32::from(w)).sum();
///     assert_eq!(y[n], sum.mul_add(x_scale * weight_scale[n], bias[n]));
/// }
/// # Ok::<(), noisyquant::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Numbers {
    /// Row-major `[n, k]`.
    pub(crate) codes: Arc<[i8]>,
    pub(crate) params: Params,
}

/// All numbers but the weight codes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Params {
    pub(crate) weight_bits: u32,
    /// `s_w[n]`.
    pub(crate) weight_scales: Arc<[f32]>,
    pub(crate) affine: Affine,
    /// `r[k]`.
    pub(crate) channel_scale: Arc<[f32]>,
    /// `N[k]`, shift and noise together, in the units of the scaled input.
    pub(crate) noise: Vec<f32>,
    /// `B[n]`, as given or corrected, before the rest of eq. 8b is added.
    pub(crate) bias: Vec<f32>,
}

impl Params {
    /// Bytes of the vectors.
    pub(crate) fn bytes(&self) -> usize {
        let (n, k) = (self.weight_scales.len(), self.channel_scale.len());
        size_of::<f32>() * 2 * (n + k)
    }
}

impl Numbers {
    /// Weight codes, row-major `[out_features, in_features]`, with a scale per output channel, and the scale
    /// and zero point of the activation codes. The zero point is the code of the value 0; it need not be an
    /// integer, nor lie within the codes.
    ///
    /// Weights and activations have 8 bits, the bias is zero, and there is neither channel scale nor noise,
    /// unless the following say otherwise.
    pub fn new(
        weight_codes: Vec<i8>,
        weight_scales: Vec<f32>,
        activation_scale: f32,
        zero_point: impl Into<f32>,
    ) -> Numbers {
        let n = weight_scales.len();
        let k = weight_codes.len().checked_div(n).unwrap_or(0);
        Numbers {
            codes: weight_codes.into(),
            params: Params {
                weight_bits: 8,
                weight_scales: weight_scales.into(),
                affine: Affine {
                    scale: activation_scale,
                    zero_point: zero_point.into(),
                    bits: 8,
                    twin_shift: None,
                },
                channel_scale: vec![1.0; k].into(),
                noise: vec![0.0; k],
                bias: vec![0.0; n],
            },
        }
    }

    /// Bits of a weight code, `2..=8`: codes are within `−2^(bits−1)..=2^(bits−1) − 1`.
    pub fn with_weight_bits(mut self, bits: u32) -> Self {
        self.params.weight_bits = bits;
        self
    }

    /// Bits of an activation code, `2..=8`: codes saturate at `0` and `2^bits − 1`.
    pub fn with_activation_bits(mut self, bits: u32) -> Self {
        self.params.affine.bits = bits;
        self
    }

    /// Bias, `[out_features]`.
    pub fn with_bias(mut self, bias: Vec<f32>) -> Self {
        self.params.bias = bias;
        self
    }

    /// Scale of each input channel, `r`, `[in_features]`: inputs are multiplied by it, and the weights that
    /// the codes stand for have been divided by it.
    pub fn with_channel_scale(mut self, channel_scale: Vec<f32>) -> Self {
        self.params.channel_scale = channel_scale.into();
        self
    }

    /// Bias of each input channel, `N`, `[in_features]`, in units of the input times its channel scale. It
    /// moves the codes; its effect is taken out of the output.
    pub fn with_noise(mut self, noise: Vec<f32>) -> Self {
        self.params.noise = noise;
        self
    }

    /// A twin quantizer (docs/math-quantizers.md, eq. 24), with this `log2(Δ₂ / Δ₁)`, at most 12; the
    /// activation scale is `Δ₁`, and the zero point must be `2^(bits−1)`.
    pub fn with_twin_shift(mut self, shift: u32) -> Self {
        self.params.affine.twin_shift = Some(shift);
        self
    }

    /// Inputs of a row.
    pub fn in_features(&self) -> usize {
        self.codes
            .len()
            .checked_div(self.out_features())
            .unwrap_or(0)
    }

    /// Outputs of a row.
    pub fn out_features(&self) -> usize {
        self.params.weight_scales.len()
    }

    /// Weight codes, row-major `[out_features, in_features]`.
    pub fn weight_codes(&self) -> &[i8] {
        &self.codes
    }

    /// Scale of the weights of each output channel, `s_w`.
    pub fn weight_scales(&self) -> &[f32] {
        &self.params.weight_scales
    }

    /// Bits of a weight code.
    pub fn weight_bits(&self) -> u32 {
        self.params.weight_bits
    }

    /// Bits of an activation code.
    pub fn activation_bits(&self) -> u32 {
        self.params.affine.bits
    }

    /// Step of the activation codes, `s_x`; the fine step `Δ₁` of a twin quantizer.
    pub fn activation_scale(&self) -> f32 {
        self.params.affine.scale
    }

    /// Code of the value 0 without noise, `z`.
    pub fn zero_point(&self) -> f32 {
        self.params.affine.zero_point
    }

    /// `log2(Δ₂ / Δ₁)` of a twin quantizer.
    pub fn twin_shift(&self) -> Option<u32> {
        self.params.affine.twin_shift
    }

    /// Scale of each input channel, `r`; all one if none was given.
    pub fn channel_scale(&self) -> &[f32] {
        &self.params.channel_scale
    }

    /// Bias of each input channel, `N`; all zero if none was given.
    pub fn noise(&self) -> &[f32] {
        &self.params.noise
    }

    /// Bias of each output channel, `b`.
    pub fn bias(&self) -> &[f32] {
        &self.params.bias
    }

    /// Refuses what no layer has.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let Params {
            weight_bits,
            weight_scales,
            affine,
            channel_scale,
            noise,
            bias,
        } = &self.params;
        let (n, k) = (self.out_features(), self.in_features());
        check::dimension("out_features (weight scales)", n, isize::MAX as usize)?;
        check::bits("weight_bits", *weight_bits)?;
        check::bits("activation_bits", affine.bits)?;
        check::dimension("in_features", k, spec::MAX_K)?;
        check::dimension("out_features", n, isize::MAX as usize / padded_k(k) - 64)?;
        check::length("weight codes", n * k, self.codes.len())?;
        check::length("bias", n, bias.len())?;
        check::length("channel scale", k, channel_scale.len())?;
        check::length("noise", k, noise.len())?;
        let most = spec::max_weight(*weight_bits);
        let range = -most - 1..=most;
        let (low, high) = self.extremes();
        let inside = range.contains(&low) && range.contains(&high);
        let outside = |code| !range.contains(code);
        if let Some(index) = (!inside)
            .then(|| self.codes.iter().position(outside))
            .flatten()
        {
            return Err(Error::Value {
                what: "weight code",
                expected: "within the range of its bits",
                got: self.codes[index].into(),
                index,
            });
        }
        let positive = |v: f32| v.is_finite() && v >= f32::MIN_POSITIVE;
        let expected = "finite, positive";
        check::all("weight scale", expected, weight_scales, positive)?;
        check::all("channel scale", expected, channel_scale, positive)?;
        check::all("activation scale", expected, &[affine.scale], positive)?;
        check::finite("bias", bias)?;
        check::finite("noise", noise)?;
        check::finite("zero point", &[affine.zero_point])?;
        let Some(twin) = affine.twin() else {
            return Ok(());
        };
        let what = "twin shift";
        let shift = usize::try_from(twin.shift).unwrap_or(usize::MAX);
        check::at_most(what, shift, Twin::MAX_SHIFT as usize)?;
        let middle = f32::from(twin.max_fine());
        check::all(
            "zero point of a twin quantizer",
            "2^(bits − 1)",
            &[affine.zero_point],
            |z| z == middle,
        )
    }

    /// The largest magnitude of a weight code: that of codes of its bits, and one more only where a code is
    /// the least of all.
    pub(crate) fn max_weight(&self) -> u8 {
        let most = spec::max_weight(self.params.weight_bits);
        let (low, _) = self.extremes();
        most.unsigned_abs() + u8::from(low == -most - 1)
    }

    /// The least and the largest of the weight codes and 0. A search for one code looks at one after the
    /// other, and this at many at once.
    fn extremes(&self) -> (i8, i8) {
        let wider = |(low, high): (i8, i8), code: &i8| (low.min(*code), high.max(*code));
        self.codes.iter().fold((0, 0), wider)
    }

    /// The weight codes as this kernel reads them.
    pub(crate) fn pack(&self, kernel: &MicroKernel, executor: Executor<'_>) -> PackedWeights {
        let (k, max) = (self.in_features(), self.max_weight());
        PackedWeights::pack(&self.codes, k, max, kernel, executor)
    }

    /// The kernels that are exact for these numbers, packed so, on `isa` or as [`select::choose`] says.
    pub(crate) fn kernels(&self, isa: Option<Isa>, packing: Packing) -> Result<Kernels, Error> {
        let max_code = self.params.affine.max_plane_code();
        select::choose(isa, max_code, self.max_weight(), packing)
    }
}
