//! Activations on vectors: the sequences of [`spec::activation`](crate::spec::activation), written once for
//! vectors of any width. [`norm`] has norms.
//!
//! All is `#[inline(always)]`, so that it takes on the instruction set of the leaf that calls it.

pub(crate) mod norm;

use core::f32::consts::LOG2_E;

use crate::spec::Activation;
use crate::spec::activation::{EXP2, GELU_END, GELU_ROOT, ROUND, TANH_CUBIC, TANH_LINEAR};

/// A vector of f32. Each operation does in every lane what its name says, rounded once.
///
/// # Safety
///
/// The CPU has the instruction set of the vector.
pub(crate) trait Lanes: Copy {
    /// Lanes of a vector.
    const COUNT: usize;

    /// The numbers from `x` on, which are readable.
    unsafe fn load(x: *const f32) -> Self;
    /// Writes the lanes from `y` on, where there is room for them.
    unsafe fn store(self, y: *mut f32);
    unsafe fn splat(value: f32) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    /// `self · factor + addend`, fused.
    unsafe fn fma(self, factor: Self, addend: Self) -> Self;
    unsafe fn abs(self) -> Self;
    unsafe fn neg(self) -> Self;
    /// `if self < least { least } else { self }`
    unsafe fn at_least(self, least: Self) -> Self;
    /// `if self > most { most } else { self }`
    unsafe fn at_most(self, most: Self) -> Self;
    /// `if self < 0 { negative } else { other }`
    unsafe fn if_negative(self, negative: Self, other: Self) -> Self;
    /// `2^k` of an integer `k` from −127, which gives 0, to 0, that is in the low bits of `self`.
    unsafe fn power_of_two(self) -> Self;
}

/// [`Activation::of`] in every lane of some vectors.
///
/// # Safety
///
/// The CPU has the instruction set of the vectors.
#[inline(always)]
pub(crate) unsafe fn activate<V: Lanes, const N: usize>(
    activation: Activation,
    y: [V; N],
) -> [V; N] {
    // SAFETY: the caller has the instruction set.
    unsafe {
        match activation {
            Activation::Identity => y,
            Activation::Relu => y.map(|y| positive(y)),
            Activation::Gelu => gelu(y),
            Activation::GeluTanh => y.map(|y| {
                let cubic = (y.mul(y)).fma(V::splat(TANH_CUBIC), V::splat(TANH_LINEAR));
                times_sigmoid(y, y.mul(cubic).mul(V::splat(LOG2_E)))
            }),
            Activation::QuickGelu => y.map(|y| {
                let z = V::splat(1.702).mul(y).mul(V::splat(LOG2_E));
                times_sigmoid(y, z)
            }),
            Activation::Silu => y.map(|y| times_sigmoid(y, y.mul(V::splat(LOG2_E)))),
        }
    }
}

/// `if y < 0 { 0 } else { y }`
#[inline(always)]
unsafe fn positive<V: Lanes>(y: V) -> V {
    // SAFETY: the caller has the instruction set.
    unsafe { y.at_least(V::splat(0.0)) }
}

/// Step by step for all vectors, as one alone waits for its own products.
#[inline(always)]
unsafe fn gelu<V: Lanes, const N: usize>(y: [V; N]) -> [V; N] {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let a = y.map(|y| y.abs().at_most(V::splat(GELU_END)));
        let mut root = [V::splat(GELU_ROOT[0]); N];
        for coefficient in &GELU_ROOT[1..] {
            for (root, a) in root.iter_mut().zip(a) {
                *root = root.fma(a, V::splat(*coefficient));
            }
        }
        let mut result = y;
        for ((y, root), a) in result.iter_mut().zip(root).zip(a) {
            let square = root.mul(root);
            let fourth = square.mul(square);
            *y = a.neg().fma(fourth.mul(fourth), positive(*y));
        }
        result
    }
}

#[inline(always)]
unsafe fn times_sigmoid<V: Lanes>(y: V, z: V) -> V {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let power = exp2(z.abs().neg());
        let finite = y.at_least(V::splat(f32::MIN));
        let numerator = z.if_negative(finite.mul(power), y);
        numerator.div(V::splat(1.0).add(power))
    }
}

#[inline(always)]
unsafe fn exp2<V: Lanes>(z: V) -> V {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let z = z.at_least(V::splat(-127.0));
        let shifted = z.add(V::splat(ROUND));
        let r = z.sub(shifted.sub(V::splat(ROUND)));
        let mut sum = V::splat(EXP2[0]);
        for coefficient in &EXP2[1..] {
            sum = sum.fma(r, V::splat(*coefficient));
        }
        sum.mul(shifted.power_of_two())
    }
}
