//! Calibration: the search for the noise range on real rows.

use rayon::prelude::*;

use crate::error::Error;
use crate::linear::QuantLinear;

/// Noise ranges tried, in quantization steps: `0, 1/8, ..., 2`. Noise wider than a few steps only
/// adds variance (eq. 12 grows with n²).
const RANGES: std::ops::RangeInclusive<u32> = 0..=16;
const RANGES_PER_STEP: f32 = 8.0;

/// The candidate of `make(range)` with the least squared output error against `target` on `rows`
/// (eq. 11); the first of equals, that is, the least noise.
pub(crate) fn search_noise_range(
    rows: &[f32],
    target: &[f32],
    step: f32,
    make: impl Fn(f32) -> Result<QuantLinear, Error>,
) -> Result<QuantLinear, Error> {
    let mut y = vec![0f32; target.len()];
    let mut best: Option<(f64, QuantLinear)> = None;
    for i in RANGES {
        let layer = match make(i as f32 / RANGES_PER_STEP * step) {
            Ok(layer) => layer,
            // Wider noise would only overflow more.
            Err(Error::CorrectionOverflow { .. }) if best.is_some() => break,
            Err(error) => return Err(error),
        };
        let mut scratch = layer.scratch(rows.len() / layer.in_features());
        layer.forward_into(rows, &mut y, &mut scratch)?;
        let error = squared_error(&y, target);
        if best.as_ref().is_none_or(|(least, _)| error < *least) {
            best = Some((error, layer));
        }
    }
    let what = "searched noise";
    best.map(|(_, layer)| layer)
        .ok_or(Error::Calibration { what })
}

/// The float layer on `rows`: `x · wᵀ + b`, `[rows, n]`.
pub(crate) fn float_outputs(rows: &[f32], weight: &[f32], bias: &[f32], k: usize) -> Vec<f32> {
    let n = bias.len();
    let mut y = vec![0f32; rows.len() / k * n];
    let pairs = y.par_chunks_mut(n).zip(rows.par_chunks(k));
    pairs.for_each(|(y, x)| {
        for ((y, w), b) in y.iter_mut().zip(weight.chunks_exact(k)).zip(bias) {
            *y = dot(x, w) + b;
        }
    });
    y
}

/// Eight partial sums, so that the compiler can vectorise without changing the order of addition.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; 8];
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    let tail: f32 = (a.remainder().iter().zip(b.remainder()))
        .map(|(a, b)| a * b)
        .sum();
    for (a, b) in a.zip(b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f32>() + tail
}

/// In f64 and in order: independent of threads.
fn squared_error(a: &[f32], b: &[f32]) -> f64 {
    let squares = a
        .iter()
        .zip(b)
        .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
    squares.sum()
}
