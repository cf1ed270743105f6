//! The crate against numpy (tests/golden/make.py): codes of weights and activations and what was chosen
//! exactly, outputs to f32 rounding.

use noisyquant::{ActivationRange, Errors, Noise, QuantLinear, Quantizer, Recipe};
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
    /// Activation codes, `[m, k]`.
    codes: Vec<i64>,
    y: Vec<f64>,
}

fn noisy(golden: &Golden, range: f32) -> QuantLinear {
    let noise = golden.unit_noise.iter().map(|u| u * range).collect();
    QuantLinear::builder(&golden.weight, golden.n, golden.k)
        .bias(&golden.bias)
        .weight_bits(golden.weight_bits)
        .activation_bits(golden.activation_bits)
        .noise(Noise::PerChannel(noise))
        .calibration_rows(&golden.x)
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

/// What EasyQuant's and the twin quantizer's searches find.
#[derive(Deserialize)]
struct Searched {
    easyquant: Vec<Found>,
    twin: Vec<Found>,
}

#[derive(Deserialize)]
struct Found {
    m: usize,
    k: usize,
    n: usize,
    bits: u32,
    x: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    /// Ends of the activations' range.
    range: [f32; 2],
    shift: Option<u32>,
    activation_scale: f32,
    weight_scales: Vec<f32>,
    weight_codes: Vec<i8>,
    codes: Vec<i64>,
    y: Vec<f64>,
}

/// The codes that a layer of `k` inputs makes of `x`: with a weight of one for each input, an output is
/// one decoded code.
fn codes(x: &[f32], k: usize, bits: u32, quantizer: Quantizer, noise: Vec<f32>) -> Vec<i64> {
    let mut identity = vec![0f32; k * k];
    identity.iter_mut().step_by(k + 1).for_each(|w| *w = 1.0);
    let layer = QuantLinear::builder(&identity, k, k)
        .activation_bits(bits)
        .quantizer(quantizer)
        .noise(Noise::PerChannel(noise))
        .calibration_rows(x)
        .build()
        .unwrap();
    let s_x = f64::from(layer.activation_scale());
    let offsets = layer.noise().iter().map(|n| f64::from(*n) / s_x);
    let offsets: Vec<f64> = offsets.map(|n| n + f64::from(layer.zero_point())).collect();
    let y = layer.forward(x).unwrap();
    let codes = y.iter().zip(offsets.iter().cycle()).map(|(y, t)| {
        let code = f64::from(*y) / s_x + t;
        assert!((code - code.round()).abs() < 0.01, "{code} is no code");
        code.round() as i64
    });
    codes.collect()
}

#[test]
fn activation_codes_equal_numpy() {
    let text = include_str!("golden/layers.json");
    let layers: Vec<Golden> = serde_json::from_str(text).unwrap();
    for golden in &layers {
        let range = golden.ranges[golden.best];
        let noise = golden.unit_noise.iter().map(|u| u * range).collect();
        let (k, bits) = (golden.k, golden.activation_bits);
        let got = codes(&golden.x, k, bits, Quantizer::default(), noise);
        assert_eq!(got.len(), golden.m * k);
        assert_eq!(got, golden.codes);
    }
}

#[test]
fn searches_find_what_numpy_finds() {
    let text = include_str!("golden/searched.json");
    let searched: Searched = serde_json::from_str(text).unwrap();
    let recipe = |name| {
        let mut named = Recipe::named().into_iter();
        named.find(|recipe| recipe.0 == name).unwrap().1
    };
    type Ranged = fn(ActivationRange) -> Quantizer;
    let kinds: [(&str, &[Found], Ranged); 2] = [
        ("easyquant", &searched.easyquant, Quantizer::symmetric),
        ("twin", &searched.twin, Quantizer::twin),
    ];
    for (name, found, quantizer) in kinds {
        assert_eq!(found.len(), 3);
        for golden in found {
            let layer = QuantLinear::builder(&golden.weight, golden.n, golden.k)
                .bias(&golden.bias)
                .weight_bits(golden.bits)
                .activation_bits(golden.bits)
                .recipe(recipe(name))
                .calibration_rows(&golden.x)
                .build()
                .unwrap();
            let context = format!("{name}, {} bits", golden.bits);
            assert_eq!(layer.twin_shift(), golden.shift, "{context}");
            assert_eq!(
                layer.activation_scale(),
                golden.activation_scale,
                "{context}"
            );
            assert_eq!(layer.weight_scales(), golden.weight_scales, "{context}");
            assert_eq!(layer.weight_codes(), golden.weight_codes, "{context}");
            let [min, max] = golden.range;
            let fixed = quantizer(ActivationRange::Fixed { min, max });
            let got = codes(&golden.x, golden.k, golden.bits, fixed, vec![0.0; golden.k]);
            assert_eq!(got.len(), golden.m * golden.k);
            assert_eq!(got, golden.codes, "{context}");
            let y = layer.forward(&golden.x).unwrap();
            for (y, expected) in y.iter().zip(&golden.y) {
                assert!((f64::from(*y) - expected).abs() < 4e-6 * (1.0 + expected.abs()));
            }
        }
    }
}
