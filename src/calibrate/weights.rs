//! Quantized weights: how their scales are found, and their codes.

use std::sync::Arc;

use noisyquant_kernels::spec;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::matrix::eight_lanes;
use crate::layer::numbers::Numbers;

/// How weights become codes: the scale of each output channel, and how codes are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WeightQuantizer {
    /// How the scale of each output channel is found.
    pub range: WeightRange,
    /// If given, rounding errors are compensated by later weights (eq. 26, GPTQ) with this damping
    /// of the inputs' second moments, relative to their diagonal; around 0.01 to 0.1.
    pub compensation: Option<f32>,
}

/// How the scale of the weights of an output channel is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum WeightRange {
    /// The largest magnitude.
    #[default]
    MinMax,
    /// The fraction `1, 0.98, ..., 0.4` of it with the least squared error of the weights, each
    /// weighed by the second moment of its input (eq. 25); without calibration rows, all alike.
    Mse,
    /// The fraction `1, 0.96, ..., 0.4` of it with the best cosine similarity of the channel's output
    /// on the calibration rows, alternating with the activations (eq. 23).
    Searched,
}

impl Default for WeightQuantizer {
    /// Min-max, without compensation.
    fn default() -> Self {
        WeightQuantizer::MIN_MAX
    }
}

impl WeightQuantizer {
    /// Min-max, without compensation.
    pub const MIN_MAX: WeightQuantizer = WeightQuantizer {
        range: WeightRange::MinMax,
        compensation: None,
    };
    /// Clipped by squared error, without compensation.
    pub const MSE: WeightQuantizer = WeightQuantizer {
        range: WeightRange::Mse,
        compensation: None,
    };
    /// Searched by the outputs' cosine similarity.
    pub const SEARCHED: WeightQuantizer = WeightQuantizer {
        range: WeightRange::Searched,
        compensation: None,
    };
    /// Clipped by squared error, rounding errors compensated with damping 0.02.
    pub const COMPENSATED: WeightQuantizer = WeightQuantizer {
        range: WeightRange::Mse,
        compensation: Some(0.02),
    };

    pub(crate) fn needs_rows(&self) -> bool {
        self.range == WeightRange::Searched || self.compensation.is_some()
    }
}

/// Weight codes of a layer, row-major `[n, k]`, with a scale per output channel (eq. 1).
#[derive(Clone, Debug)]
pub(crate) struct WeightCodes {
    pub(crate) codes: Arc<[i8]>,
    pub(crate) scales: Arc<[f32]>,
}

/// Scales (eq. 1) of `weight`, row-major `[n, k]` and finite: of each channel's largest magnitude.
pub(crate) fn min_max_scales(weight: &[f32], k: usize, bits: u32) -> Vec<f32> {
    let q = f32::from(spec::max_weight(bits));
    let scale = |row: &[f32]| {
        let largest = row.iter().fold(0f32, |m, w| m.max(w.abs()));
        if largest == 0.0 {
            1.0
        } else {
            (largest / q).max(f32::MIN_POSITIVE)
        }
    };
    weight.par_chunks_exact(k).map(scale).collect()
}

/// Scales clipped by squared error, weighed by `importance[k]` (eq. 25).
pub(crate) fn clipped_scales(weight: &[f32], importance: &[f32], bits: u32) -> Vec<f32> {
    let k = importance.len();
    let q = f32::from(spec::max_weight(bits));
    let rows = weight.par_chunks_exact(k);
    let clip = |(row, widest): (&[f32], f32)| {
        let error = |scale: f32| -> f32 {
            let inv = 1.0 / scale;
            let lanes = eight_lanes(row, importance, |lane: &mut f32, w, importance| {
                let d = w - spec::round_small((w * inv).clamp(-q, q)) * scale;
                *lane += d * d * importance;
            });
            lanes.iter().sum()
        };
        let fractions = (0..=30).map(|i| 1.0 - 0.02 * i as f32);
        let scales = fractions.map(|f| (widest * f).max(f32::MIN_POSITIVE));
        let scored = scales.map(|scale| (error(scale), scale));
        // The first of equals: the widest.
        let best = scored.min_by(|a, b| a.0.total_cmp(&b.0));
        best.map_or(widest, |(_, scale)| scale)
    };
    let widest = min_max_scales(weight, k, bits);
    rows.zip(widest).map(clip).collect()
}

impl WeightCodes {
    /// Rounds each weight to the nearest code (eq. 1).
    pub(crate) fn round(weight: &[f32], scales: Vec<f32>, k: usize, bits: u32) -> WeightCodes {
        let mut codes = vec![0i8; weight.len()];
        let rows = codes
            .par_chunks_exact_mut(k)
            .zip(weight.par_chunks_exact(k));
        rows.zip(&scales).for_each(|((codes, row), scale)| {
            let q = f32::from(spec::max_weight(bits));
            for (code, w) in codes.iter_mut().zip(row) {
                // `spec::weight_code`, vectorisable.
                *code = spec::round_small((w / scale).clamp(-q, q)) as i8;
            }
        });
        WeightCodes {
            codes: codes.into(),
            scales: scales.into(),
        }
    }

    /// `numbers` with these weights.
    pub(crate) fn of(self, numbers: &Numbers) -> Numbers {
        let mut numbers = numbers.clone();
        numbers.codes = self.codes;
        numbers.params.weight_scales = self.scales;
        numbers
    }
}
