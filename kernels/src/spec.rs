//! The numerics contract: what every kernel on every CPU computes, bit for bit.
//!
//! This is the definition, written to be read, and not a fallback. The equation numbers are those
//! of `docs/math.md`. All rounding is to nearest, ties to even, and every multiply-add marked *fma*
//! is fused. The contract assumes the default floating-point environment (no flush-to-zero).

pub(crate) mod activation;
#[cfg(not(feature = "std"))]
#[path = "spec/math_libm.rs"]
mod math;
#[cfg(feature = "std")]
#[path = "spec/math_std.rs"]
mod math;
pub(crate) mod norm;

use math::{fma, rne, rne_f64};

pub use activation::Activation;
pub use norm::{NORM_LANES, NormKind, normalize};

/// Largest `K`: with 8-bit operands, `65 536 · 255 · 127 < 2^31`, so no accumulator can overflow
/// (eq. 5). Nor does one with weights of −128, `65 536 · 255 · 128 = 2^31 − 2^23`.
pub const MAX_K: usize = 65_536;

/// Fewest bits of a quantized operand.
pub const MIN_BITS: u32 = 2;

/// Most bits of a quantized operand.
pub const MAX_BITS: u32 = 8;

/// Refuses bits that no operand has: shifts by them would overflow.
const fn check_bits(bits: u32) {
    let known = MIN_BITS <= bits && bits <= MAX_BITS;
    assert!(known, "bits of a quantized operand: expected 2..=8");
}

/// Largest activation code of `bits` bits, `2^bits − 1` (eq. 3).
///
/// # Panics
///
/// If `bits` is not within [`MIN_BITS`] to [`MAX_BITS`].
pub const fn max_code(bits: u32) -> u8 {
    check_bits(bits);
    (((1u32 << bits) - 1) & 0xff) as u8
}

/// Largest weight code of `bits` bits, `2^(bits−1) − 1` (eq. 1). The least is its negative.
///
/// # Panics
///
/// As [`max_code`].
pub const fn max_weight(bits: u32) -> i8 {
    check_bits(bits);
    (((1u32 << (bits - 1)) - 1) & 0x7f) as i8
}

/// `v` rounded to the nearest integer, ties to even, by two additions that a compiler can vectorise:
/// `(v + 1.5 · 2^23) − 1.5 · 2^23`. The first sum is at least 2^23, where f32 has integers alone.
///
/// The same as `round_ties_even` while `|v| ≤ 2^22`, but for the sign of zero, which is always `+`.
/// Larger numbers and NaN give no integer to rely on.
#[inline]
pub const fn round_small(v: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    (v + SHIFT) - SHIFT
}

/// Weight code (eq. 1): `clamp(rne(w / scale), −q, q)` with `q =` [`max_weight`]`(bits)`.
///
/// `w` is finite and `scale` positive.
///
/// # Panics
///
/// As [`max_code`].
pub fn weight_code(w: f32, scale: f32, bits: u32) -> i8 {
    let q = f32::from(max_weight(bits));
    rne(w / scale).clamp(-q, q) as i8
}

/// The multiplier of one input channel (eq. 2a): `inv = r / s_x` in f64, rounded once.
#[inline]
pub fn code_multiplier(channel_scale: f32, activation_scale: f32) -> f32 {
    (f64::from(channel_scale) / f64::from(activation_scale)) as f32
}

/// The offset of one input channel (eq. 2b): `t = N / s_x + z` in f64, rounded once.
pub fn code_offset(noise: f32, activation_scale: f32, zero_point: f32) -> f32 {
    (f64::from(noise) / f64::from(activation_scale) + f64::from(zero_point)) as f32
}

/// Activation code (eq. 3): `clamp(rne(fma(x, inv, t)), 0, max)`; NaN gives 0, `±∞` saturate.
pub fn code(x: f32, inv: f32, t: f32, max: u8) -> u8 {
    let v = fma(x, inv, t);
    if v > 0.0 {
        rne(v.min(f32::from(max))) as u8
    } else {
        0 // also NaN: every comparison with it is false
    }
}

/// A fine and a coarse code in one byte, `fine + coarse · 2^shift` (eq. 24). Wraps, as stored codes do: the
/// fine one may have an offset taken off.
///
/// `shift` is below 8.
#[inline]
pub const fn merged_code(fine: u8, coarse: u8, shift: u32) -> u8 {
    fine.wrapping_add(coarse << shift)
}

/// The larger of `most` and the magnitude of `x`; NaN is left out (eq. 30).
#[inline]
pub fn raise(most: f32, x: f32) -> f32 {
    let magnitude = x.abs();
    // Not `max`, which is more than one instruction; false for NaN.
    if magnitude > most { magnitude } else { most }
}

/// Step of an operand that is quantized at run time (eq. 30): `largest / levels`, with `largest` its
/// largest magnitude; never so small or large that a multiplier or step is not finite.
#[inline]
pub fn dynamic_step(largest: f32, levels: u8) -> f32 {
    (largest.min(f32::MAX) / f32::from(levels)).max(f32::MIN_POSITIVE)
}

/// Scale of an output channel of a product of two such operands (eq. 33):
/// `left_step · factor · right_step` in f32, from left to right, kept finite.
#[inline]
pub fn dynamic_scale(left_step: f32, right_step: f32, factor: f32) -> f32 {
    (left_step * factor * right_step).clamp(f32::MIN, f32::MAX)
}

/// The two ordinary codes that make up a twin uniform code (eq. 24), and how they combine.
///
/// Of the `2^bits` levels, half stand at `−2^(bits−1)·Δ₁, ..., −Δ₁, 0` and half at
/// `0, Δ₂, ..., (2^(bits−1) − 1)·Δ₂` with `Δ₂ = 2^shift·Δ₁`. The level in units of `Δ₁`, offset by the
/// zero point `2^(bits−1)`, is `fine + coarse · 2^shift`: the fine code covers what is negative and
/// saturates above, the coarse code covers what is positive and saturates below.
///
/// # Panics
///
/// Each method does, if it depends on `bits` and these are not within [`MIN_BITS`] to [`MAX_BITS`], or on
/// `shift` and that is more than [`Twin::MAX_SHIFT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Twin {
    /// Bits of the twin code.
    pub bits: u32,
    /// `log2(Δ₂ / Δ₁)`, at most [`Twin::MAX_SHIFT`].
    pub shift: u32,
}

impl Twin {
    /// Largest shift: more would leave nothing of an i32 for the sum.
    pub const MAX_SHIFT: u32 = 12;

    /// Largest fine code, and the zero point: `2^(bits−1)`.
    pub const fn max_fine(self) -> u8 {
        check_bits(self.bits);
        1 << (self.bits - 1)
    }

    /// Largest coarse code, `2^(bits−1) − 1`.
    pub const fn max_coarse(self) -> u8 {
        self.max_fine() - 1
    }

    /// Largest combined code.
    pub const fn max_code(self) -> u32 {
        self.max_fine() as u32 + self.max_coarse() as u32 * self.steps()
    }

    /// Steps `Δ₁` of a step `Δ₂`.
    const fn steps(self) -> u32 {
        assert!(
            self.shift <= Twin::MAX_SHIFT,
            "shift of a twin code: expected 0..=12"
        );
        1 << self.shift
    }

    /// Multiplier of the coarse code for the fine code's: `inv · 2^−shift`.
    pub fn coarse_multiplier(self, inv: f32) -> f32 {
        (f64::from(inv) / f64::from(self.steps())) as f32
    }

    /// Offset of the coarse code for the fine code's: `(t − 2^(bits−1)) · 2^−shift` in f64, rounded
    /// once: the noise without the zero point.
    pub fn coarse_offset(self, t: f32) -> f32 {
        ((f64::from(t) - f64::from(self.max_fine())) / f64::from(self.steps())) as f32
    }

    /// The combined code of one value (eq. 24): where [`max_code`](Self::max_code) fits a byte, the
    /// [merged](merged_code) one.
    pub fn code(self, x: f32, inv: f32, t: f32) -> u32 {
        let fine = code(x, inv, t, self.max_fine());
        let (inv, t) = (self.coarse_multiplier(inv), self.coarse_offset(t));
        let coarse = code(x, inv, t, self.max_coarse());
        u32::from(fine) + u32::from(coarse) * self.steps()
    }
}

/// Exact accumulator of one output (eq. 4): `Σ_k u[k] · wq[k]` in i32.
///
/// # Panics
///
/// If the operands differ in length or are longer than [`MAX_K`].
pub fn accumulate(codes: &[u8], weights: &[i8]) -> i32 {
    assert_eq!(codes.len(), weights.len());
    assert!(codes.len() <= MAX_K);
    let product = |(&u, &w): (&u8, &i8)| i32::from(u) * i32::from(w);
    codes.iter().zip(weights).map(product).sum()
}

/// The part of an output channel that is known before any input is seen (eq. 6).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Correction {
    /// `comp = −rne(Σ_k wq[k] · t[k])`, added to the accumulator.
    pub integer: i32,
    /// `−Σ_k wq[k] · t[k] − comp`, in units of the accumulator, for [`corrected_bias`].
    pub remainder: f64,
}

/// What noise and zero point add to the accumulators of some output channels (eq. 6): `Σ_k wq[k] · t[k]` of
/// each, computed from the *rounded* offsets so that they cancel exactly. Each sum runs in f64 in the order
/// of `k`; several run side by side only because one alone waits for its own additions.
///
/// # Panics
///
/// If the operands differ in length.
pub fn offset_sums<const N: usize>(weights: [&[i8]; N], offsets: &[f32]) -> [f64; N] {
    assert!(weights.iter().all(|w| w.len() == offsets.len()));
    let weights = weights.map(|w| &w[..offsets.len()]); // of a length that the compiler knows
    let mut sums = [-0.0; N]; // as `Iterator::sum` begins
    for (k, t) in offsets.iter().enumerate() {
        for (sum, weights) in sums.iter_mut().zip(weights) {
            *sum += f64::from(weights[k]) * f64::from(*t);
        }
    }
    sums
}

/// Correction of one output channel for zero point and noise (eq. 6), whose [sum](offset_sums) is
/// `offset_sum`.
///
/// Returns `None` if `acc + comp` could leave i32 for some codes up to `max_code` (eq. 7).
///
/// # Panics
///
/// If there are more than [`MAX_K`] weights.
pub fn correction(weights: &[i8], offset_sum: f64, max_code: u32) -> Option<Correction> {
    assert!(weights.len() <= MAX_K);
    let sum = offset_sum;
    let integer = rne_f64(-sum);
    let (low, high) = accumulator_range(weights, max_code);
    let fits = |v: i64| {
        let total = integer + v as f64; // exact: both are integers far below 2^53, or it fails
        (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&total)
    };
    (fits(0) && fits(low) && fits(high)).then(|| Correction {
        integer: integer as i32,
        remainder: -sum - integer,
    })
}

/// Least and largest accumulator of a channel over all codes `0..=max_code` (eq. 7).
fn accumulator_range(weights: &[i8], max_code: u32) -> (i64, i64) {
    // At most `MAX_K` weights of magnitudes up to 128: far from the ends of i32.
    let (mut negative, mut positive) = (0i32, 0i32);
    for &w in weights {
        negative += i32::from(w.min(0));
        positive += i32::from(w.max(0));
    }
    (
        i64::from(negative) * i64::from(max_code),
        i64::from(positive) * i64::from(max_code),
    )
}

/// Scale of one output channel (eq. 8a): `s_x · s_w`, rounded once.
pub fn output_scale(activation_scale: f32, weight_scale: f32) -> f32 {
    activation_scale * weight_scale
}

/// Bias of one output channel with the rest of the correction (eq. 8b):
/// `B + s_x · s_w · remainder` in f64, rounded once.
pub fn corrected_bias(bias: f32, output_scale: f32, remainder: f64) -> f32 {
    (f64::from(bias) + f64::from(output_scale) * remainder) as f32
}

/// One output (eq. 9): `fma((acc + comp) as f32, scale, bias)`.
pub fn output(acc: i32, comp: i32, scale: f32, bias: f32) -> f32 {
    fma(acc.wrapping_add(comp) as f32, scale, bias)
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn codes_saturate_and_nan_is_zero() {
        assert_eq!(code(f32::NAN, 1.0, 128.0, 255), 0);
        assert_eq!(code(f32::INFINITY, 1.0, 128.0, 255), 255);
        assert_eq!(code(f32::NEG_INFINITY, 1.0, 128.0, 255), 0);
        assert_eq!(code(0.5, 1.0, 0.0, 63), 0, "ties go to even");
        assert_eq!(code(1.5, 1.0, 0.0, 63), 2, "ties go to even");
        assert_eq!(code(62.5, 1.0, 0.0, 63), 62);
        assert_eq!(code(63.4, 1.0, 0.0, 63), 63);
    }

    #[test]
    fn small_numbers_round_as_the_definition_says() {
        let end = (1u32 << 22) as f32;
        let halves = (-4100..4100).map(|i| i as f32 * 0.5);
        let near_the_end = (0..4000).map(|i| f32::from_bits(end.to_bits() - i));
        let everywhere = (0..=end.to_bits()).step_by(9973).map(f32::from_bits);
        for v in halves.chain(near_the_end).chain(everywhere) {
            for v in [v, -v] {
                let rounded = round_small(v);
                assert_eq!(rounded, v.round_ties_even(), "{v:e}");
                assert!(rounded != 0.0 || rounded.is_sign_positive(), "{v:e}");
            }
        }
    }

    #[test]
    fn weight_codes_are_symmetric() {
        assert_eq!(weight_code(-1e9, 1.0, 8), -127);
        assert_eq!(weight_code(1e9, 1.0, 6), 31);
        assert_eq!(weight_code(2.5, 1.0, 8), 2);
        assert_eq!(max_weight(2), 1);
        assert_eq!(max_code(2), 3);
    }

    #[test]
    fn bits_and_shifts_that_no_operand_has_are_refused() {
        let refused = |call: &dyn Fn() -> f64| catch_unwind(AssertUnwindSafe(call)).is_err();
        for bits in [0, 1, 9, 31, 32, 33, 34, 40, 64, u32::MAX] {
            assert!(refused(&|| max_code(bits).into()), "{bits}");
            assert!(refused(&|| max_weight(bits).into()), "{bits}");
            assert!(refused(&|| weight_code(1.0, 1.0, bits).into()), "{bits}");
            let twin = Twin { bits, shift: 3 };
            assert!(refused(&|| twin.max_fine().into()), "{bits}");
            assert!(refused(&|| twin.max_coarse().into()), "{bits}");
            assert!(refused(&|| twin.max_code().into()), "{bits}");
            assert!(refused(&|| twin.coarse_offset(1.0).into()), "{bits}");
            assert!(refused(&|| twin.code(1.0, 1.0, 1.0).into()), "{bits}");
        }
        for shift in [13, 31, 32, 33, u32::MAX] {
            let twin = Twin { bits: 8, shift };
            assert!(refused(&|| twin.max_code().into()), "{shift}");
            assert!(refused(&|| twin.coarse_multiplier(1.0).into()), "{shift}");
            assert!(refused(&|| twin.coarse_offset(1.0).into()), "{shift}");
            assert!(refused(&|| twin.code(1.0, 1.0, 1.0).into()), "{shift}");
        }
        for bits in MIN_BITS..=MAX_BITS {
            let twin = Twin {
                bits,
                shift: Twin::MAX_SHIFT,
            };
            assert_eq!(u32::from(max_code(bits)), (1 << bits) - 1);
            assert_eq!(
                twin.max_code(),
                (1 << (bits - 1)) + (((1 << (bits - 1)) - 1) << 12)
            );
        }
    }

    #[test]
    fn twin_codes_decode_to_the_nearest_level_of_their_side() {
        for (bits, shift) in [(6, 0), (6, 2), (6, 5), (8, 3), (2, 1), (4, 12)] {
            let twin = Twin { bits, shift };
            let (step, z) = (0.25f32, f32::from(twin.max_fine()));
            for i in -2000..2000 {
                let x = i as f32 * 0.031;
                let level = (twin.code(x, 1.0 / step, z) as f32 - z) * step;
                let width = if x < 0.0 {
                    step
                } else {
                    step * (1u32 << shift) as f32
                };
                let (low, high) = (-z * step, f32::from(twin.max_coarse()) * width);
                let nearest = if x < 0.0 || high > x {
                    (x / width).round_ties_even() * width
                } else {
                    high
                };
                assert_eq!(level, nearest.max(low), "{twin:?} {x}");
            }
            assert_eq!(twin.code(f32::INFINITY, 4.0, z), twin.max_code());
            assert_eq!(twin.code(f32::NEG_INFINITY, 4.0, z), 0);
            assert_eq!(twin.code(f32::NAN, 4.0, z), 0);
        }
    }

    #[test]
    fn merged_codes_are_combined_ones_that_fit_a_byte() {
        for (bits, shift) in [(8, 0), (7, 1), (6, 2), (5, 3), (4, 5), (3, 6), (2, 7)] {
            let twin = Twin { bits, shift };
            assert!(twin.max_code() <= u8::MAX.into(), "{twin:?}");
            let (inv, t) = (3.7, f32::from(twin.max_fine()) + 0.3);
            let (coarse_inv, coarse_t) = (twin.coarse_multiplier(inv), twin.coarse_offset(t));
            for i in -3000..3000 {
                let x = i as f32 * 0.031;
                let fine = code(x, inv, t, twin.max_fine());
                let coarse = code(x, coarse_inv, coarse_t, twin.max_coarse());
                let merged = merged_code(fine, coarse, shift);
                assert_eq!(u32::from(merged), twin.code(x, inv, t), "{twin:?} {x}");
                // With an offset taken off before or after.
                let stored = merged_code(fine.wrapping_sub(128), coarse, shift);
                assert_eq!(stored, merged.wrapping_sub(128), "{twin:?} {x}");
            }
        }
    }

    #[test]
    fn the_largest_k_fits_i32() {
        let acc = accumulate(&vec![255; MAX_K], &vec![127; MAX_K]);
        assert_eq!(acc, 255 * 127 * 65_536);
        let acc = accumulate(&vec![255; MAX_K], &vec![-128; MAX_K]);
        assert_eq!(acc, -255 * 128 * 65_536);
    }

    #[test]
    fn sums_side_by_side_are_those_of_one_alone() {
        let weights: Vec<i8> = (0..300).map(|i| (i * 37 % 251) as u8 as i8).collect();
        let offsets: Vec<f32> = (0..100).map(|i| 127.3 + (i as f32).sin()).collect();
        let rows: Vec<&[i8]> = weights.chunks(100).collect();
        let sums = offset_sums([rows[0], rows[1], rows[2]], &offsets);
        for (row, sum) in rows.iter().zip(sums) {
            let terms = row.iter().zip(&offsets);
            let alone: f64 = terms.map(|(w, t)| f64::from(*w) * f64::from(*t)).sum();
            assert_eq!(offset_sums([*row], &offsets), [alone]);
            assert_eq!(sum, alone);
        }
    }

    #[test]
    fn corrections_that_could_overflow_are_refused() {
        let weights = vec![127i8; 60_000];
        let of = |weights: &[i8], offset: f32| {
            let [sum] = offset_sums([weights], &vec![offset; weights.len()]);
            correction(weights, sum, 255)
        };
        assert!(of(&weights, 128.0).is_some());
        assert!(of(&weights, -128.0).is_none());
        assert!(of(&[1], f32::NAN).is_none());
        assert!(of(&[1], f32::INFINITY).is_none());
    }
}
