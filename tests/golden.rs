//! The crate against numpy (tests/golden/make.py): weight codes and chosen noise exactly, outputs to
//! f32 rounding.

use noisyquant::{Errors, Noise, QuantLinear};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    m: usize,
    k: usize,
    n: usize,
    weight_bits: u32,
    activation_bits: u32,
    x: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    unit_noise: Vec<f32>,
    ranges: Vec<f32>,
    errors: Vec<f64>,
    best: usize,
    activation_scale: f32,
    weight_scales: Vec<f32>,
    weight_codes: Vec<i8>,
    /// Per row, the sum of its activation codes.
    code_sums: Vec<i64>,
    y: Vec<f64>,
}

fn noisy(golden: &Golden, range: f32) -> QuantLinear {
    let noise = golden.unit_noise.iter().map(|u| u * range).collect();
    QuantLinear::builder(&golden.weight, golden.n, golden.k)
        .bias(&golden.bias)
        .weight_bits(golden.weight_bits)
        .activation_bits(golden.activation_bits)
        .noise(Noise::PerChannel(noise))
        .calibrate(&golden.x)
        .build()
        .unwrap()
}

#[test]
fn equals_numpy() {
    let text = include_str!("golden/layers.json");
    let layers: Vec<Golden> = serde_json::from_str(text).unwrap();
    assert_eq!(layers.len(), 3);
    for golden in &layers {
        let layer = noisy(golden, golden.ranges[golden.best]);
        assert_eq!(layer.activation_scale(), golden.activation_scale);
        assert_eq!(layer.weight_scales(), golden.weight_scales);
        assert_eq!(layer.weight_codes(), golden.weight_codes);
        let y = layer.forward(&golden.x).unwrap();
        for (y, expected) in y.iter().zip(&golden.y) {
            assert!((f64::from(*y) - expected).abs() < 2e-6 * (1.0 + expected.abs()));
        }
        // The searched range: the same errors, and so the same choice.
        let mut target = Vec::new();
        for x in golden.x.chunks_exact(golden.k) {
            for (w, b) in golden.weight.chunks_exact(golden.k).zip(&golden.bias) {
                let products = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w));
                target.push((products.sum::<f64>() + f64::from(*b)) as f32);
            }
        }
        let errors = golden.ranges.iter().map(|range| {
            let y = noisy(golden, *range).forward(&golden.x).unwrap();
            Errors::measure(&y, &target, golden.n).mse
        });
        let errors: Vec<f64> = errors.collect();
        for (got, expected) in errors.iter().zip(&golden.errors) {
            approx::assert_relative_eq!(*got, *expected, max_relative = 1e-4);
        }
        let best = (0..errors.len()).min_by(|a, b| errors[*a].total_cmp(&errors[*b]));
        assert_eq!(best, Some(golden.best));
    }
}

#[test]
fn activation_codes_equal_numpy() {
    // A weight of one everywhere makes an output the sum of its row's codes.
    let text = include_str!("golden/layers.json");
    let layers: Vec<Golden> = serde_json::from_str(text).unwrap();
    for golden in &layers {
        let range = golden.ranges[golden.best];
        let noise: Vec<f32> = golden.unit_noise.iter().map(|u| u * range).collect();
        let ones = vec![1f32; golden.k];
        let layer = QuantLinear::builder(&ones, 1, golden.k)
            .activation_bits(golden.activation_bits)
            .noise(Noise::PerChannel(noise.clone()))
            .calibrate(&golden.x)
            .build()
            .unwrap();
        let z = f64::from(layer.zero_point()) * golden.k as f64;
        let s_x = f64::from(layer.activation_scale());
        let offset = z + noise.iter().map(|n| f64::from(*n) / s_x).sum::<f64>();
        let y = layer.forward(&golden.x).unwrap();
        assert_eq!(y.len(), golden.m);
        for (y, sum) in y.iter().zip(&golden.code_sums) {
            let got = f64::from(*y) / s_x + offset;
            assert!((got - *sum as f64).abs() < 0.05, "{got} {sum}");
        }
    }
}
