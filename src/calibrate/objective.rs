//! How far a quantized layer is from the float layer, and what a search makes of it.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::matrix::eight_lanes;
use crate::check;
use crate::error::Error;
use crate::run::pool;

/// Errors of a layer's outputs against the float layer's, over a set of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Errors {
    /// Mean squared error per output.
    pub mse: f64,
    /// Largest `‖error‖ / ‖output‖` of a row.
    pub worst_token: f64,
    /// `1 −` cosine similarity of all outputs as one vector.
    pub cosine: f64,
}

/// What a search minimises, given the errors of a candidate and of the plain layer that it started
/// from (eq. 20).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Objective {
    /// Mean squared output error.
    OutputMse,
    /// One minus the cosine similarity of the outputs, as EasyQuant.
    Cosine,
    /// The worst token's relative error.
    WorstToken,
    /// Mean squared output error times `max(1, worst / worst of the start)^8`: a few tokens carry
    /// activations that the rest of a network depends on, and what gains on the mean at their cost
    /// is no gain.
    #[default]
    Combined,
}

/// Error norms of one row.
#[derive(Clone, Copy, Default)]
struct Row {
    error: f64,
    output: f64,
    dot: f64,
    got: f64,
}

impl Errors {
    /// Errors of `got` against `target`, both `[rows, n]`. Zero rows give zero errors; one output that is not
    /// finite makes all three NaN.
    ///
    /// # Panics
    ///
    /// If the lengths differ or are no multiple of `n`.
    pub fn measure(got: &[f32], target: &[f32], n: usize) -> Errors {
        assert_eq!(got.len(), target.len(), "outputs");
        assert!(n > 0 && got.len().is_multiple_of(n), "whole rows");
        pool::ensure();
        let pairs = got.par_chunks_exact(n).zip(target.par_chunks_exact(n));
        // Collected in order and summed by one thread: independent of how many there are.
        let rows: Vec<Row> = pairs.map(|(got, target)| row(got, target)).collect();
        let mut total = Row::default();
        for row in &rows {
            total.error += row.error;
            total.output += row.output;
            total.dot += row.dot;
            total.got += row.got;
        }
        // Below, a maximum would hide NaN.
        if !total.error.is_finite() {
            return Errors {
                mse: f64::NAN,
                worst_token: f64::NAN,
                cosine: f64::NAN,
            };
        }
        // A row of (almost) zeros would make any error infinite.
        let floor = 1e-6 * total.output / rows.len().max(1) as f64 + f64::MIN_POSITIVE;
        let relative = rows
            .iter()
            .map(|row| (row.error / row.output.max(floor)).min(f64::MAX));
        let norms = (total.output * total.got).sqrt();
        Errors {
            mse: total.error / got.len().max(1) as f64,
            worst_token: relative.fold(0.0, f64::max).sqrt(),
            cosine: if norms > 0.0 {
                1.0 - total.dot / norms
            } else {
                0.0
            },
        }
    }

    /// As [`measure`](Self::measure), of outputs that must be finite.
    ///
    /// # Errors
    ///
    /// [`Error::Value`] for the first output that is not: sums of huge weights and inputs overflow.
    ///
    /// # Panics
    ///
    /// As [`measure`](Self::measure).
    pub fn try_measure(got: &[f32], target: &[f32], n: usize) -> Result<Errors, Error> {
        let errors = Errors::measure(got, target, n);
        if errors.mse.is_nan() {
            check::finite("output of the float layer", target)?;
            check::finite("output of the quantized layer", got)?;
        }
        Ok(errors)
    }
}

impl Objective {
    /// The score of a candidate with `errors`, less being better; `start` is the plain layer's.
    pub fn score(self, errors: &Errors, start: &Errors) -> f64 {
        match self {
            Objective::OutputMse => errors.mse,
            Objective::Cosine => errors.cosine,
            Objective::WorstToken => errors.worst_token,
            Objective::Combined => {
                let worse = errors.worst_token / start.worst_token.max(f64::MIN_POSITIVE);
                errors.mse * worse.max(1.0).powi(8)
            }
        }
    }
}

fn row(got: &[f32], target: &[f32]) -> Row {
    let lanes = eight_lanes(got, target, |lane: &mut Row, got, target| {
        let (got, target) = (f64::from(got), f64::from(target));
        lane.error += (got - target) * (got - target);
        lane.output += target * target;
        lane.dot += got * target;
        lane.got += got * got;
    });
    Row {
        error: lanes.iter().map(|lane| lane.error).sum(),
        output: lanes.iter().map(|lane| lane.output).sum(),
        dot: lanes.iter().map(|lane| lane.dot).sum(),
        got: lanes.iter().map(|lane| lane.got).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_a_known_case() {
        let errors = Errors::measure(&[1.0, 0.0, 0.0, 2.0], &[1.0, 0.0, 0.0, 1.0], 2);
        assert_eq!((errors.mse, errors.worst_token), (0.25, 1.0));
        assert!((errors.cosine - (1.0 - 3.0 / 10f64.sqrt())).abs() < 1e-12);
        assert_eq!(Errors::measure(&[], &[], 3).mse, 0.0);
        for error in [1.0, 1e3, f32::MAX] {
            let errors = Errors::try_measure(&[error], &[0.0], 1).unwrap();
            assert!(errors.worst_token.is_finite() && errors.mse > 0.0);
        }
    }

    #[test]
    fn outputs_that_are_not_finite_are_seen_wherever_they_are() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in 0..6 {
                let good = [1.0, -2.0, 0.0, 3.0, 5.0, 0.5];
                let mut spoilt = good;
                spoilt[at] = bad;
                for (got, target) in [(spoilt, good), (good, spoilt), (spoilt, spoilt)] {
                    let Errors {
                        mse,
                        worst_token,
                        cosine,
                    } = Errors::measure(&got, &target, 2);
                    assert!(mse.is_nan() && worst_token.is_nan() && cosine.is_nan());
                    let error = Errors::try_measure(&got, &target, 2).unwrap_err();
                    let said = error.to_string();
                    assert!(
                        said.ends_with(&format!("got {bad} at index {at}")),
                        "{said}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_combined_objective_is_the_mean_until_the_worst_token_suffers() {
        let start = Errors {
            mse: 1.0,
            worst_token: 0.5,
            cosine: 0.0,
        };
        let score = |mse, worst_token| {
            let cosine = 0.0;
            let errors = Errors {
                mse,
                worst_token,
                cosine,
            };
            Objective::Combined.score(&errors, &start)
        };
        assert_eq!(score(0.3, 0.4), 0.3);
        assert!(score(0.3, 0.4) < score(1.0, 0.5));
        assert!(score(0.5, 1.0) > score(1.0, 0.5), "clipping a heavy token");
    }
}
