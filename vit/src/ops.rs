//! The f32 steps between the linear layers: LayerNorm, softmax, GELU, addition.
//!
//! Plain loops, compiled once per instruction set by `pulp` and chosen at run time. Additions keep a
//! fixed order, and multiplications and additions are fused where `mul_add` says so and nowhere
//! else, so the results have the same bits on every CPU.

/// Lanes of a sum or maximum: as many as the widest vectors hold numbers.
const LANES: usize = 16;

/// Run `step` with the widest vectors of this CPU; it must be `#[inline(always)]` to be compiled for
/// them.
#[inline(always)]
fn vectorised<R>(step: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(step)
}

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
        let width = self.weight.len();
        vectorised(
            #[inline(always)]
            || {
                for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
                    let mean = fold_lanes(x, 0.0, |sum, value| sum + value) / width as f32;
                    for (y, x) in y.iter_mut().zip(x) {
                        *y = (x - mean) * (x - mean);
                    }
                    let variance = fold_lanes(y, 0.0, |sum, value| sum + value) / width as f32;
                    let scale = 1.0 / (variance + self.eps).sqrt();
                    for (((y, x), weight), bias) in
                        y.iter_mut().zip(x).zip(&self.weight).zip(&self.bias)
                    {
                        *y = (x - mean) * scale * weight + bias;
                    }
                }
            },
        );
    }
}

/// Softmax of each row of `columns` numbers, in place.
pub(crate) fn softmax(x: &mut [f32], columns: usize) {
    vectorised(
        #[inline(always)]
        || {
            for row in x.chunks_exact_mut(columns) {
                let max = fold_lanes(row, f32::NEG_INFINITY, larger);
                for value in row {
                    *value -= max;
                }
            }
            // Over all rows at once: short rows would leave much of the work to the scalar end of a
            // vector loop.
            for value in x.iter_mut() {
                *value = exp(*value);
            }
            for row in x.chunks_exact_mut(columns) {
                let scale = 1.0 / fold_lanes(row, 0.0, |sum, value| sum + value);
                for value in row {
                    *value *= scale;
                }
            }
        },
    );
}

/// The exact GELU `x · Φ(x) = x/2 · (1 + erf(x/√2))`, in place.
pub(crate) fn gelu(x: &mut [f32]) {
    vectorised(
        #[inline(always)]
        || {
            for value in x {
                *value = 0.5 * *value * (1.0 + erf(*value * std::f32::consts::FRAC_1_SQRT_2));
            }
        },
    );
}

/// `x += y`, number by number.
pub(crate) fn add(x: &mut [f32], y: &[f32]) {
    vectorised(
        #[inline(always)]
        || {
            for (x, y) in x.iter_mut().zip(y) {
                *x += y;
            }
        },
    );
}

/// `x` reduced by `combine` in `LANES` independent lanes, which are then combined in pairs.
#[inline(always)]
fn fold_lanes(x: &[f32], start: f32, combine: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for chunk in whole {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = combine(*lane, *value);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane = combine(*lane, *value);
    }
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = combine(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// The larger of two numbers; `a` if `b` is NaN.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// `e^x` for `x ≤ 0`, relative error below 2e-7; below −87 it stays at `e^−87`, and NaN stays NaN.
///
/// `x = k·ln 2 + r` with `|r| ≤ ln 2 / 2`; `e^r` by the polynomial of Cephes' `expf`, `2^k` by its
/// exponent bits.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// Adding 1.5 · 2²³ rounds to an integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    const POLYNOMIAL: [f32; 5] = [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_6e-1,
        5.0e-1,
    ];
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let k = shifted - ROUND;
    let r = k.mul_add(-LN_2_LOW, k.mul_add(-LN_2_HIGH, x));
    let p = POLYNOMIAL
        .iter()
        .fold(1.987_569_1e-4_f32, |p, c| p.mul_add(r, *c));
    let power_of_two = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    (p.mul_add(r * r, r) + 1.0) * power_of_two
}

/// The error function, absolute error below 1e-7, by N. Juffa's two polynomials: below 0.93 one of
/// erf itself, above it one of the logarithm of `1 − erf`.
#[inline(always)]
fn erf(x: f32) -> f32 {
    const SMALL: [f32; 5] = [
        4.991_194_2e-3,
        -2.676_813_5e-2,
        1.128_199_25e-1,
        -3.761_253_4e-1,
        1.283_791_7e-1,
    ];
    const LARGE: [f32; 6] = [
        3.831_971_3e-4,
        -3.883_964_4e-3,
        2.425_462_2e-2,
        -1.067_778_8e-1,
        -6.348_467e-1,
        -1.287_175_1e-1,
    ];
    let size = x.abs();
    let square = x * x;
    let small = SMALL
        .iter()
        .fold(-5.967_617e-4_f32, |p, c| p.mul_add(square, *c));
    let large = LARGE
        .iter()
        .fold(-1.728_534_7e-5_f32, |p, c| p.mul_add(size, *c));
    let (small, large) = (
        small.mul_add(size, size),
        1.0 - exp(large.mul_add(size, -size)),
    );
    let erf = if size > 0.927_734_4 { large } else { small };
    erf.copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_is_good_to_1e_7() {
        for step in -600_000..=600_000 {
            let x = step as f32 * 1e-5;
            let error = (f64::from(erf(x)) - libm::erf(f64::from(x))).abs();
            assert!(error < 1e-7, "erf({x}) is off by {error:e}");
        }
        assert!(erf(f32::NAN).is_nan());
        assert_eq!((erf(f32::INFINITY), erf(f32::NEG_INFINITY)), (1.0, -1.0));
    }

    #[test]
    fn exp_is_good_to_2e_7() {
        for step in 0..=870_000 {
            let x = -step as f32 * 1e-4;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) / exact - 1.0).abs();
            assert!(error < 2e-7, "exp({x}) is off by a factor of 1 + {error:e}");
        }
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(f32::NEG_INFINITY) < 2e-38);
    }

    #[test]
    fn softmax_rows_add_up_to_one_and_keep_the_order() {
        let mut x: Vec<f32> = (0..3 * 50).map(|i| ((i * 37) % 50) as f32 - 60.0).collect();
        softmax(&mut x, 50);
        for (row, values) in x.chunks_exact(50).enumerate() {
            assert!((values.iter().sum::<f32>() - 1.0).abs() < 1e-6);
            let largest = (0..50)
                .max_by_key(|column| ((row * 50 + column) * 37) % 50)
                .unwrap();
            assert!(values.iter().all(|value| *value <= values[largest]));
        }
        let mut nan = [1.0, f32::NAN, 2.0];
        softmax(&mut nan, 3);
        assert!(nan.iter().all(|value| value.is_nan()));
    }

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
    fn gelu_against_libm() {
        let mut x: Vec<f32> = (-800..=800).map(|i| i as f32 / 100.0).collect();
        let exact: Vec<f64> = x
            .iter()
            .map(|&x| f64::from(x))
            .map(|x| 0.5 * x * libm::erfc(-x / 2f64.sqrt()))
            .collect();
        gelu(&mut x);
        for (got, exact) in x.iter().zip(exact) {
            assert!(
                (f64::from(*got) - exact).abs() < 1e-6,
                "{got} against {exact}"
            );
        }
    }
}
