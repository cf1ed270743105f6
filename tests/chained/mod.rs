//! Layers that follow each other, and views of what they read and write.

use noisyquant::{Activation, Isa, MatMut, MatRef, Numbers, QuantLinear};

use crate::common::Rng;

/// A layer of random numbers, with noise, channel scales and a zero point, or a twin quantizer of that shift.
pub fn layer(
    seed: u64,
    (n, k): (usize, usize),
    bits: u32,
    twin: Option<u32>,
    isa: Isa,
) -> QuantLinear {
    let mut rng = Rng(seed);
    let most = (1 << (bits - 1)) - 1;
    let codes = (0..n * k).map(|_| (rng.below(2 * most + 1) as i32 - most as i32) as i8);
    let codes = codes.collect();
    let scales = rng.floats(n).iter().map(|v| 0.003 + 0.001 * v).collect();
    let middle = (1 << (bits - 1)) as f32;
    let zero_point = middle + if twin.is_some() { 0.0 } else { 3.25 };
    let numbers = Numbers::new(codes, scales, 0.04, zero_point)
        .with_weight_bits(bits)
        .with_activation_bits(bits)
        .with_bias(rng.floats(n))
        .with_noise(rng.floats(k).iter().map(|v| 0.05 * v).collect())
        .with_channel_scale(rng.floats(k).iter().map(|v| 1.0 + 0.5 * v).collect());
    let numbers = match twin {
        Some(shift) => numbers.with_twin_shift(shift),
        None => numbers,
    };
    QuantLinear::from_numbers(numbers, Some(isa)).unwrap()
}

/// What should come out, step by step.
#[allow(dead_code, reason = "not every test has two layers")]
pub fn apart(fc1: &QuantLinear, activation: Activation, fc2: &QuantLinear, x: &[f32]) -> Vec<f32> {
    let mut hidden = fc1.forward(x).unwrap();
    hidden.iter_mut().for_each(|y| *y = activation.of(*y));
    fc2.forward(&hidden).unwrap()
}

pub fn view(x: &[f32], cols: usize) -> MatRef<'_> {
    MatRef::new(x, x.len() / cols, cols, cols).unwrap()
}

pub fn view_mut(y: &mut [f32], cols: usize) -> MatMut<'_> {
    MatMut::new(y, y.len() / cols, cols, cols).unwrap()
}
