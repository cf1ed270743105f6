//! The searches over one number of a recipe: each offers candidates, runs them on the integer kernels, and
//! keeps the best.

use std::iter;
use std::ops::RangeInclusive;

use super::noise;
use super::objective::Objective;
use super::problem::Problem;
use super::quantizer;
use super::recipe::{ChannelScale, Recipe};
use super::settle::settle;
use crate::error::Error;
use crate::layer::numbers::Numbers;

/// Noise ranges tried beside 0, in eighths of a quantization step: `1/8, ..., 2`. Noise wider than a few
/// steps only adds variance (eq. 12 grows with n²).
const NOISE_EIGHTHS: RangeInclusive<u32> = 1..=16;

/// The strength with the least score of the layer without noise (eq. 22).
pub(crate) fn strength(problem: &Problem<'_>, recipe: &Recipe) -> Result<Numbers, Error> {
    let strengths = (0..=8).map(|i| i as f32 / 8.0);
    let candidates = strengths.map(|strength| {
        let channel_scale = ChannelScale::Strength(strength);
        let recipe = Recipe {
            channel_scale,
            ..recipe.clone()
        };
        settle(problem, &recipe)
    });
    problem.best(recipe.objective, candidates)
}

/// The noise range with the least score on the calibration rows (eq. 11), for given weights; the first of
/// equals, that is, the least noise. A range with which no layer can be built is left out: its correction
/// could overflow.
pub(crate) fn noise(
    problem: &Problem<'_>,
    objective: Objective,
    numbers: Numbers,
    seed: u64,
) -> Result<Numbers, Error> {
    let steps = quantizer::steps(&numbers.params.affine);
    let ranges = steps.flat_map(|step| NOISE_EIGHTHS.map(move |i| i as f32 / 8.0 * step));
    let candidates = iter::once(0.0).chain(ranges).map(|range| {
        let mut candidate = numbers.clone();
        noise::add(&mut candidate.params.noise, range, seed);
        Ok(candidate)
    });
    problem.best(objective, candidates)
}
