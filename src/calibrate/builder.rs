//! The options of a layer, and the way from them to a layer.

use noisyquant_kernels::isa::Isa;
use noisyquant_kernels::layout::padded_k;
use noisyquant_kernels::spec;

use super::auto::{self, Candidates, Outcome};
use super::noise::Noise;
use super::problem::Problem;
use super::quantizer::Quantizer;
use super::realize::realize;
use super::recipe::Recipe;
use crate::check;
use crate::error::Error;
use crate::layer::linear::QuantLinear;
use crate::run::panels::Packing;
use crate::run::select;

/// Options of a [`QuantLinear`]; see [`QuantLinear::builder`].
#[derive(Clone, Debug)]
pub struct Builder<'a> {
    weight: &'a [f32],
    n: usize,
    k: usize,
    bias: Option<&'a [f32]>,
    weight_bits: u32,
    activation_bits: u32,
    recipe: Recipe,
    rows: &'a [f32],
    isa: Option<Isa>,
    packing: Packing,
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
            recipe: Recipe::default(),
            rows: &[],
            isa: None,
            packing: Packing::default(),
        }
    }
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

    /// Everything else that is chosen; each of the following sets one part of it.
    pub fn recipe(self, recipe: Recipe) -> Self {
        Builder { recipe, ..self }
    }

    /// Activation quantizer; symmetric min-max if not given.
    pub fn quantizer(mut self, quantizer: Quantizer) -> Self {
        self.recipe.quantizer = quantizer;
        self
    }

    /// Noisy bias; none if not given.
    pub fn noise(mut self, noise: Noise) -> Self {
        self.recipe.noise = noise;
        self
    }

    /// Real inputs of the layer, row-major `[rows, in_features]`.
    pub fn calibration_rows(self, rows: &'a [f32]) -> Self {
        Builder { rows, ..self }
    }

    /// Forces an instruction set, before `NOISYQUANT_ISA` and the best of the CPU.
    pub fn isa(self, isa: Isa) -> Self {
        let isa = Some(isa);
        Builder { isa, ..self }
    }

    /// How the weights are kept in memory; expanded if not given.
    pub fn packing(self, packing: Packing) -> Self {
        Builder { packing, ..self }
    }

    /// Quantizes, calibrates and packs.
    ///
    /// # Errors
    ///
    /// [`Error`] for lengths that do not fit, dimensions of zero or over their limit, bits outside
    /// `2..=8`, values that are not finite, missing calibration rows, noise so large that the
    /// correction could overflow, or an instruction set that is not there. Where candidates are compared,
    /// also for outputs of the float or the quantized layer that are not finite.
    pub fn build(&self) -> Result<QuantLinear, Error> {
        let zero = self.zero_bias();
        let problem = self.problem(&zero)?;
        let layer = problem.layer(&realize(&problem, &self.recipe)?)?;
        layer.with_packing(self.packing)
    }

    /// Tries shifts, scales and noise, judged on rows that each was not fitted to, and builds the best of
    /// them (docs/math-quantizers.md, eq. 28). The recipe of this builder is not used.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build); [`Error::Calibration`] for fewer than two rows; [`Error::Value`] for
    /// outputs of the float layer or of the plain quantized one that are not finite.
    pub fn build_auto(&self) -> Result<(QuantLinear, Outcome), Error> {
        self.build_auto_from(&Candidates::default())
    }

    /// As [`build_auto`](Self::build_auto), from these candidates. One that cannot be built is left out.
    ///
    /// # Errors
    ///
    /// As [`build_auto`](Self::build_auto); [`Error::Value`] for a stretch outside `1..=16`.
    pub fn build_auto_from(
        &self,
        candidates: &Candidates,
    ) -> Result<(QuantLinear, Outcome), Error> {
        let zero = self.zero_bias();
        let problem = self.problem(&zero)?;
        let outcome = auto::choose(&problem, candidates)?;
        let layer = problem.layer(&realize(&problem, &outcome.recipe)?)?;
        Ok((layer.with_packing(self.packing)?, outcome))
    }

    fn zero_bias(&self) -> Vec<f32> {
        let absurd = self.n.saturating_mul(4) > isize::MAX as usize / 64;
        let needed = if self.bias.is_some() || absurd {
            0
        } else {
            self.n
        };
        // A wrong `n` is refused by its weight's length before this is looked at.
        vec![0.0; needed.min(self.weight.len())]
    }

    /// Checks all operands.
    fn problem<'b>(&'b self, zero: &'b [f32]) -> Result<Problem<'b>, Error> {
        let (n, k) = (self.n, self.k);
        check::dimension("in_features", k, spec::MAX_K)?;
        check::dimension("out_features", n, isize::MAX as usize / padded_k(k) - 64)?;
        check::bits("weight_bits", self.weight_bits)?;
        check::bits("activation_bits", self.activation_bits)?;
        check::length("weight", n * k, self.weight.len())?;
        check::finite("weight", self.weight)?;
        let bias = self.bias.unwrap_or(zero);
        check::length("bias", n, bias.len())?;
        check::finite("bias", bias)?;
        check::rows("calibration rows", k, self.rows.len())?;
        check::finite("calibration rows", self.rows)?;
        Ok(Problem::new(
            self.weight,
            bias,
            self.rows,
            k,
            [self.weight_bits, self.activation_bits],
            select::choose_isa(self.isa)?,
        ))
    }
}
