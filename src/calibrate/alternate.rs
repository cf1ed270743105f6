//! EasyQuant's alternation between the activations' range and the weights' scales (eq. 23).

use rayon::prelude::*;

use super::problem::Problem;
use super::recipe::Recipe;
use super::weights::{self, WeightCodes, WeightQuantizer, WeightRange};
use crate::error::Error;
use crate::layer::numbers::Numbers;

/// Rounds of the alternation.
const ROUNDS: usize = 2;

/// The activations' range for given weights, then the weights' scales for a given range.
pub(crate) fn alternate(
    problem: &Problem<'_>,
    recipe: &Recipe,
    mut numbers: Numbers,
) -> Result<Numbers, Error> {
    let weights_too = recipe.weights.range == WeightRange::Searched;
    let rounds = if weights_too { ROUNDS } else { 1 };
    for _ in 0..rounds {
        if recipe.quantizer.is_searched() {
            numbers = search_range(problem, recipe, numbers)?;
        }
        if weights_too {
            numbers = search_weight_scales(problem, recipe.weights, numbers)?;
        }
    }
    Ok(numbers)
}

fn search_range(
    problem: &Problem<'_>,
    recipe: &Recipe,
    numbers: Numbers,
) -> Result<Numbers, Error> {
    let channels = problem.channels().iter().zip(numbers.channel_scale());
    let ends = channels.zip(numbers.noise());
    let extremes: Vec<f32> = ends
        .flat_map(|((c, r), n)| [c.low * r + n, c.high * r + n])
        .collect();
    let grid = recipe
        .quantizer
        .candidates(&extremes, problem.activation_bits);
    let candidates = std::iter::once(numbers.params.affine)
        .chain(grid)
        .map(|affine| {
            let mut candidate = numbers.clone();
            candidate.params.affine = affine;
            Ok(candidate)
        });
    problem.best(recipe.objective, candidates)
}

/// For each output channel on its own, the fraction of its min-max scale with the best cosine
/// similarity of its outputs.
fn search_weight_scales(
    problem: &Problem<'_>,
    chosen: WeightQuantizer,
    numbers: Numbers,
) -> Result<Numbers, Error> {
    let (n, k, bits) = (problem.bias.len(), problem.k, problem.weight_bits);
    let r = numbers.channel_scale();
    let scaled = problem.weight.par_chunks_exact(k).flat_map_iter(|row| {
        let pairs = row.iter().zip(r.iter());
        pairs.map(|(w, r)| w / r)
    });
    let scaled: Vec<f32> = scaled.collect();
    let widest = weights::min_max_scales(&scaled, k, bits);
    let target = problem.target();
    let mut best = vec![(f64::INFINITY, 0f32); n];
    for i in 0..=15 {
        let fraction = 1.0 - 0.04 * i as f32;
        let scales = widest.iter().map(|s| (s * fraction).max(f32::MIN_POSITIVE));
        let codes = WeightCodes::round(&scaled, scales.collect(), k, bits);
        let candidate = codes.of(&numbers);
        let y = problem.layer(&candidate)?.forward(problem.sample())?;
        let cosines = channel_cosines(&y, target, n);
        for ((best, cosine), scale) in best.iter_mut().zip(cosines).zip(candidate.weight_scales()) {
            if 1.0 - cosine < best.0 {
                *best = (1.0 - cosine, *scale);
            }
        }
    }
    let scales = best.iter().zip(widest);
    let scales = scales.map(|((_, s), widest)| if *s > 0.0 { *s } else { widest });
    // The search rounds plainly, for speed; the result is compensated if that is chosen.
    let codes = match chosen
        .compensation
        .and_then(|damping| problem.factor(damping))
    {
        Some(factor) => factor.round(problem.weight, r, scales.collect(), bits),
        None => WeightCodes::round(&scaled, scales.collect(), k, bits),
    };
    Ok(codes.of(&numbers))
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
