//! From a recipe to the numbers of a layer: what does not need the layer's outputs is computed, what is
//! searched is tried on the integer kernels themselves.

use super::noise::Noise;
use super::problem::Problem;
use super::recipe::{ChannelScale, Recipe};
use super::refine::refine;
use super::search;
use super::settle::settle;
use crate::error::Error;
use crate::layer::numbers::Numbers;

/// Chooses everything that `recipe` leaves open.
pub(crate) fn realize(problem: &Problem<'_>, recipe: &Recipe) -> Result<Numbers, Error> {
    recipe.check(problem.k)?;
    if let (true, Some(what)) = (problem.rows.is_empty(), recipe.needs_rows()) {
        return Err(Error::Calibration { what });
    }
    let numbers = match &recipe.channel_scale {
        ChannelScale::Searched => search::strength(problem, recipe)?,
        _ => settle(problem, recipe)?,
    };
    let numbers = match recipe.noise {
        Noise::Searched { seed } => search::noise(problem, recipe.objective, numbers, seed)?,
        _ => numbers,
    };
    let correct = |numbers| match recipe.bias_correction {
        true => correct_bias(problem, numbers),
        false => Ok(numbers),
    };
    let numbers = correct(numbers)?;
    match recipe.refine {
        Some(sweeps) => correct(refine(problem, recipe.objective, sweeps, numbers)?),
        None => Ok(numbers),
    }
}

/// Takes the mean error of each output out of the bias (eq. 27).
fn correct_bias(problem: &Problem<'_>, mut numbers: Numbers) -> Result<Numbers, Error> {
    let n = problem.bias.len();
    let y = problem.layer(&numbers)?.forward(problem.sample())?;
    let mut sums = vec![0f64; n];
    for (y, target) in y.chunks_exact(n).zip(problem.target().chunks_exact(n)) {
        for (sum, (y, target)) in sums.iter_mut().zip(y.iter().zip(target)) {
            *sum += f64::from(*target) - f64::from(*y);
        }
    }
    let m = (problem.sample().len() / problem.k) as f64;
    for (bias, sum) in numbers.params.bias.iter_mut().zip(sums) {
        let corrected = (f64::from(*bias) + sum / m) as f32;
        *bias = if corrected.is_finite() {
            corrected
        } else {
            *bias
        };
    }
    Ok(numbers)
}
