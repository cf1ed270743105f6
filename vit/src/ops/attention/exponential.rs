//! Powers of two by a polynomial, for softmax.

use pulp::Simd;

/// `2^x` for `x ≤ 0`, relative error below 2e-7; 0 below −126.5, and NaN stays NaN.
#[inline(always)]
pub(super) fn exp2<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let (r, power) = split_exponent(simd, x);
    simd.mul_f32s(polynomial(simd, EXP2, r), power)
}

/// For `x ≤ 0`: `r` and `2^k` with `x = k + r`, an integer `k` and `|r| ≤ ½`. Below −126.5 the power is 0.
#[inline(always)]
pub(super) fn split_exponent<S: Simd>(simd: S, x: S::f32s) -> (S::f32s, S::f32s) {
    let round = simd.splat_f32s(ROUND);
    // The power of two of −127 has the bits of zero. Not `max`, which keeps NaN on some CPUs only.
    let least = simd.splat_f32s(-127.0);
    let x = simd.select_f32s(simd.less_than_f32s(x, least), least, x);
    let shifted = simd.add_f32s(x, round);
    let r = simd.sub_f32s(x, simd.sub_f32s(shifted, round));
    let exponent = simd.add_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(127));
    let power = simd.wrapping_dyn_shl_u32s(exponent, simd.splat_u32s(23));
    (r, simd.transmute_f32s_u32s(power))
}

/// `2^r` for `|r| ≤ ½`, of least relative error: coefficients, that of the highest power first.
#[expect(clippy::approx_constant, reason = "fitted, and not ln 2")]
pub(super) const EXP2: [f32; 6] = [
    1.326_472_6e-3,
    9.671_512e-3,
    5.550_733_6e-2,
    2.402_224_2e-1,
    6.931_47e-1,
    1.0,
];

/// Adding 1.5 · 2²³ rounds to an integer and leaves it in the low bits.
pub(super) const ROUND: f32 = 12_582_912.0;

/// Of these coefficients, that of the highest power first.
#[inline(always)]
pub(super) fn polynomial<S: Simd, const N: usize>(
    simd: S,
    coefficients: [f32; N],
    x: S::f32s,
) -> S::f32s {
    let mut sum = simd.splat_f32s(coefficients[0]);
    // A loop, as a closure may be left a call, which is compiled for no instruction set.
    for coefficient in &coefficients[1..] {
        sum = simd.mul_add_f32s(sum, x, simd.splat_f32s(*coefficient));
    }
    sum
}
