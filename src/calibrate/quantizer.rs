//! Uniform quantizers: from calibration values to scale and zero point.

use std::{fmt, iter};

use noisyquant_kernels::spec;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::check;
use crate::error::Error;
use crate::layer::affine::Affine;

/// How activations are quantized: which form the codes have, and how their range is found.
///
/// ```
/// use noisyquant::{Quantizer, ActivationRange};
/// let signed = Quantizer::symmetric(ActivationRange::MinMax);
/// let skewed = Quantizer::asymmetric(ActivationRange::Percentile(99.9));
/// assert_ne!(signed, skewed);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantizer {
    scheme: Scheme,
    range: ActivationRange,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Scheme {
    Symmetric,
    Asymmetric,
    Centered,
    Twin,
}

/// How the range of values that codes cover is found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ActivationRange {
    /// The least and the largest calibration value.
    MinMax,
    /// The given percentile of the calibration values, in `50.0..=100.0`: of `|x|` for a symmetric
    /// quantizer; at either end for an asymmetric one.
    Percentile(f32),
    /// The clipped range with the least squared quantization error of the calibration values, among
    /// 80 fractions of the min-max range.
    Mse,
    /// The min-max range times a factor in `1.0..=16.0`: headroom for inputs beyond the calibration
    /// rows.
    Widened(f32),
    /// The fraction of the min-max range that minimises the layer's objective, alternating with
    /// weight scales if those are searched too: EasyQuant's search (eq. 23).
    Searched,
    /// Given, without calibration. A symmetric quantizer covers the larger of the two magnitudes.
    Fixed {
        /// Least value covered.
        min: f32,
        /// Largest value covered.
        max: f32,
    },
}

impl Default for Quantizer {
    /// Symmetric, min-max: the linear quantizer of the paper.
    fn default() -> Self {
        Quantizer::symmetric(ActivationRange::MinMax)
    }
}

/// Fractions of the min-max range that [`ActivationRange::Mse`] tries: `1, 0.9875, ..., 0.0125`.
const MSE_FRACTIONS: u32 = 80;

/// Fractions that [`ActivationRange::Searched`] tries: `1, 0.975, ..., 0.1`, then `1.1` and `1.2`.
const SEARCHED_FRACTIONS: u32 = 39;

impl Quantizer {
    /// Codes stand for a range that is symmetric about zero; `z = 2^(b−1)`.
    pub const fn symmetric(range: ActivationRange) -> Quantizer {
        Quantizer {
            scheme: Scheme::Symmetric,
            range,
        }
    }

    /// Codes stand for any range that contains zero; `z` is an integer.
    pub const fn asymmetric(range: ActivationRange) -> Quantizer {
        Quantizer {
            scheme: Scheme::Asymmetric,
            range,
        }
    }

    /// Codes stand for a range that is symmetric about zero, with levels at odd multiples of half a
    /// step: `z = (2^b − 1) / 2`. Uses every code, where a symmetric quantizer leaves one out, but has
    /// no level at zero; meant for inputs that a [`Shift`](crate::Shift) has centred.
    pub const fn centered(range: ActivationRange) -> Quantizer {
        Quantizer {
            scheme: Scheme::Centered,
            range,
        }
    }

    /// PTQ4ViT's twin uniform quantizer for inputs after GELU (eq. 24): half of the codes for the
    /// narrow negative side in fine steps `Δ₁`, half for the positive side in steps `2^m·Δ₁`.
    /// [`Fixed`](ActivationRange::Fixed), [`MinMax`](ActivationRange::MinMax),
    /// [`Widened`](ActivationRange::Widened) and [`Percentile`](ActivationRange::Percentile) take the largest
    /// `m` at which the fine steps cover the negative side.
    pub const fn twin(range: ActivationRange) -> Quantizer {
        Quantizer {
            scheme: Scheme::Twin,
            range,
        }
    }

    /// Whether the range comes from values.
    pub(crate) fn needs_values(&self) -> bool {
        !matches!(self.range, ActivationRange::Fixed { .. })
    }

    /// Whether the range depends on no other values than the least and the largest.
    pub(crate) fn needs_extremes_only(&self) -> bool {
        !matches!(
            self.range,
            ActivationRange::Mse | ActivationRange::Percentile(_)
        )
    }

    /// Whether the range is searched with the layer.
    pub(crate) fn is_searched(&self) -> bool {
        self.range == ActivationRange::Searched
    }

    /// What [`ActivationRange::Searched`] tries for values of these extremes, the start first.
    pub(crate) fn candidates(&self, values: &[f32], bits: u32) -> Vec<Affine> {
        let (low, high) = self.extremes(values, 100.0);
        let fraction = |i: u32| match i {
            0..37 => 1.0 - 0.025 * i as f32,
            _ => 1.1 + 0.1 * (i - 37) as f32,
        };
        let shifts = match self.scheme {
            Scheme::Twin => 0..7,
            _ => 0..1,
        };
        let start = self.affine(low, high, bits);
        let others = shifts.flat_map(|shift| {
            // The grid is coarser where there is a second axis.
            let every = if self.scheme == Scheme::Twin { 4 } else { 1 };
            let fractions = (0..SEARCHED_FRACTIONS).step_by(every).map(fraction);
            fractions.map(move |f| match self.scheme {
                Scheme::Twin => twin_affine(high.max(-low) * f, bits, shift),
                _ => self.affine(low * f, high * f, bits),
            })
        });
        iter::once(start).chain(others).collect()
    }

    /// Scale and zero point of `bits` bits for the finite `values`.
    ///
    /// # Errors
    ///
    /// [`Error::Calibration`] if the range needs values and there are none; [`Error::Value`] for a
    /// percentile or fixed range that makes no sense.
    pub(crate) fn fit(&self, values: &[f32], bits: u32) -> Result<Affine, Error> {
        if self.needs_values() && values.is_empty() {
            let what = "this quantizer's range";
            return Err(Error::Calibration { what });
        }
        match self.range {
            ActivationRange::Fixed { min, max } => {
                check_one("fixed range", "finite", min, min.is_finite())?;
                check_one(
                    "fixed range",
                    "finite, at least min",
                    max,
                    max.is_finite() && min <= max,
                )?;
                Ok(self.affine(min, max, bits))
            }
            ActivationRange::MinMax | ActivationRange::Searched => {
                let (low, high) = self.extremes(values, 100.0);
                Ok(self.affine(low, high, bits))
            }
            ActivationRange::Widened(factor) => {
                check_one(
                    "range factor",
                    "within 1..=16",
                    factor,
                    (1.0..=16.0).contains(&factor),
                )?;
                let (low, high) = self.extremes(values, 100.0);
                Ok(self.affine(low * factor, high * factor, bits))
            }
            ActivationRange::Percentile(p) => {
                check_one(
                    "percentile",
                    "within 50..=100",
                    p,
                    (50.0..=100.0).contains(&p),
                )?;
                let (low, high) = self.extremes(values, p);
                Ok(self.affine(low, high, bits))
            }
            ActivationRange::Mse => {
                let (low, high) = self.extremes(values, 100.0);
                let candidate = |i: u32| {
                    let fraction = 1.0 - 0.0125 * i as f32;
                    self.affine(low * fraction, high * fraction, bits)
                };
                let mut candidates: Vec<Affine> = match self.scheme {
                    Scheme::Twin => self.candidates(values, bits),
                    _ => (0..MSE_FRACTIONS).map(candidate).collect(),
                };
                let errors: Vec<f64> = candidates
                    .par_iter()
                    .map(|affine| squared_error(affine, values))
                    .collect();
                // The first of equals: the widest range.
                let best = (0..errors.len()).min_by(|a, b| errors[*a].total_cmp(&errors[*b]));
                Ok(candidates.swap_remove(best.unwrap_or(0)))
            }
        }
    }

    /// The values at the ends of the percentile range.
    fn extremes(&self, values: &[f32], percentile: f32) -> (f32, f32) {
        if percentile == 100.0 {
            let fold = |(low, high): (f32, f32), v: &f32| (low.min(*v), high.max(*v));
            return values.iter().fold((0.0, 0.0), fold);
        }
        let mut sorted: Vec<f32> = match self.scheme {
            Scheme::Symmetric | Scheme::Centered => values.iter().map(|v| v.abs()).collect(),
            Scheme::Asymmetric | Scheme::Twin => values.to_vec(),
        };
        let rank = |p: f64| ((sorted.len() - 1) as f64 * p / 100.0).round() as usize;
        let (high_rank, low_rank) = (rank(percentile.into()), rank(100.0 - f64::from(percentile)));
        let high = *sorted.select_nth_unstable_by(high_rank, f32::total_cmp).1;
        match self.scheme {
            Scheme::Symmetric | Scheme::Centered => (-high, high),
            Scheme::Asymmetric | Scheme::Twin => {
                let low = *sorted.select_nth_unstable_by(low_rank, f32::total_cmp).1;
                (low, high)
            }
        }
    }

    fn affine(&self, low: f32, high: f32, bits: u32) -> Affine {
        let levels = f32::from(spec::max_code(bits));
        let scale = usable_scale;
        match self.scheme {
            Scheme::Symmetric => Affine {
                scale: scale(low.abs().max(high.abs()) / f32::from(spec::max_weight(bits))),
                zero_point: (1u32 << (bits - 1)) as f32,
                bits,
                twin_shift: None,
            },
            Scheme::Centered => Affine {
                scale: scale(low.abs().max(high.abs()) / levels * 2.0),
                zero_point: levels / 2.0,
                bits,
                twin_shift: None,
            },
            Scheme::Twin => {
                // The largest shift whose fine steps still reach `low`.
                let reaches = |shift: &u32| {
                    let affine = twin_affine(high, bits, *shift);
                    affine.scale * affine.zero_point >= -low
                };
                let shift = (0..=spec::Twin::MAX_SHIFT).rev().find(reaches);
                match shift {
                    Some(shift) => twin_affine(high, bits, shift),
                    None => twin_affine(-low, bits, 0), // mostly negative
                }
            }
            Scheme::Asymmetric => {
                let (low, high) = (low.min(0.0), high.max(0.0));
                let scale = scale(high / levels - low / levels);
                Affine {
                    scale,
                    zero_point: (-low / scale).round_ties_even().clamp(0.0, levels),
                    bits,
                    twin_shift: None,
                }
            }
        }
    }
}

/// The twin quantizer whose coarse codes reach `high`.
fn twin_affine(high: f32, bits: u32, shift: u32) -> Affine {
    let twin = spec::Twin { bits, shift };
    let coarse = usable_scale(high / f32::from(twin.max_coarse()));
    Affine {
        scale: usable_scale(coarse / (1u32 << shift) as f32),
        zero_point: f32::from(twin.max_fine()),
        bits,
        twin_shift: Some(shift),
    }
}

/// Below the least normal number, 1 / scale would overflow.
fn usable_scale(s: f32) -> f32 {
    if s == 0.0 {
        1.0
    } else {
        s.max(f32::MIN_POSITIVE)
    }
}

/// The steps of a quantizer, the widest last.
pub(crate) fn steps(affine: &Affine) -> impl Iterator<Item = f32> {
    let (scale, shift) = (affine.scale, affine.twin_shift);
    iter::once(scale).chain(shift.map(|shift| scale * (1u32 << shift) as f32))
}

/// Sum of squared differences between `values` and what their codes stand for.
fn squared_error(affine: &Affine, values: &[f32]) -> f64 {
    // In steps; not fused and rounded by addition, for speed: this only ranks candidates.
    let rne = spec::round_small;
    let chunks = |error: &dyn Fn(f32) -> f32| -> f64 {
        let sum = |chunk: &[f32]| f64::from(chunk.iter().map(|x| error(*x)).sum::<f32>());
        values.chunks(256).map(sum).sum()
    };
    let inv = spec::code_multiplier(1.0, affine.scale);
    let z = affine.zero_point;
    let steps = match affine.twin() {
        None => {
            let max = f32::from(spec::max_code(affine.bits));
            let sum = |chunk: &[f32]| -> f64 {
                let error = |x: &f32| {
                    let d = x * inv + z - rne((x * inv + z).clamp(0.0, max));
                    d * d
                };
                chunk.iter().map(error).sum::<f32>().into()
            };
            values.chunks(256).map(sum).sum()
        }
        Some(twin) => {
            let width = (1u32 << twin.shift) as f32;
            let high = f32::from(twin.max_coarse());
            chunks(&|x| {
                let v = x * inv;
                let d = v - rne(v.clamp(-z, 0.0)) - rne((v / width).clamp(0.0, high)) * width;
                d * d
            })
        }
    };
    steps * f64::from(affine.scale).powi(2)
}

/// In a few words, such as `symmetric min-max`.
impl fmt::Display for Quantizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Symmetric => "symmetric",
            Scheme::Asymmetric => "asymmetric",
            Scheme::Centered => "centred",
            Scheme::Twin => "twin",
        };
        match self.range {
            ActivationRange::MinMax => write!(f, "{scheme} min-max"),
            ActivationRange::Percentile(percent) => write!(f, "{scheme} percentile {percent}"),
            ActivationRange::Mse => write!(f, "{scheme} of least squared error"),
            ActivationRange::Widened(factor) => write!(f, "{scheme} min-max × {factor}"),
            ActivationRange::Searched => write!(f, "{scheme} searched"),
            ActivationRange::Fixed { min, max } => write!(f, "{scheme} from {min} to {max}"),
        }
    }
}

fn check_one(what: &'static str, expected: &'static str, got: f32, ok: bool) -> Result<(), Error> {
    check::all(what, expected, &[got], |_| ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: [f32; 5] = [-1.0, 0.5, 2.0, -0.25, 12.7];

    #[test]
    fn symmetric_min_max_puts_the_extreme_on_the_last_level() {
        let affine = Quantizer::default().fit(&VALUES, 8).unwrap();
        assert_eq!(affine.scale, 12.7 / 127.0);
        assert_eq!(affine.zero_point, 128.0);
    }

    #[test]
    fn asymmetric_min_max_covers_both_ends_and_zero_exactly() {
        let affine = Quantizer::asymmetric(ActivationRange::MinMax)
            .fit(&VALUES, 8)
            .unwrap();
        let decode = |u: f32| (u - affine.zero_point) * affine.scale;
        assert!(decode(0.0) <= -1.0 + affine.scale && decode(255.0) >= 12.7 - affine.scale);
        assert_eq!(affine.zero_point.fract(), 0.0);
        let positive = Quantizer::asymmetric(ActivationRange::MinMax)
            .fit(&[1.0, 3.0], 4)
            .unwrap();
        assert_eq!((positive.scale, positive.zero_point), (3.0 / 15.0, 0.0));
    }

    #[test]
    fn mse_clips_an_outlier_at_few_bits_and_never_does_worse_than_min_max() {
        let mut values: Vec<f32> = (0..10_000).map(|i| (i as f32 / 100.0).sin()).collect();
        values.push(30.0);
        for bits in 2..=8 {
            let min_max = Quantizer::symmetric(ActivationRange::MinMax)
                .fit(&values, bits)
                .unwrap();
            let mse = Quantizer::symmetric(ActivationRange::Mse)
                .fit(&values, bits)
                .unwrap();
            assert!(squared_error(&mse, &values) <= squared_error(&min_max, &values));
        }
        let clipped = Quantizer::symmetric(ActivationRange::Mse)
            .fit(&values, 4)
            .unwrap();
        assert!(clipped.scale < 30.0 / 7.0);
    }

    #[test]
    fn percentile_leaves_the_tail_out() {
        let values: Vec<f32> = (0..=1000).map(|i| i as f32).collect();
        let affine = Quantizer::symmetric(ActivationRange::Percentile(90.0))
            .fit(&values, 8)
            .unwrap();
        assert_eq!(affine.scale, 900.0 / 127.0);
        let affine = Quantizer::asymmetric(ActivationRange::Percentile(90.0))
            .fit(&values, 8)
            .unwrap();
        assert_eq!(affine.scale, 900.0 / 255.0);
    }

    #[test]
    fn zeros_and_subnormals_give_a_usable_scale() {
        for values in [[0.0f32, 0.0], [1e-45, -1e-45]] {
            for quantizer in [
                Quantizer::default(),
                Quantizer::asymmetric(ActivationRange::Mse),
            ] {
                let affine = quantizer.fit(&values, 8).unwrap();
                assert!((1.0 / affine.scale).is_finite(), "{affine:?}");
            }
        }
    }

    #[test]
    fn a_quantizer_says_in_words_what_it_is() {
        let words = |quantizer: Quantizer| quantizer.to_string();
        assert_eq!(words(Quantizer::default()), "symmetric min-max");
        let widened = Quantizer::centered(ActivationRange::Widened(1.25));
        assert_eq!(words(widened), "centred min-max × 1.25");
        let twin = Quantizer::twin(ActivationRange::Percentile(99.9));
        assert_eq!(words(twin), "twin percentile 99.9");
    }

    #[test]
    fn nonsense_ranges_are_refused() {
        let fit = |range| Quantizer::symmetric(range).fit(&VALUES, 8);
        assert!(fit(ActivationRange::Percentile(101.0)).is_err());
        assert!(fit(ActivationRange::Percentile(f32::NAN)).is_err());
        assert!(
            fit(ActivationRange::Fixed {
                min: 1.0,
                max: -1.0
            })
            .is_err()
        );
        assert!(
            fit(ActivationRange::Fixed {
                min: f32::NAN,
                max: 1.0
            })
            .is_err()
        );
        assert!(Quantizer::default().fit(&[], 8).is_err());
    }
}
