//! The searches: each offers candidates, runs them on the integer kernels, and keeps the best.

use std::sync::Arc;

use rayon::prelude::*;

use crate::error::Error;
use crate::objective::{Errors, Objective};
use crate::parts::Parts;
use crate::problem::{Problem, add};
use crate::recipe::{ChannelScale, Recipe};
use crate::weights::{self, WeightCodes, WeightQuantizer, WeightRange};

/// Noise ranges tried, in quantization steps: `0, 1/8, ..., 2`. Noise wider than a few steps only
/// adds variance (eq. 12 grows with n²).
const NOISE_RANGES: std::ops::RangeInclusive<u32> = 0..=16;
const NOISE_RANGES_PER_STEP: f32 = 8.0;

/// Rounds of EasyQuant's alternation.
const ALTERNATIONS: usize = 2;

impl Problem<'_> {
    /// The strength with the least score of the layer without noise (eq. 22).
    pub(crate) fn search_strength(&self, recipe: &Recipe) -> Result<Parts, Error> {
        let strengths = (0..=8).map(|i| i as f32 / 8.0);
        let candidates = strengths.map(|strength| {
            let channel_scale = ChannelScale::Strength(strength);
            self.settle(&Recipe {
                channel_scale,
                ..recipe.clone()
            })
        });
        self.best(recipe.objective, candidates)
    }

    /// The candidate with the least score; the first of equals. The first is what the others are
    /// compared with; later ones that cannot be built are left out.
    fn best(
        &self,
        objective: Objective,
        candidates: impl Iterator<Item = Result<Parts, Error>>,
    ) -> Result<Parts, Error> {
        let mut best: Option<(f64, Errors, Parts)> = None;
        for candidate in candidates {
            let built = candidate.and_then(|parts| {
                let layer = self.layer(&parts)?;
                Ok((self.errors(&layer)?, parts))
            });
            let (errors, parts) = match (built, &best) {
                (Ok(built), _) => built,
                (Err(_), Some(_)) => continue,
                (Err(error), None) => return Err(error),
            };
            let start = best.as_ref().map_or(errors, |best| best.1);
            let score = objective.score(&errors, &start);
            if best.as_ref().is_none_or(|best| score < best.0) {
                best = Some((score, start, parts));
            }
        }
        let what = "a search";
        best.map(|best| best.2).ok_or(Error::Calibration { what })
    }

    /// The noise range with the least score on the calibration rows (eq. 11), for given weights; the
    /// first of equals, that is, the least noise.
    pub(crate) fn search_noise(
        &self,
        objective: Objective,
        parts: Parts,
        seed: u64,
    ) -> Result<Parts, Error> {
        let mut ranges = vec![0.0];
        for step in parts.affine.steps() {
            let per_step = NOISE_RANGES.skip(1);
            ranges.extend(per_step.map(|i| i as f32 / NOISE_RANGES_PER_STEP * step));
        }
        let mut best: Option<(f64, Errors, Parts)> = None;
        for range in ranges {
            let mut candidate = parts.clone();
            add(&mut candidate.noise, range, seed);
            let layer = match self.layer(&candidate) {
                Ok(layer) => layer,
                // Wider noise would only overflow more.
                Err(Error::CorrectionOverflow { .. }) if best.is_some() => break,
                Err(error) => return Err(error),
            };
            let errors = self.errors(&layer)?;
            let start = best.as_ref().map_or(errors, |best| best.1);
            let score = objective.score(&errors, &start);
            if best.as_ref().is_none_or(|best| score < best.0) {
                best = Some((score, start, candidate));
            }
        }
        let what = "searched noise";
        best.map(|best| best.2).ok_or(Error::Calibration { what })
    }

    /// EasyQuant's alternation (eq. 23): the activations' range for given weights, then the weights'
    /// scales for a given range.
    pub(crate) fn alternate(&self, recipe: &Recipe, mut parts: Parts) -> Result<Parts, Error> {
        let weights_too = recipe.weights.range == WeightRange::Searched;
        let rounds = if weights_too { ALTERNATIONS } else { 1 };
        for _ in 0..rounds {
            if recipe.quantizer.is_searched() {
                let extremes: Vec<f32> = {
                    let channels = self.channels().iter().zip(parts.channel_scale.iter());
                    let ends = channels.zip(&parts.noise);
                    ends.flat_map(|((c, r), n)| [c.low * r + n, c.high * r + n])
                        .collect()
                };
                let grid = recipe.quantizer.candidates(&extremes, self.activation_bits);
                let candidates = std::iter::once(parts.affine).chain(grid).map(|affine| {
                    Ok(Parts {
                        affine,
                        ..parts.clone()
                    })
                });
                parts = self.best(recipe.objective, candidates)?;
            }
            if weights_too {
                parts = self.search_weight_scales(recipe.weights, parts)?;
            }
        }
        Ok(parts)
    }

    /// For each output channel on its own, the fraction of its min-max scale with the best cosine
    /// similarity of its outputs.
    fn search_weight_scales(&self, chosen: WeightQuantizer, parts: Parts) -> Result<Parts, Error> {
        let (n, k, bits) = (self.bias.len(), self.k, self.weight_bits);
        let r = &parts.channel_scale;
        let scaled = self.weight.par_chunks_exact(k).flat_map_iter(|row| {
            let pairs = row.iter().zip(r.iter());
            pairs.map(|(w, r)| w / r)
        });
        let scaled: Vec<f32> = scaled.collect();
        let widest = weights::min_max_scales(&scaled, k, bits);
        let target = self.target();
        let mut best = vec![(f64::INFINITY, 0f32); n];
        for i in 0..=15 {
            let fraction = 1.0 - 0.04 * i as f32;
            let scales = widest.iter().map(|s| (s * fraction).max(f32::MIN_POSITIVE));
            let codes = WeightCodes::round(&scaled, scales.collect(), k, bits);
            let candidate = Parts {
                codes: Arc::new(codes),
                ..parts.clone()
            };
            let y = self.layer(&candidate)?.forward(self.sample())?;
            let cosines = channel_cosines(&y, target, n);
            for ((best, cosine), scale) in best.iter_mut().zip(cosines).zip(&candidate.codes.scales)
            {
                if 1.0 - cosine < best.0 {
                    *best = (1.0 - cosine, *scale);
                }
            }
        }
        let scales = best.iter().zip(widest);
        let scales = scales.map(|((_, s), widest)| if *s > 0.0 { *s } else { widest });
        // The search rounds plainly, for speed; the result is compensated if that is chosen.
        let codes = match chosen.compensation.and_then(|damping| self.factor(damping)) {
            Some(factor) => factor.round(self.weight, r, scales.collect(), bits),
            None => WeightCodes::round(&scaled, scales.collect(), k, bits),
        };
        Ok(Parts {
            codes: Arc::new(codes),
            ..parts
        })
    }
}

/// Cosine similarity of each column of `y` and `target`, both `[rows, n]`.
fn channel_cosines(y: &[f32], target: &[f32], n: usize) -> Vec<f64> {
    let mut sums = vec![[0f64; 3]; n];
    for (y, target) in y.chunks_exact(n).zip(target.chunks_exact(n)) {
        for (sum, (y, t)) in sums.iter_mut().zip(y.iter().zip(target)) {
            let (y, t) = (f64::from(*y), f64::from(*t));
            sum[0] += y * t;
            sum[1] += y * y;
            sum[2] += t * t;
        }
    }
    let cosine = |[dot, y, t]: &[f64; 3]| dot / (y * t).sqrt().max(f64::MIN_POSITIVE);
    sums.iter().map(cosine).collect()
}
