//! What is between the layers of an MLP, where these do not do it themselves.

use noisyquant::Activation;

use super::vectorise::vectorised;

/// Apply `activation` to each number, in place.
pub(crate) fn activate(activation: Activation, numbers: &mut [f32]) {
    // Named outside of the loop, which is then vectorised for each.
    match activation {
        Activation::Gelu => each(numbers, |x| Activation::Gelu.of(x)),
        Activation::GeluTanh => each(numbers, |x| Activation::GeluTanh.of(x)),
        Activation::QuickGelu => each(numbers, |x| Activation::QuickGelu.of(x)),
        other => each(numbers, |x| other.of(x)),
    }
}

#[inline(always)]
fn each(numbers: &mut [f32], of: impl Fn(f32) -> f32) {
    vectorised(
        #[inline(always)]
        || numbers.iter_mut().for_each(|x| *x = of(*x)),
    );
}
