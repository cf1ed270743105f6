//! The portable form of a quantized layer: everything that determines its outputs, and nothing that
//! depends on the CPU. Searches make candidates of it, files store it, and [`Parts::assemble`] turns
//! it into a layer.

use std::sync::Arc;

use noisyquant_kernels::layout::padded_k;
use noisyquant_kernels::spec;
use rayon::prelude::*;

use crate::check;
use crate::error::Error;
use crate::kernels::Kernels;
use crate::linear::{QuantLinear, TwinPlane};
use crate::quantizer::Affine;
use crate::weights::{Aligned, PackedWeights, WeightCodes, aligned};

#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) codes: Arc<WeightCodes>,
    pub(crate) weight_bits: u32,
    pub(crate) affine: Affine,
    /// `r[k]`.
    pub(crate) channel_scale: Arc<[f32]>,
    /// `N[k]`, shift and noise together, in the units of the scaled input.
    pub(crate) noise: Vec<f32>,
    pub(crate) bias: Vec<f32>,
}

impl Parts {
    /// Largest activation code and weight code that the micro-kernel meets.
    pub(crate) fn largest_operands(weight_bits: u32, affine: &Affine) -> (u8, i8) {
        let code = match affine.twin() {
            Some(twin) => u8::try_from(twin.max_code()).unwrap_or(twin.max_fine()),
            None => spec::max_code(affine.bits),
        };
        (code, spec::max_weight(weight_bits))
    }

    /// The layer: offsets (eq. 2), corrections (eq. 6) and output constants (eq. 8).
    pub(crate) fn assemble(
        &self,
        kernels: Kernels,
        packed: Arc<PackedWeights>,
    ) -> Result<QuantLinear, Error> {
        let (n, k) = (self.bias.len(), self.noise.len());
        let Affine {
            scale: s_x,
            zero_point,
            ..
        } = self.affine;
        let mut inv = aligned(padded_k(k));
        let mut t = aligned(padded_k(k));
        for (inv, r) in inv.iter_mut().zip(self.channel_scale.iter()) {
            *inv = spec::code_multiplier(*r, s_x);
        }
        for (t, noise) in t.iter_mut().zip(&self.noise) {
            *t = spec::code_offset(*noise, s_x, zero_point);
        }
        check::finite("channel scale / activation scale", &inv)?;
        let nr = kernels.micro.tile.nr;
        let mut comp = aligned(n.next_multiple_of(nr));
        let mut scale = aligned(n.next_multiple_of(nr));
        let mut bias = aligned(n.next_multiple_of(nr));
        let two_planes = self
            .affine
            .twin()
            .filter(|twin| twin.max_code() > u8::MAX.into());
        let weight = 1 + two_planes.map_or(0, |twin| 1i32 << twin.shift);
        let offset = i32::from(kernels.micro.code_offset) * weight;
        let channels = self.codes.codes.par_chunks_exact(k);
        let corrections: Vec<Option<spec::Correction>> = channels
            .map(|weights| spec::correction(weights, &t[..k], self.affine.max_code()))
            .collect();
        for (channel, correction) in corrections.into_iter().enumerate() {
            let correction = correction.ok_or_else(|| Error::CorrectionOverflow {
                channel,
                largest: t.iter().fold(0f32, |m, t| m.max(t.abs())),
            })?;
            // Eq. 6a: the kernel sums Σ (u − o) · wq, of each plane, so o · Σ wq makes up for the offset.
            // Sums wrap in i32 on every ISA, and what they end in, acc + comp, fits (eq. 7).
            let weights = &self.codes.codes[channel * k..][..k];
            let sum: i32 = weights.iter().map(|w| i32::from(*w)).sum();
            comp[channel] = correction.integer.wrapping_add(offset.wrapping_mul(sum));
            scale[channel] = spec::output_scale(s_x, self.codes.scales[channel]);
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
        let twin = self.affine.twin().map(|twin| {
            let map = |values: &Aligned<f32>, f: &dyn Fn(f32) -> f32| {
                let mut mapped = aligned(values.len());
                for (to, from) in mapped[..k].iter_mut().zip(values.iter()) {
                    *to = f(*from);
                }
                mapped
            };
            TwinPlane {
                twin,
                inv: map(&inv, &|v| twin.coarse_multiplier(v)),
                t: map(&t, &|v| twin.coarse_offset(v)),
            }
        });
        Ok(QuantLinear {
            in_features: k,
            out_features: n,
            weight_bits: self.weight_bits,
            affine: self.affine,
            noise: self.noise.clone(),
            channel_scale: self.channel_scale.clone(),
            given_bias: self.bias.as_slice().into(),
            weight_scales: self.codes.scales.as_slice().into(),
            weights: packed,
            kernels,
            inv,
            t,
            twin: twin.map(Arc::new),
            comp,
            scale,
            bias,
        })
    }
}
