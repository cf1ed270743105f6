//! What is before a layer: the norm of a row (eq. 40).

use super::math::{fma, sqrt};

/// Sums that a row is gathered in.
pub const NORM_LANES: usize = 64;

/// How a row is normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NormKind {
    /// LayerNorm: about the mean of the row.
    Layer,
    /// RMSNorm: about zero.
    Rms,
}

/// The norm of the row `x` into `y` (eq. 40): `(x − mean) / √(mean square of (x − mean) + eps)`, times
/// `weight`, plus `bias`.
///
/// # Panics
///
/// If `y`, `weight` or `bias` is shorter than `x`.
///
/// ```
/// use noisyquant_kernels::spec::{self, NormKind};
///
/// let mut y = [0.0; 2];
/// spec::normalize(NormKind::Layer, &[3.0, 5.0], &[1.0, 2.0], &[0.0, 10.0], 0.0, &mut y);
/// assert_eq!(y, [-1.0, 12.0]);
/// spec::normalize(NormKind::Rms, &[3.0, 3.0], &[1.0, 2.0], &[0.0, 10.0], 0.0, &mut y);
/// assert_eq!(y, [1.0, 12.0]);
/// ```
pub fn normalize(kind: NormKind, x: &[f32], weight: &[f32], bias: &[f32], eps: f32, y: &mut [f32]) {
    let width = x.len() as f32;
    let mean = match kind {
        NormKind::Layer => lane_sum(x, |sum, x| sum + x) / width,
        NormKind::Rms => 0.0,
    };
    let scale = scale(lane_sum(x, |sum, x| add_square(sum, x, mean)), width, eps);
    for (i, &x) in x.iter().enumerate() {
        y[i] = fma((x - mean) * scale, weight[i], bias[i]);
    }
}

/// `sum` and the square of a distance from the mean.
#[inline(always)]
pub(crate) fn add_square(sum: f32, x: f32, mean: f32) -> f32 {
    fma(x - mean, x - mean, sum)
}

/// What distances from the mean are multiplied with, by the sum of their squares.
#[inline(always)]
pub(crate) fn scale(squares: f32, width: f32, eps: f32) -> f32 {
    1.0 / sqrt(squares / width + eps)
}

/// Numbers gathered by `add` in [`NORM_LANES`] sums, number `i` in sum `i % NORM_LANES`, of which the second
/// half is then added to the first until one is left.
fn lane_sum(x: &[f32], add: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0.0; NORM_LANES];
    for chunk in x.chunks(NORM_LANES) {
        for (sum, &x) in sums.iter_mut().zip(chunk) {
            *sum = add(*sum, x);
        }
    }
    let mut half = NORM_LANES / 2;
    while half > 0 {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
        half /= 2;
    }
    sums[0]
}
