//! The rounding operations of the specification without std, by libm.
//!
//! Where the CPU has no fused multiply-add, libm's rounds twice if the result is subnormal. The contract
//! cannot see it: a code is 0 below one half (eq. 3), and a sum of an integer times an f32 and an f32 (eq. 9)
//! is a multiple of 2⁻¹⁴⁹, and so exact where it is subnormal.

/// `x · y + z`, rounded once.
#[inline(always)]
pub(super) fn fma(x: f32, y: f32, z: f32) -> f32 {
    libm::fmaf(x, y, z)
}

/// `v` rounded to the nearest integer, ties to even.
#[inline]
pub(super) fn rne(v: f32) -> f32 {
    libm::rintf(v)
}

/// The square root, rounded once.
#[inline(always)]
pub(super) fn sqrt(v: f32) -> f32 {
    libm::sqrtf(v)
}

/// [`rne`] of an f64.
#[inline]
pub(super) fn rne_f64(v: f64) -> f64 {
    libm::rint(v)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bits of all kinds of numbers: every exponent, halves, and what a multiplicative sequence visits.
    fn numbers() -> impl Iterator<Item = f32> + Clone {
        let exponents =
            (0..256u32).flat_map(|e| [e << 23, e << 23 | 0x40_0000, e << 23 | 0x7f_ffff]);
        let spread = (1..2000u32).map(|i| i.wrapping_mul(0x9e37_79b9));
        let bits = exponents
            .chain(spread)
            .flat_map(|bits| [bits, bits ^ 1 << 31]);
        bits.map(f32::from_bits)
            .chain((-300..300).map(|i| i as f32 * 0.5))
    }

    fn same(a: f64, b: f64) -> bool {
        a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
    }

    /// On x86 libm takes the CPU's instruction where there is one, as std does; then this says little more
    /// than that they are called right.
    #[test]
    fn gives_the_bits_of_std() {
        for x in numbers() {
            assert!(same(rne(x).into(), x.round_ties_even().into()), "{x:e}");
            assert!(same(sqrt(x).into(), x.sqrt().into()), "{x:e}");
            let x64 = f64::from(x) * 0.5;
            assert!(same(rne_f64(x64), x64.round_ties_even()), "{x64:e}");
            for y in numbers().step_by(7) {
                for z in [0.0, 1.0, -x * y, y, f32::MIN_POSITIVE, 12_582_912.5 * x] {
                    let fused = x.mul_add(y, z);
                    assert!(same(fma(x, y, z).into(), fused.into()), "{x:e} {y:e} {z:e}");
                }
            }
        }
    }
}
