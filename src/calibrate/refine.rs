//! Coordinate search over the shift and the scale of each input channel (eq. 29).
//!
//! Channel `k` adds `a ⊗ w` to the outputs: its decoded inputs times its decoded weights. A candidate
//! changes `a` by `δ` and `w` by `ω`, and so the squared error of a row by terms in `E w` and `E ω`
//! alone, `E` being the output errors. To judge one costs a pass over a column of inputs; to take it,
//! a change of rank one or two of `E`.

use std::sync::Arc;

use noisyquant_kernels::spec;
use rayon::prelude::*;

use super::matrix::{dot, eight_lanes};
use super::objective::{Errors, Objective};
use super::problem::{Channel, Problem};
use super::quantizer;
use super::recipe::Refine;
use crate::error::Error;
use crate::layer::affine::Affine;
use crate::layer::numbers::Numbers;

/// Moves of a channel's offset, in eighths of a step. Whole steps change nothing but what is clipped.
const OFFSET_MOVES: [f32; 7] = [-3.0, -2.0, -1.0, 1.0, 2.0, 3.0, 4.0];

/// Factors of a channel's scale.
const SCALE_MOVES: [f32; 6] = [0.71, 0.84, 0.92, 1.09, 1.19, 1.41];

/// Rows that one task of a parallel loop takes.
const TOGETHER: usize = 64;

/// Improves `start` by up to `chosen.sweeps` passes over its channels.
pub(crate) fn refine(
    problem: &Problem<'_>,
    objective: Objective,
    chosen: Refine,
    start: Numbers,
) -> Result<Numbers, Error> {
    let rows = problem.sample().len() / problem.k;
    if rows < 2 {
        return Ok(start);
    }
    let searched = rows - (rows / 4).max(1);
    let (searched, judged) = problem.sample().split_at(searched * problem.k);
    let (searched, judged) = (problem.with_rows(searched), problem.with_rows(judged));
    let before = judged.errors(&judged.layer(&start)?)?;
    let mut best = (objective.score(&before, &before), start);
    for _ in 0..chosen.sweeps {
        let mut sweep = Sweep::new(&searched, objective, best.1.clone())?;
        for (k, channel) in problem.channels().iter().enumerate() {
            sweep.improve(k, channel, chosen.scales);
        }
        // A candidate may overflow where its start did not.
        let Ok(layer) = judged.layer(&sweep.numbers) else {
            break;
        };
        let score = objective.score(&judged.errors(&layer)?, &before);
        if score >= best.0 {
            break;
        }
        best = (score, sweep.numbers);
    }
    Ok(best.1)
}

/// The layer while its channels change.
struct Sweep<'a> {
    problem: &'a Problem<'a>,
    objective: Objective,
    /// Inputs, `[k, m]`.
    columns: Vec<f32>,
    /// Output errors, `[m, n]`.
    error: Vec<f32>,
    /// Per row, the squared norm of its error, and one over that of the float layer's output.
    norms: Vec<f32>,
    inverse: Vec<f32>,
    start: Errors,
    score: f64,
    numbers: Numbers,
}

/// Scale `r` and bias `N` of one channel.
#[derive(Clone, Copy, Debug)]
struct Place {
    r: f32,
    noise: f32,
}

/// Weights of one channel as a candidate has them.
struct Column {
    codes: Vec<i8>,
    /// `w`, and `ω`: what it differs by from the present ones.
    w: Vec<f32>,
    omega: Vec<f32>,
    /// `E w`, `E ω`.
    error_w: Vec<f32>,
    error_omega: Vec<f32>,
}

impl<'a> Sweep<'a> {
    fn new(
        problem: &'a Problem<'a>,
        objective: Objective,
        numbers: Numbers,
    ) -> Result<Self, Error> {
        let (k, n) = (problem.k, problem.bias.len());
        let rows = problem.sample();
        let m = rows.len() / k;
        let mut columns = vec![0f32; rows.len()];
        let transposed = columns.par_chunks_mut(m).enumerate();
        transposed.for_each(|(j, column)| {
            for (v, x) in column.iter_mut().zip(rows[j..].iter().step_by(k)) {
                *v = *x;
            }
        });
        let target = problem.target();
        let mut error = problem.layer(&numbers)?.forward(rows)?;
        error.par_iter_mut().zip(target).for_each(|(e, t)| *e -= t);
        let norms = squared_norms(&error, n);
        let outputs = squared_norms(target, n);
        let floor = 1e-6 * outputs.iter().sum::<f32>() / m as f32 + f32::MIN_POSITIVE;
        let inverse: Vec<f32> = outputs.iter().map(|o| 1.0 / o.max(floor)).collect();
        let start = errors(&norms, &inverse);
        Ok(Sweep {
            problem,
            objective,
            columns,
            error,
            norms,
            inverse,
            start,
            score: objective.score(&start, &start),
            numbers,
        })
    }

    /// Moves channel `k` to the best of its candidates, if one is better than where it stands.
    fn improve(&mut self, k: usize, channel: &Channel, scales: bool) {
        let m = self.norms.len();
        let affine = self.numbers.params.affine;
        let old = Place {
            r: self.numbers.params.channel_scale[k],
            noise: self.numbers.params.noise[k],
        };
        let x = &self.columns[k * m..][..m];
        let a = decoded(x, old, &affine);
        let (low, high) = old.covers(&affine);
        let (low, high) = (low.max(channel.low), high.min(channel.high));
        let covers = |place: &Place| {
            let covered = place.covers(&affine);
            covered.0 <= low && covered.1 >= high
        };
        let mut best: Option<(f64, Place, Arc<Column>)> = None;
        let mut offer = |place: Place, column: &Arc<Column>| {
            let score = self.score(x, &a, place, column);
            if score < best.as_ref().map_or(self.score, |best| best.0) {
                best = Some((score, place, column.clone()));
            }
        };
        let column = Arc::new(self.column(k, None));
        let offsets = OFFSET_MOVES.map(|eighths| Place {
            noise: old.noise + eighths / 8.0 * affine.scale,
            ..old
        });
        for place in offsets.into_iter().filter(covers) {
            offer(place, &column);
        }
        if scales {
            let middle = 0.5 * channel.low + 0.5 * channel.high;
            let about_middle = SCALE_MOVES.map(|factor| Place {
                r: old.r * factor,
                noise: old.noise + middle * (old.r - old.r * factor),
            });
            for place in about_middle.into_iter().filter(covers) {
                offer(place, &Arc::new(self.column(k, Some(place.r))));
            }
        }
        if let Some((_, place, column)) = best {
            let new = decoded(x, place, &affine);
            self.take(k, place, &column, &a, &new);
        }
    }

    /// Moves channel `k`, whose decoded inputs were `a` and are now `new`.
    fn take(&mut self, k: usize, place: Place, column: &Column, a: &[f32], new: &[f32]) {
        let n = column.w.len();
        let moves = new.par_iter().zip(a);
        let rows = self.error.par_chunks_exact_mut(n).zip(moves);
        rows.with_min_len(TOGETHER).for_each(|(error, (new, a))| {
            let delta = new - a;
            let weights = column.w.iter().zip(&column.omega);
            for (e, (w, omega)) in error.iter_mut().zip(weights) {
                *e += delta * w + a * omega;
            }
        });
        self.norms = squared_norms(&self.error, n);
        let errors = errors(&self.norms, &self.inverse);
        self.score = self.objective.score(&errors, &self.start);
        self.numbers.params.noise[k] = place.noise;
        Arc::make_mut(&mut self.numbers.params.channel_scale)[k] = place.r;
        if column.omega.iter().any(|omega| *omega != 0.0) {
            let inputs = self.numbers.in_features();
            let codes = Arc::make_mut(&mut self.numbers.codes);
            for (row, code) in codes.chunks_exact_mut(inputs).zip(&column.codes) {
                row[k] = *code;
            }
        }
    }

    /// Channel `k`'s weights as they are, or rounded anew for the scale `r`.
    fn column(&self, k: usize, r: Option<f32>) -> Column {
        let bits = self.problem.weight_bits;
        let scales = self.numbers.weight_scales();
        let stride = self.numbers.in_features();
        let old = self.numbers.codes[k..].iter().step_by(stride);
        let old: Vec<i8> = old.copied().collect();
        let weights = self.problem.weight[k..].iter().step_by(stride).zip(scales);
        let codes: Vec<i8> = match r {
            Some(r) => weights
                .map(|(w, s)| spec::weight_code(w / r, *s, bits))
                .collect(),
            None => old.clone(),
        };
        let terms = || codes.iter().zip(&old).zip(scales);
        let w: Vec<f32> = terms().map(|((c, _), s)| f32::from(*c) * s).collect();
        let omega: Vec<f32> = terms()
            .map(|((c, old), s)| f32::from(i16::from(*c) - i16::from(*old)) * s)
            .collect();
        let product = |w: &[f32]| -> Vec<f32> {
            let rows = self.error.par_chunks_exact(w.len());
            rows.with_min_len(TOGETHER).map(|e| dot(e, w)).collect()
        };
        let error_omega = match r {
            Some(_) => product(&omega),
            None => vec![0.0; self.norms.len()],
        };
        Column {
            error_w: product(&w),
            error_omega,
            codes,
            w,
            omega,
        }
    }

    /// The score with a channel, now decoded as `a`, at `place` with the weights of `column`:
    /// `|e + δ w + a ω|²` per row (eq. 29).
    fn score(&self, x: &[f32], a: &[f32], place: Place, column: &Column) -> f64 {
        let ww = dot(&column.w, &column.w);
        let wo = dot(&column.w, &column.omega);
        let oo = dot(&column.omega, &column.omega);
        let new = decoded(x, place, &self.numbers.params.affine);
        let terms = self.norms.iter().zip(new.iter().zip(a));
        let products = column.error_w.iter().zip(&column.error_omega);
        let norms = terms.zip(products).map(|((norm, (new, a)), (ew, eo))| {
            let delta = new - a;
            norm + delta * (delta * ww + 2.0 * (ew + a * wo)) + a * (a * oo + 2.0 * eo)
        });
        let norms: Vec<f32> = norms.collect();
        let errors = errors(&norms, &self.inverse);
        self.objective.score(&errors, &self.start)
    }
}

impl Place {
    /// The inputs that the first and the last code stand for, half a step beyond them included.
    fn covers(&self, affine: &Affine) -> (f32, f32) {
        let zero = affine.zero_point;
        let width = quantizer::steps(affine).last().map_or(0.5, |s| 0.5 * s);
        let low = -affine.scale * (zero + 0.5);
        let high = affine.scale * (affine.max_code() as f32 - zero) + width;
        ((low - self.noise) / self.r, (high - self.noise) / self.r)
    }
}

/// What the codes of `x` stand for, noise taken out, in the units of the scaled input (eq. 3 and 24).
/// Neither fused nor rounded as the kernels do: this only ranks candidates.
fn decoded(x: &[f32], place: Place, affine: &Affine) -> Vec<f32> {
    let (s_x, z) = (affine.scale, affine.zero_point);
    let inv = spec::code_multiplier(place.r, s_x);
    let t = spec::code_offset(place.noise, s_x, z);
    let rne = spec::round_small;
    match affine.twin() {
        None => {
            let max = affine.max_code() as f32;
            let decode = |x: &f32| s_x * (rne((x * inv + t).clamp(0.0, max)) - t);
            x.iter().map(decode).collect()
        }
        Some(twin) => {
            let width = (1u32 << twin.shift) as f32;
            let most = f32::from(twin.max_coarse());
            let decode = |x: &f32| {
                let v = x * inv + t;
                let coarse = rne(((v - z) / width).clamp(0.0, most));
                s_x * (rne(v.clamp(0.0, z)) + width * coarse - t)
            };
            x.iter().map(decode).collect()
        }
    }
}

fn squared_norms(rows: &[f32], n: usize) -> Vec<f32> {
    let rows = rows.par_chunks_exact(n).with_min_len(TOGETHER);
    rows.map(|row| dot(row, row)).collect()
}

/// Errors up to a constant factor, of rows with these squared norms; `cosine` is stood for by `mse`.
fn errors(norms: &[f32], inverse: &[f32]) -> Errors {
    let lanes = eight_lanes(norms, inverse, |lane: &mut (f32, f32), norm, inverse| {
        *lane = (lane.0 + norm, lane.1.max(norm * inverse));
    });
    let mse = f64::from(lanes.iter().map(|lane| lane.0).sum::<f32>());
    let worst = lanes.iter().fold(0f32, |most, lane| most.max(lane.1));
    Errors {
        mse,
        worst_token: f64::from(worst).sqrt(),
        cosine: mse,
    }
}
