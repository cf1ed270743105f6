//! The rounding operations of the specification, by std: an instruction each where the CPU has one.

/// `x · y + z`, rounded once.
#[inline(always)]
pub(super) fn fma(x: f32, y: f32, z: f32) -> f32 {
    x.mul_add(y, z)
}

/// `v` rounded to the nearest integer, ties to even.
#[inline]
pub(super) fn rne(v: f32) -> f32 {
    v.round_ties_even()
}

/// The square root, rounded once.
#[inline(always)]
pub(super) fn sqrt(v: f32) -> f32 {
    v.sqrt()
}

/// [`rne`] of an f64.
#[inline]
pub(super) fn rne_f64(v: f64) -> f64 {
    v.round_ties_even()
}
