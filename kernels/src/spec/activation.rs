//! What is between two layers: activations, each a fixed sequence of operations (eq. 35 to 38).

use core::f32::consts::LOG2_E;

use super::math::fma;

/// A function of each output of a layer, on its way to where it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Activation {
    /// `y` itself.
    #[default]
    Identity,
    /// `max(y, 0)`.
    Relu,
    /// `y · Φ(y)`, the exact GELU, of the error function (eq. 35).
    Gelu,
    /// GELU approximated by tanh (eq. 37).
    GeluTanh,
    /// `y · sigmoid(1.702 y)` (eq. 38).
    QuickGelu,
    /// `y · sigmoid(y)`, also called swish (eq. 36).
    Silu,
}

impl Activation {
    /// All activations.
    pub const ALL: [Activation; 6] = [
        Activation::Identity,
        Activation::Relu,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::QuickGelu,
        Activation::Silu,
    ];

    /// The activation of one number. NaN stays NaN.
    ///
    /// ```
    /// use noisyquant_kernels::spec::Activation;
    ///
    /// assert_eq!(Activation::Relu.of(-2.0), 0.0);
    /// assert!((Activation::Gelu.of(1.0) - 0.8413447).abs() < 2e-7);
    /// ```
    #[inline(always)]
    pub fn of(self, y: f32) -> f32 {
        match self {
            Activation::Identity => y,
            Activation::Relu => positive(y),
            Activation::Gelu => gelu(y),
            Activation::GeluTanh => {
                times_sigmoid(y, y * fma(y * y, TANH_CUBIC, TANH_LINEAR) * LOG2_E)
            }
            Activation::QuickGelu => times_sigmoid(y, 1.702 * y * LOG2_E),
            Activation::Silu => times_sigmoid(y, y * LOG2_E),
        }
    }
}

/// Where the second term of [`gelu`] is below 5e-10, and stays.
pub(crate) const GELU_END: f32 = 6.4;

/// The eighth root of `Φ(−a)` for `a` from 0 to [`GELU_END`]: coefficients, that of the highest power first.
pub(crate) const GELU_ROOT: [f32; 9] = [
    -3.030_334_6e-7,
    7.576_294_6e-6,
    -6.078_672_6e-5,
    3.580_540_2e-5,
    1.501_938_2e-3,
    -6.697_62e-4,
    -3.192_914e-2,
    -9.145_717e-2,
    9.170_04e-1,
];

/// `2 √(2/π)`, and that times 0.044715.
pub(crate) const TANH_LINEAR: f32 = 1.595_769;
pub(crate) const TANH_CUBIC: f32 = 0.071_354_814;

/// `2^r` for `|r| ≤ ½`, of least relative error: coefficients, that of the highest power first.
#[expect(clippy::approx_constant, reason = "fitted, and not ln 2")]
pub(crate) const EXP2: [f32; 6] = [
    1.326_472_6e-3,
    9.671_512e-3,
    5.550_733_6e-2,
    2.402_224_2e-1,
    6.931_47e-1,
    1.0,
];

/// Adding 1.5 · 2²³ rounds to an integer and leaves it in the low bits.
pub(crate) const ROUND: f32 = 12_582_912.0;

/// `y`, or 0 where that is less than 0.
#[inline(always)]
fn positive(y: f32) -> f32 {
    if y < 0.0 { 0.0 } else { y }
}

/// `max(y, 0) − a · Φ(−a)` with `a = |y|`, which is `y · Φ(y)` (eq. 35).
///
/// The eighth root of `Φ(−a)` is nearly a straight line with a bend, so that a polynomial (of least error in
/// the result) and three squarings do for the exponential and two error functions.
#[inline(always)]
fn gelu(y: f32) -> f32 {
    let size = y.abs();
    let a = if size > GELU_END { GELU_END } else { size };
    let mut root = GELU_ROOT[0];
    for coefficient in &GELU_ROOT[1..] {
        root = fma(root, a, *coefficient);
    }
    let square = root * root;
    let fourth = square * square;
    fma(-a, fourth * fourth, positive(y))
}

/// `y / (1 + 2^−z)`, of small relative error for any `z` (eq. 36).
#[inline(always)]
fn times_sigmoid(y: f32, z: f32) -> f32 {
    let power = exp2(-z.abs());
    let finite = if y < f32::MIN { f32::MIN } else { y }; // −∞ · 0 is no number
    let numerator = if z < 0.0 { finite * power } else { y };
    numerator / (1.0 + power)
}

/// `2^z` for `z ≤ 0`, relative error below 2e-7; 0 below −126.5.
#[inline(always)]
fn exp2(z: f32) -> f32 {
    // The power of two of −127 has the bits of zero.
    let z = if z < -127.0 { -127.0 } else { z };
    let shifted = z + ROUND;
    let r = z - (shifted - ROUND);
    let mut sum = EXP2[0];
    for coefficient in &EXP2[1..] {
        sum = fma(sum, r, *coefficient);
    }
    sum * f32::from_bits(shifted.to_bits().wrapping_add(127) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers from −`end` to `end`, a million on each side.
    fn numbers(end: f32) -> impl Iterator<Item = f32> {
        (-1_000_000..=1_000_000).map(move |i| i as f32 * (end * 1e-6))
    }

    #[test]
    fn gelu_against_libm() {
        for y in numbers(10.0) {
            let exact = 0.5 * f64::from(y) * libm::erfc(-f64::from(y) / 2f64.sqrt());
            let got = Activation::Gelu.of(y);
            let error = (f64::from(got) - exact).abs();
            assert!(
                error < 1.5e-7_f64.max(7e-8 * f64::from(y)),
                "{got}, not {exact}"
            );
        }
    }

    #[test]
    fn those_with_a_sigmoid_against_libm() {
        let check = |activation: Activation, argument: &dyn Fn(f64) -> f64| {
            for y in numbers(20.0) {
                let exact = f64::from(y) / (1.0 + libm::exp(-argument(y.into())));
                let got = activation.of(y);
                let error = (f64::from(got) - exact).abs();
                let most = 1e-7_f64.max(5e-7 * f64::from(y).abs());
                assert!(error < most, "{activation:?} of {y}: {got}, not {exact}");
            }
        };
        let root = (2.0 / core::f64::consts::PI).sqrt();
        check(Activation::Silu, &|x| x);
        check(Activation::QuickGelu, &|x| 1.702 * x);
        check(Activation::GeluTanh, &|x| {
            2.0 * root * (x + 0.044715 * x * x * x)
        });
    }

    #[test]
    fn ends_are_those_of_the_function() {
        for activation in Activation::ALL {
            let of = |y: f32| activation.of(y);
            assert!(of(f32::NAN).is_nan());
            assert_eq!(
                [of(0.0), of(f32::INFINITY), of(1e30)],
                [0.0, f32::INFINITY, 1e30]
            );
            let below = [of(f32::NEG_INFINITY), of(-1e30)];
            match activation {
                Activation::Identity => assert_eq!(below, [f32::NEG_INFINITY, -1e30]),
                _ => assert!(
                    below.iter().all(|y| y.abs() < 1e-9),
                    "{activation:?}: {below:?}"
                ),
            }
        }
    }
}
