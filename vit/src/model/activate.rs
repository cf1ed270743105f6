//! What is between the layers of an MLP.

use crate::{config::Activation, ops};

/// Apply `activation` to each number, in place.
pub(super) fn activate(activation: Activation, hidden: &mut [f32]) {
    match activation {
        Activation::Gelu => ops::gelu(hidden),
        Activation::GeluTanh => ops::gelu_tanh(hidden),
        Activation::QuickGelu => ops::quick_gelu(hidden),
    }
}
