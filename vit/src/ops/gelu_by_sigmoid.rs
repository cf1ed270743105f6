//! Approximations of GELU by a sigmoid.

use super::{
    attention::{EXP2, ROUND},
    vectorise::vectorised,
};

/// GELU approximated by tanh, in place; absolute error below 1e-7 or 5e-7 of `x`, whichever is more.
pub(crate) fn gelu_tanh(x: &mut [f32]) {
    each(x, gelu_tanh_of);
}

/// `x · sigmoid(1.702 x)`, in place; absolute error below 1e-7 or 5e-7 of `x`, whichever is more.
pub(crate) fn quick_gelu(x: &mut [f32]) {
    each(x, quick_gelu_of);
}

#[inline(always)]
fn each(x: &mut [f32], of: impl Fn(f32) -> f32) {
    vectorised(
        #[inline(always)]
        || x.iter_mut().for_each(|value| *value = of(*value)),
    );
}

/// `x / 2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))`: tanh of half a number is twice its sigmoid, less one.
#[inline(always)]
fn gelu_tanh_of(x: f32) -> f32 {
    /// `2 √(2/π)`, and that times 0.044715.
    const LINEAR: f32 = 1.595_769;
    const CUBIC: f32 = 0.071_354_814;
    times_sigmoid(x, x * (x * x).mul_add(CUBIC, LINEAR))
}

/// `x · sigmoid(1.702 x)`.
#[inline(always)]
fn quick_gelu_of(x: f32) -> f32 {
    times_sigmoid(x, 1.702 * x)
}

/// `x / (1 + exp(−z))`, of small relative error for any `z`.
#[inline(always)]
fn times_sigmoid(x: f32, z: f32) -> f32 {
    let power = exp2_of(-z.abs() * std::f32::consts::LOG2_E);
    let numerator = if z < 0.0 { x * power } else { x };
    numerator / (1.0 + power)
}

/// `2^y` for `y ≤ 0`, as attention has it for vectors; 0 below −126.5.
#[inline(always)]
fn exp2_of(y: f32) -> f32 {
    // The power of two of −127 has the bits of zero.
    let y = if y < -127.0 { -127.0 } else { y };
    let shifted = y + ROUND;
    let r = y - (shifted - ROUND);
    let mut sum = EXP2[0];
    for coefficient in &EXP2[1..] {
        sum = sum.mul_add(r, *coefficient);
    }
    sum * f32::from_bits(shifted.to_bits().wrapping_add(127) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check `activate` against `x · sigmoid(argument(x))`.
    fn check(activate: fn(&mut [f32]), argument: impl Fn(f64) -> f64) {
        let x: Vec<f32> = (-200_000..=200_000).map(|i| i as f32 * 1e-4).collect();
        let mut y = x.clone();
        activate(&mut y);
        for (x, y) in x.iter().zip(y) {
            let x = f64::from(*x);
            let exact = x / (1.0 + libm::exp(-argument(x)));
            let error = (f64::from(y) - exact).abs();
            assert!(
                error < 1e-7_f64.max(5e-7 * x.abs()),
                "{x}: {y}, not {exact}"
            );
        }
        let mut ends = [f32::NAN, f32::INFINITY, 1e30, -1e30, 0.0];
        activate(&mut ends);
        assert!(ends[0].is_nan());
        assert_eq!(ends[1..], [f32::INFINITY, 1e30, 0.0, 0.0]);
    }

    #[test]
    fn approximations_against_libm() {
        let root = (2.0 / std::f64::consts::PI).sqrt();
        check(quick_gelu, |x| 1.702 * x);
        check(gelu_tanh, |x| 2.0 * root * (x + 0.044715 * x * x * x));
    }
}
