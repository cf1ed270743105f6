//! What does not need the layer's outputs: shift, channel scale, range and weights, from statistics.

use std::sync::Arc;

use noisyquant_kernels::spec;
use rayon::prelude::*;

use super::alternate::alternate;
use super::noise::{self, Noise};
use super::problem::{Channel, Problem};
use super::recipe::{ChannelScale, Recipe, Shift};
use super::weights::{self, WeightCodes, WeightQuantizer, WeightRange};
use crate::error::Error;
use crate::layer::affine::Affine;
use crate::layer::numbers::{Numbers, Params};

/// Least range of a channel that a migration strength sees, as a fraction of the largest: a channel
/// that is silent in calibration may not be so for ever.
const LEAST_RANGE: f32 = 1e-3;

/// How inputs become codes.
struct Activations {
    affine: Affine,
    noise: Vec<f32>,
}

/// Chooses everything of `recipe` but a searched channel scale, searched noise, and what follows them.
pub(crate) fn settle(problem: &Problem<'_>, recipe: &Recipe) -> Result<Numbers, Error> {
    let channel_scale = channel_scale(problem, &recipe.channel_scale);
    let Activations { affine, noise } = activations(problem, recipe, &channel_scale)?;
    let quantize = || quantize_weights(problem, recipe.weights, &channel_scale);
    let weights = problem.remember_weights(recipe.weights, &channel_scale, quantize);
    let numbers = Numbers {
        codes: weights.codes,
        params: Params {
            weight_bits: problem.weight_bits,
            weight_scales: weights.scales,
            affine,
            channel_scale,
            noise,
            bias: problem.bias.to_vec(),
        },
    };
    if recipe.quantizer.is_searched() || recipe.weights.range == WeightRange::Searched {
        alternate(problem, recipe, numbers)
    } else {
        Ok(numbers)
    }
}

/// `r[k]` (eq. 22).
fn channel_scale(problem: &Problem<'_>, chosen: &ChannelScale) -> Arc<[f32]> {
    match chosen {
        ChannelScale::None | ChannelScale::Searched => vec![1.0; problem.k].into(),
        ChannelScale::PerChannel(r) => r.as_slice().into(),
        ChannelScale::Balanced { strength, balance } => {
            let bound = channel_scale(problem, &ChannelScale::Strength(*strength));
            balanced(problem, bound, *balance)
        }
        ChannelScale::Strength(strength) => {
            let ranges = || problem.channels().iter().map(|c| c.high - c.low);
            let largest = ranges().fold(f32::MIN_POSITIVE, f32::max).min(f32::MAX);
            let fraction = |range: f32| (range / largest).clamp(LEAST_RANGE, 1.0);
            ranges()
                .map(|range| libm::powf(fraction(range), -strength))
                .collect()
        }
    }
}

/// `r[k]` bounded by where errors of inputs and weights weigh alike (eq. 22a).
fn balanced(problem: &Problem<'_>, bound: Arc<[f32]>, balance: f32) -> Arc<[f32]> {
    const ROUNDS: usize = 6; // a change of all r shrinks to its root in a round
    let levels = f32::from(spec::max_code(problem.activation_bits));
    let q = f32::from(spec::max_weight(problem.weight_bits));
    let ranges = problem.channels().iter().map(|c| c.high - c.low);
    let s_x = ranges.fold(f32::MIN_POSITIVE, f32::max).min(f32::MAX) / levels;
    let mut squares = vec![0f64; problem.k];
    for row in problem.weight.chunks_exact(problem.k) {
        for (sum, w) in squares.iter_mut().zip(row) {
            *sum += f64::from(*w).powi(2);
        }
    }
    let mut r = bound.clone();
    for _ in 0..ROUNDS {
        let scale = |row: &[f32]| {
            let scaled = row.iter().zip(r.iter()).map(|(w, r)| (w / r).abs());
            f64::from(scaled.fold(0f32, f32::max) / q).powi(2)
        };
        let scales: Vec<f64> = problem
            .weight
            .par_chunks_exact(problem.k)
            .map(scale)
            .collect();
        let weights = f64::from(balance) * scales.iter().sum::<f64>();
        let channels = squares.iter().zip(problem.channels()).zip(bound.iter());
        let even = channels.map(|((square, channel), bound)| {
            let inputs = f64::from(s_x).powi(2) * square;
            let ratio = inputs / (weights * f64::from(channel.variance));
            // A silent channel, or weights of zero: nothing to balance.
            let even = if ratio > 0.0 {
                ratio.sqrt().sqrt()
            } else {
                f64::INFINITY
            };
            (even as f32).clamp(LEAST_RANGE, *bound)
        });
        r = even.collect();
    }
    r
}

/// Shift, range and fixed noise, for a given channel scale.
fn activations(
    problem: &Problem<'_>,
    recipe: &Recipe,
    channel_scale: &[f32],
) -> Result<Activations, Error> {
    let channels = || problem.channels().iter().zip(channel_scale.iter());
    let mut noise: Vec<f32> = match recipe.shift {
        Shift::None => vec![0.0; problem.k],
        Shift::Mean => channels().map(|(c, r)| -c.mean * r).collect(),
        Shift::MidRange | Shift::MidRangeOnLevel => channels()
            .map(|(c, r)| -(0.5 * c.low + 0.5 * c.high) * r)
            .collect(),
    };
    let values: Vec<f32> = if recipe.quantizer.needs_extremes_only() && !problem.rows.is_empty() {
        let ends = channels().zip(&noise);
        ends.flat_map(|((c, r), n)| [c.low.mul_add(*r, *n), c.high.mul_add(*r, *n)])
            .collect()
    } else {
        let rows = problem.rows.par_chunks_exact(problem.k);
        rows.flat_map_iter(|row| {
            let terms = row.iter().zip(channel_scale.iter()).zip(&noise);
            terms.map(|((x, r), n)| x.mul_add(*r, *n))
        })
        .collect()
    };
    let affine = recipe.quantizer.fit(&values, problem.activation_bits)?;
    if recipe.shift == Shift::MidRangeOnLevel {
        for (n, (c, r)) in noise.iter_mut().zip(channels()) {
            let code = c.mean.mul_add(*r, *n) / affine.scale + affine.zero_point;
            *n += (code.round_ties_even() - code) * affine.scale;
        }
    }
    match &recipe.noise {
        Noise::None | Noise::Searched { .. } => {}
        Noise::Uniform { range, seed } => noise::add(&mut noise, *range, *seed),
        Noise::PerChannel(given) => {
            for (sum, n) in noise.iter_mut().zip(given) {
                *sum += n;
            }
        }
    }
    Ok(Activations { affine, noise })
}

fn quantize_weights(problem: &Problem<'_>, chosen: WeightQuantizer, r: &[f32]) -> WeightCodes {
    let (k, bits) = (problem.k, problem.weight_bits);
    let mut scaled = problem.weight.to_vec();
    scaled.par_chunks_exact_mut(k).for_each(|row| {
        for (w, r) in row.iter_mut().zip(r.iter()) {
            *w /= r;
        }
    });
    let scales = match chosen.range {
        WeightRange::MinMax | WeightRange::Searched => weights::min_max_scales(&scaled, k, bits),
        WeightRange::Mse => {
            let moment = |(c, r): (&Channel, &f32)| (c.variance + c.mean * c.mean) * r * r;
            let importance: Vec<f32> = match problem.rows.is_empty() {
                true => vec![1.0; k],
                false => problem
                    .channels()
                    .iter()
                    .zip(r.iter())
                    .map(moment)
                    .collect(),
            };
            weights::clipped_scales(&scaled, &importance, bits)
        }
    };
    let factor = chosen.compensation.and_then(|d| problem.factor(d));
    match factor {
        Some(factor) => factor.round(problem.weight, r, scales, bits),
        None => WeightCodes::round(&scaled, scales, k, bits),
    }
}
