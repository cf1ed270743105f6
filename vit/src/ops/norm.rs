//! LayerNorm, alone or with an addition on the way into it.

use pulp::{Simd, WithSimd};

use super::{add::add_row, vectorise::vectorised};

/// Lanes of a sum: as many as four of the widest vectors hold numbers, to hide what an addition takes.
const LANES: usize = 64;

/// Scale and shift after normalisation over the features of a token.
#[derive(Clone, Debug)]
pub(crate) struct LayerNorm {
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Vec<f32>,
    pub(crate) eps: f32,
}

impl LayerNorm {
    /// Normalise each row of `x` into `y`; a row has as many numbers as `weight`.
    pub(crate) fn apply(&self, x: &[f32], y: &mut [f32]) {
        pulp::Arch::new().dispatch(Normalise(self, x, y));
    }

    /// `x += update`, if there is one, then normalise `x` into `y`, while the row is still in the nearest
    /// cache.
    pub(crate) fn add_apply(&self, x: &mut [f32], update: Option<&[f32]>, y: &mut [f32]) {
        let Some(update) = update else {
            return self.apply(x, y);
        };
        vectorised(
            #[inline(always)]
            || {
                let width = self.weight.len();
                let rows = x.chunks_exact_mut(width).zip(y.chunks_exact_mut(width));
                for ((x, y), update) in rows.zip(update.chunks_exact(width)) {
                    add_row(x, update);
                    pulp::Arch::new().dispatch(Normalise(self, x, y));
                }
            },
        );
    }
}

/// [`LayerNorm::apply`].
struct Normalise<'a>(&'a LayerNorm, &'a [f32], &'a mut [f32]);

impl WithSimd for Normalise<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self(norm, x, y) = self;
        let width = norm.weight.len();
        for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
            let sum = sum_lanes(simd, x, |sum, x| simd.add_f32s(sum, x));
            let mean = sum / width as f32;
            let means = simd.splat_f32s(mean);
            let squares = sum_lanes(simd, x, |sum, x| {
                let distance = simd.sub_f32s(x, means);
                simd.mul_add_f32s(distance, distance, sum)
            });
            let scale = 1.0 / (squares / width as f32 + norm.eps).sqrt();
            for (((y, x), weight), bias) in y.iter_mut().zip(x).zip(&norm.weight).zip(&norm.bias) {
                *y = ((x - mean) * scale).mul_add(*weight, *bias);
            }
        }
    }
}

/// Numbers of `x` gathered by `add` in `LANES` independent sums, number `i` in sum `i % LANES`, which
/// are then added in pairs.
#[inline(always)]
fn sum_lanes<S: Simd>(simd: S, x: &[f32], add: impl Fn(S::f32s, S::f32s) -> S::f32s) -> f32 {
    let count = LANES / S::F32_LANES;
    // As many as `count` can be; the others cost nothing.
    let mut sums = [simd.splat_f32s(0.0); LANES];
    let (vectors, rest) = S::as_simd_f32s(x);
    let whole = vectors.chunks_exact(count);
    let last = whole.remainder();
    for chunk in whole {
        for at in 0..count {
            sums[at] = add(sums[at], chunk[at]);
        }
    }
    for at in 0..count {
        if at < last.len() {
            sums[at] = add(sums[at], last[at]);
        } else if at == last.len() && !rest.is_empty() {
            let added = add(sums[at], simd.partial_load_f32s(rest));
            let mut lanes = [0.0; LANES];
            S::as_mut_simd_f32s(&mut lanes).0[0] = sums[at];
            simd.partial_store_f32s(&mut lanes[..rest.len()], added);
            sums[at] = S::as_simd_f32s(&lanes).0[0];
        }
    }
    let mut half = count / 2;
    while half > 0 {
        for at in 0..half {
            sums[at] = simd.add_f32s(sums[at], sums[at + half]);
        }
        half /= 2;
    }
    let mut lanes = [0.0; LANES];
    S::as_mut_simd_f32s(&mut lanes).0[0] = sums[0];
    let mut half = S::F32_LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layer_norm_against_f64() {
        let width = 37;
        let x: Vec<f32> = (0..2 * width)
            .map(|i| ((i * i) % 23) as f32 + 100.0)
            .collect();
        let weight: Vec<f32> = (0..width).map(|i| 1.0 + i as f32 / 10.0).collect();
        let bias: Vec<f32> = (0..width).map(|i| i as f32).collect();
        let norm = LayerNorm {
            weight,
            bias,
            eps: 1e-6,
        };
        let mut y = vec![0.0; x.len()];
        norm.apply(&x, &mut y);
        for (x, y) in x.chunks(width).zip(y.chunks(width)) {
            let n = width as f64;
            let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
            let variance = x
                .iter()
                .map(|&x| (f64::from(x) - mean).powi(2))
                .sum::<f64>()
                / n;
            for (at, &y) in y.iter().enumerate() {
                let normal = (f64::from(x[at]) - mean) / (variance + 1e-6).sqrt();
                let expected = normal * f64::from(norm.weight[at]) + f64::from(norm.bias[at]);
                assert!((f64::from(y) - expected).abs() < 1e-4 * expected.abs().max(1.0));
            }
        }
    }

    #[test]
    fn adding_and_normalising_at_once_is_one_after_the_other() {
        let width = 37;
        let norm = LayerNorm {
            weight: (0..width).map(|i| 1.0 + i as f32 / 10.0).collect(),
            bias: (0..width).map(|i| i as f32).collect(),
            eps: 1e-6,
        };
        let update: Vec<f32> = (0..3 * width).map(|i| (i % 7) as f32).collect();
        let start: Vec<f32> = (0..3 * width).map(|i| (i % 11) as f32 * 0.3).collect();
        let (mut x, mut y) = (start.clone(), vec![0.0; start.len()]);
        norm.add_apply(&mut x, Some(&update), &mut y);
        let (mut added, mut normal) = (start.clone(), vec![0.0; start.len()]);
        add_row(&mut added, &update);
        norm.apply(&added, &mut normal);
        assert_eq!((&x, &y), (&added, &normal));
        for (i, x) in x.iter().enumerate() {
            assert!((x - start[i] - update[i]).abs() < 1e-5);
        }
    }
}
