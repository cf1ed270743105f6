//! Error compensation (eq. 26): each weight is rounded after the errors of those before it have been
//! moved into it, as far as the inputs are correlated.
//!
//! This is GPTQ (Frantar et al., ICLR 2023) in the form of Babai's nearest-plane algorithm (Chen et
//! al. 2025): with the second moments `H = RᵀR` of the inputs, `R` upper triangular, the output error
//! of a channel is `‖R (w − q)‖²`, and going backwards each term can be made small by the choice of one
//! code. No inverse is needed, and scaling the inputs by `r` only scales the columns of `R`.

use noisyquant_kernels::spec;
use rayon::prelude::*;

use super::matrix::{cholesky, dot, second_moments};
use super::weights::WeightCodes;

/// The Cholesky factor of the damped second moments of a layer's centred inputs.
#[derive(Debug)]
pub(crate) struct Factor {
    /// Rows of `R` divided by their diagonal element: `[k, k]`, upper.
    rows: Vec<f32>,
    /// The input that stands at each position; the last is rounded first.
    order: Vec<usize>,
}

impl Factor {
    /// Of `rows` `[m, k]` less their mean; `None` if there are none or they are degenerate beyond what
    /// `damping` (relative to the diagonal) mends.
    pub(crate) fn new(rows: &[f32], mean: &[f32], damping: f32) -> Option<Factor> {
        let k = mean.len();
        if rows.is_empty() {
            return None;
        }
        let moments = second_moments(rows, mean);
        let diagonal: Vec<f64> = (0..k).map(|i| moments[i * k + i]).collect();
        let average = diagonal.iter().sum::<f64>() / k as f64;
        // The largest are rounded first, while all the others can still make up for them.
        let mut order: Vec<usize> = (0..k).collect();
        order.sort_by(|a, b| diagonal[*a].total_cmp(&diagonal[*b]));
        let mut permuted = vec![0f64; k * k];
        permuted.par_chunks_mut(k).enumerate().for_each(|(i, row)| {
            for (j, v) in row[..=i].iter_mut().enumerate() {
                let (a, b) = (order[i].max(order[j]), order[i].min(order[j]));
                *v = moments[a * k + b];
            }
            row[i] += f64::from(damping) * (row[i] + 0.01 * average) + f64::MIN_POSITIVE;
        });
        let lower = cholesky(permuted, k)?;
        let mut upper = vec![0f32; k * k];
        upper.par_chunks_mut(k).enumerate().for_each(|(i, row)| {
            for j in i..k {
                row[j] = (lower[j * k + i] / lower[i * k + i]) as f32;
            }
        });
        let rows = upper;
        Some(Factor { rows, order })
    }

    /// Codes of `weight[n, k] / channel_scale[k]` with the given scales. Computed per output channel.
    pub(crate) fn round(
        &self,
        weight: &[f32],
        channel_scale: &[f32],
        scales: Vec<f32>,
        bits: u32,
    ) -> WeightCodes {
        let k = channel_scale.len();
        let mut codes = vec![0i8; weight.len()];
        let channels = codes
            .par_chunks_mut(k)
            .zip(weight.par_chunks(k))
            .zip(&scales);
        channels.for_each_init(
            || vec![0f32; k],
            |errors, ((codes, weight), scale)| {
                for position in (0..k).rev() {
                    let input = self.order[position];
                    let row = &self.rows[position * k..][..k];
                    let moved = dot(&row[position + 1..], &errors[position + 1..]);
                    let r = channel_scale[input];
                    let code = spec::weight_code((weight[input] + moved) / r, *scale, bits);
                    codes[input] = code;
                    errors[position] = weight[input] - f32::from(code) * scale * r;
                }
            },
        );
        WeightCodes {
            codes: codes.into(),
            scales: scales.into(),
        }
    }
}
