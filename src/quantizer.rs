//! Uniform quantizers: from calibration values to scale and zero point.

use noisyquant_kernels::spec;

use crate::error::Error;

/// How activations are quantized: which form the codes have, and how their range is found.
///
/// ```
/// use noisyquant::{Quantizer, Range};
/// let signed = Quantizer::symmetric(Range::MinMax);
/// let skewed = Quantizer::asymmetric(Range::Percentile(99.9));
/// assert_ne!(signed, skewed);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantizer {
    scheme: Scheme,
    range: Range,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Scheme {
    Symmetric,
    Asymmetric,
}

/// How the range of values that codes cover is found.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Range {
    /// The least and the largest calibration value.
    MinMax,
    /// The given percentile of the calibration values, in `50.0..=100.0`: of `|x|` for a symmetric
    /// quantizer; at either end for an asymmetric one.
    Percentile(f32),
    /// The clipped range with the least squared quantization error of the calibration values, among
    /// 80 fractions of the min-max range.
    Mse,
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
        Quantizer::symmetric(Range::MinMax)
    }
}

/// Scale and zero point (eq. 2): a code `u` stands for `scale · (u − zero_point)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Affine {
    pub(crate) scale: f32,
    pub(crate) zero_point: f32,
    pub(crate) bits: u32,
}

impl Quantizer {
    /// Codes stand for a range that is symmetric about zero; `z = 2^(b−1)`.
    pub const fn symmetric(range: Range) -> Quantizer {
        Quantizer {
            scheme: Scheme::Symmetric,
            range,
        }
    }

    /// Codes stand for any range that contains zero; `z` is an integer.
    pub const fn asymmetric(range: Range) -> Quantizer {
        Quantizer {
            scheme: Scheme::Asymmetric,
            range,
        }
    }

    /// Scale and zero point of `bits` bits for the finite `values`.
    ///
    /// # Errors
    ///
    /// [`Error::Calibration`] if the range needs values and there are none; [`Error::Value`] for a
    /// percentile or fixed range that makes no sense.
    pub(crate) fn fit(&self, values: &[f32], bits: u32) -> Result<Affine, Error> {
        let needs_values = !matches!(self.range, Range::Fixed { .. });
        if needs_values && values.is_empty() {
            let what = "this quantizer's range";
            return Err(Error::Calibration { what });
        }
        match self.range {
            Range::Fixed { min, max } => {
                check("fixed range", "finite", min, min.is_finite())?;
                check(
                    "fixed range",
                    "finite, at least min",
                    max,
                    max.is_finite() && min <= max,
                )?;
                Ok(self.affine(min, max, bits))
            }
            Range::MinMax => {
                let (low, high) = self.extremes(values, 100.0);
                Ok(self.affine(low, high, bits))
            }
            Range::Percentile(p) => {
                check(
                    "percentile",
                    "within 50..=100",
                    p,
                    (50.0..=100.0).contains(&p),
                )?;
                let (low, high) = self.extremes(values, p);
                Ok(self.affine(low, high, bits))
            }
            Range::Mse => {
                let (low, high) = self.extremes(values, 100.0);
                let candidate = |i: u32| {
                    let fraction = 1.0 - 0.0125 * i as f32;
                    self.affine(low * fraction, high * fraction, bits)
                };
                let candidates = (0..80).map(candidate);
                let scored = candidates.map(|affine| (affine.squared_error(values), affine));
                // The first of equals: the widest range.
                let best = scored.min_by(|a, b| a.0.total_cmp(&b.0));
                Ok(best.map_or(candidate(0), |(_, affine)| affine))
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
            Scheme::Symmetric => values.iter().map(|v| v.abs()).collect(),
            Scheme::Asymmetric => values.to_vec(),
        };
        let rank = |p: f64| ((sorted.len() - 1) as f64 * p / 100.0).round() as usize;
        let (high_rank, low_rank) = (rank(percentile.into()), rank(100.0 - f64::from(percentile)));
        let high = *sorted.select_nth_unstable_by(high_rank, f32::total_cmp).1;
        match self.scheme {
            Scheme::Symmetric => (-high, high),
            Scheme::Asymmetric => {
                let low = *sorted.select_nth_unstable_by(low_rank, f32::total_cmp).1;
                (low, high)
            }
        }
    }

    fn affine(&self, low: f32, high: f32, bits: u32) -> Affine {
        let levels = f32::from(spec::max_code(bits));
        // Below the least normal number, 1 / scale would overflow.
        let scale = |s: f32| {
            if s == 0.0 {
                1.0
            } else {
                s.max(f32::MIN_POSITIVE)
            }
        };
        match self.scheme {
            Scheme::Symmetric => Affine {
                scale: scale(low.abs().max(high.abs()) / f32::from(spec::max_weight(bits))),
                zero_point: (1u32 << (bits - 1)) as f32,
                bits,
            },
            Scheme::Asymmetric => {
                let (low, high) = (low.min(0.0), high.max(0.0));
                let scale = scale(high / levels - low / levels);
                Affine {
                    scale,
                    zero_point: (-low / scale).round_ties_even().clamp(0.0, levels),
                    bits,
                }
            }
        }
    }
}

impl Affine {
    /// Sum of squared differences between `values` and what their codes stand for.
    fn squared_error(&self, values: &[f32]) -> f64 {
        let inv = spec::code_multiplier(1.0, self.scale);
        let max = f32::from(spec::max_code(self.bits));
        let chunk_error = |chunk: &[f32]| -> f32 {
            let error = |x: &f32| {
                // In steps; not fused, for speed: this only ranks candidates.
                let code = (x * inv + self.zero_point)
                    .clamp(0.0, max)
                    .round_ties_even();
                let d = x * inv + self.zero_point - code;
                d * d
            };
            chunk.iter().map(error).sum()
        };
        let steps: f64 = values.chunks(256).map(|c| f64::from(chunk_error(c))).sum();
        steps * f64::from(self.scale).powi(2)
    }
}

fn check(what: &'static str, expected: &'static str, got: f32, ok: bool) -> Result<(), Error> {
    let index = 0;
    ok.then_some(()).ok_or(Error::Value {
        what,
        expected,
        got,
        index,
    })
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
        let affine = Quantizer::asymmetric(Range::MinMax)
            .fit(&VALUES, 8)
            .unwrap();
        let decode = |u: f32| (u - affine.zero_point) * affine.scale;
        assert!(decode(0.0) <= -1.0 + affine.scale && decode(255.0) >= 12.7 - affine.scale);
        assert_eq!(affine.zero_point.fract(), 0.0);
        let positive = Quantizer::asymmetric(Range::MinMax)
            .fit(&[1.0, 3.0], 4)
            .unwrap();
        assert_eq!((positive.scale, positive.zero_point), (3.0 / 15.0, 0.0));
    }

    #[test]
    fn mse_clips_an_outlier_at_few_bits_and_never_does_worse_than_min_max() {
        let mut values: Vec<f32> = (0..10_000).map(|i| (i as f32 / 100.0).sin()).collect();
        values.push(30.0);
        for bits in 2..=8 {
            let min_max = Quantizer::symmetric(Range::MinMax)
                .fit(&values, bits)
                .unwrap();
            let mse = Quantizer::symmetric(Range::Mse).fit(&values, bits).unwrap();
            assert!(mse.squared_error(&values) <= min_max.squared_error(&values));
        }
        let clipped = Quantizer::symmetric(Range::Mse).fit(&values, 4).unwrap();
        assert!(clipped.scale < 30.0 / 7.0);
    }

    #[test]
    fn percentile_leaves_the_tail_out() {
        let values: Vec<f32> = (0..=1000).map(|i| i as f32).collect();
        let affine = Quantizer::symmetric(Range::Percentile(90.0))
            .fit(&values, 8)
            .unwrap();
        assert_eq!(affine.scale, 900.0 / 127.0);
        let affine = Quantizer::asymmetric(Range::Percentile(90.0))
            .fit(&values, 8)
            .unwrap();
        assert_eq!(affine.scale, 900.0 / 255.0);
    }

    #[test]
    fn zeros_and_subnormals_give_a_usable_scale() {
        for values in [[0.0f32, 0.0], [1e-45, -1e-45]] {
            for quantizer in [Quantizer::default(), Quantizer::asymmetric(Range::Mse)] {
                let affine = quantizer.fit(&values, 8).unwrap();
                assert!((1.0 / affine.scale).is_finite(), "{affine:?}");
            }
        }
    }

    #[test]
    fn nonsense_ranges_are_refused() {
        let fit = |range| Quantizer::symmetric(range).fit(&VALUES, 8);
        assert!(fit(Range::Percentile(101.0)).is_err());
        assert!(fit(Range::Percentile(f32::NAN)).is_err());
        assert!(
            fit(Range::Fixed {
                min: 1.0,
                max: -1.0
            })
            .is_err()
        );
        assert!(
            fit(Range::Fixed {
                min: f32::NAN,
                max: 1.0
            })
            .is_err()
        );
        assert!(Quantizer::default().fit(&[], 8).is_err());
    }
}
