//! Layers made of numbers: those of another layer, those of another tool, and those that no layer has.

mod common;

use common::{Problem, Rng, bits, isas};
use noisyquant::{ActivationRange, Error, Isa, Noise, Numbers, QuantLinear, Quantizer, Recipe};
use serde::Deserialize;

#[test]
fn a_layer_made_of_a_layers_numbers_is_that_layer_on_every_set() {
    let problem = Problem::new(24, 70, 33);
    let mut recipes: Vec<Recipe> = Recipe::named().into_iter().map(|(_, r)| r).collect();
    recipes.push(Recipe {
        // Fine and coarse codes that do not fit a byte, and ones that do.
        quantizer: Quantizer::twin(ActivationRange::Fixed {
            min: -0.1,
            max: 8.0,
        }),
        noise: Noise::Uniform {
            range: 0.01,
            seed: 3,
        },
        ..Recipe::default()
    });
    for (i, recipe) in recipes.into_iter().enumerate() {
        for [weight_bits, activation_bits] in [[8, 8], [6, 6], [4, 8], [4, 4]] {
            let builder = problem.builder().recipe(recipe.clone());
            let builder = builder
                .weight_bits(weight_bits)
                .activation_bits(activation_bits);
            let layer = builder.calibration_rows(&problem.x).build().unwrap();
            let numbers = layer.numbers();
            assert_eq!(numbers.weight_codes(), layer.weight_codes());
            let expected = bits(&layer.forward(&problem.x).unwrap());
            for isa in isas() {
                let what = format!("recipe {i}, {weight_bits} and {activation_bits} bits, {isa}");
                let made = QuantLinear::from_numbers(numbers.clone(), Some(isa)).unwrap();
                assert_eq!(made.isa(), isa);
                assert_eq!(made.numbers(), numbers, "{what}");
                assert_eq!(bits(&made.forward(&problem.x).unwrap()), expected, "{what}");
            }
        }
    }
}

/// The layer on `isa`. Plain NEON alone has no kernel that is exact for −128, and says so.
fn on(isa: Isa, numbers: Numbers) -> Option<QuantLinear> {
    let least = numbers.weight_codes().contains(&-128);
    match QuantLinear::from_numbers(numbers, Some(isa)) {
        Err(error) if isa == Isa::Neon && least => {
            let message = error.to_string();
            assert!(
                message.contains("magnitudes up to 128, got none"),
                "{message}"
            );
            None
        }
        layer => Some(layer.unwrap()),
    }
}

/// A layer in ONNX's terms, and its outputs; see golden/make.py.
#[derive(Deserialize)]
struct Golden {
    m: usize,
    k: usize,
    n: usize,
    weight_bits: u32,
    activation_bits: u32,
    x: Vec<f32>,
    weight_codes: Vec<i8>,
    weight_scales: Vec<f32>,
    activation_scale: f32,
    zero_point: f32,
    bias: Vec<f32>,
    y: Vec<f32>,
}

#[test]
fn quantize_dequantize_models_give_what_numpy_gives() {
    let golden: Vec<Golden> = serde_json::from_str(include_str!("golden/qdq.json")).unwrap();
    assert_eq!(golden.len(), 6);
    for golden in golden {
        let least = -(1i16 << (golden.weight_bits - 1));
        let codes = &golden.weight_codes;
        assert!(codes.iter().any(|w| i16::from(*w) == least), "the hardest");
        for isa in isas() {
            let numbers = Numbers::new(
                codes.clone(),
                golden.weight_scales.clone(),
                golden.activation_scale,
                golden.zero_point,
            );
            let numbers = numbers
                .with_weight_bits(golden.weight_bits)
                .with_activation_bits(golden.activation_bits)
                .with_bias(golden.bias.clone());
            let Some(layer) = on(isa, numbers) else {
                continue;
            };
            let y = layer.forward(&golden.x).unwrap();
            let shape = (golden.m, golden.k, golden.n);
            assert_eq!(y.len(), golden.m * golden.n);
            assert_eq!(bits(&y), bits(&golden.y), "{isa}, {shape:?}");
        }
    }
}

/// −128 beside the largest code, and every zero point that a u8 or a half step can be, against i64.
#[test]
fn extreme_codes_and_any_zero_point_are_exact() {
    let (m, k, n) = (4, 192, 40);
    for [weight_bits, activation_bits] in [[8, 8], [8, 7], [7, 8], [8, 6], [4, 4], [2, 2]] {
        let top = (1i64 << activation_bits) - 1;
        let least = -(1i64 << (weight_bits - 1));
        let u: Vec<i64> = (0..m * k)
            .map(|i| if i < k { top } else { i as i64 % (top + 1) })
            .collect();
        let w: Vec<i64> = (0..n * k)
            .map(|i| {
                if i < k {
                    least
                } else {
                    i as i64 % -least * if i % 2 == 0 { 1 } else { -1 }
                }
            })
            .collect();
        for zero in [0.0, 1.0, 7.0, 128.0, 254.0, 255.0, 300.0, -9.0, 127.5] {
            let x: Vec<f32> = u.iter().map(|u| *u as f32 - zero).collect();
            for isa in isas() {
                let codes = w.iter().map(|w| *w as i8).collect();
                let numbers = Numbers::new(codes, vec![1.0; n], 1.0, zero);
                let numbers = numbers
                    .with_weight_bits(weight_bits)
                    .with_activation_bits(activation_bits);
                let Some(layer) = on(isa, numbers) else {
                    continue;
                };
                let y = layer.forward(&x).unwrap();
                for (i, y) in y.iter().enumerate() {
                    let (u, w) = (&u[i / n * k..][..k], &w[i % n * k..][..k]);
                    let terms = u.iter().zip(w);
                    // Exact in f64, and in f32 for sums of halves below 2^23.
                    let exact: f64 = terms
                        .map(|(u, w)| (*u as f64 - f64::from(zero)) * *w as f64)
                        .sum();
                    assert!(exact.abs() < f64::from(1 << 23));
                    assert_eq!(f64::from(*y), exact, "{isa}, zero point {zero}, at {i}");
                }
            }
        }
    }
}

/// Where no set is named, one is found that is exact for −128.
#[test]
fn the_least_weight_finds_a_kernel_where_no_set_is_named() {
    let numbers = Numbers::new(vec![-128; 64], vec![1.0], 1.0, 0u8);
    let layer = QuantLinear::from_numbers(numbers, None);
    if std::env::var_os("NOISYQUANT_ISA").is_none() {
        let y = layer.unwrap().forward(&[255f32; 64]).unwrap();
        assert_eq!(y, [-128.0 * 255.0 * 64.0]);
    }
}

#[test]
fn numbers_that_no_layer_has_are_refused_by_name() {
    let numbers = || Numbers::new(vec![1; 6], vec![0.5; 2], 0.1, 128u8);
    assert!(QuantLinear::from_numbers(numbers(), None).is_ok());
    let refusal = |numbers| QuantLinear::from_numbers(numbers, None).unwrap_err();
    let message = |numbers| refusal(numbers).to_string();
    for (wrong, expected) in [
        (
            Numbers::new(vec![1; 7], vec![0.5; 2], 0.1, 128u8),
            "weight codes: expected 6 elements, got 7",
        ),
        (
            Numbers::new(vec![1; 6], vec![], 0.1, 128u8),
            "out_features (weight scales): expected 1..=9223372036854775807, got 0",
        ),
        (
            numbers().with_weight_bits(9).with_activation_bits(8),
            "weight_bits: expected 2..=8, got 9",
        ),
        (
            numbers().with_weight_bits(8).with_activation_bits(1),
            "activation_bits: expected 2..=8, got 1",
        ),
        (
            numbers().with_bias(vec![0.0; 3]),
            "bias: expected 2 elements, got 3",
        ),
        (
            numbers().with_noise(vec![0.0; 2]),
            "noise: expected 3 elements, got 2",
        ),
        (
            numbers().with_channel_scale(vec![1.0; 4]),
            "channel scale: expected 3 elements, got 4",
        ),
        (
            numbers().with_twin_shift(13),
            "twin shift: expected 0..=12, got 13",
        ),
        (
            Numbers::new(vec![1, 2, -9, 0, 0, 0], vec![0.5; 2], 0.1, 8u8)
                .with_weight_bits(4)
                .with_activation_bits(4),
            "weight code: expected within the range of its bits, got -9 at index 2",
        ),
    ] {
        assert_eq!(message(wrong), expected);
    }
    for bad in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-40] {
        let scale = message(Numbers::new(vec![1; 6], vec![0.5; 2], bad, 128u8));
        assert!(scale.starts_with("activation scale: expected finite, positive"));
        let scale = message(Numbers::new(vec![1; 6], vec![0.5, bad], 0.1, 128u8));
        assert!(scale.starts_with("weight scale: expected finite, positive"));
        let scale = message(numbers().with_channel_scale(vec![1.0, bad, 1.0]));
        assert!(scale.starts_with("channel scale: expected finite, positive"));
    }
    for bad in [f32::NAN, f32::INFINITY] {
        assert!(message(numbers().with_bias(vec![0.0, bad])).starts_with("bias"));
        assert!(message(numbers().with_noise(vec![bad; 3])).starts_with("noise"));
        let zero = message(Numbers::new(vec![1; 6], vec![0.5; 2], 0.1, bad));
        assert!(zero.starts_with("zero point: expected a finite value"));
    }
    let far = refusal(Numbers::new(vec![1; 6], vec![0.5; 2], 0.1, 1e9));
    assert!(matches!(far, Error::CorrectionOverflow { channel: 0, .. }));
    let twin = message(
        numbers()
            .with_twin_shift(2)
            .with_weight_bits(8)
            .with_activation_bits(7),
    );
    assert_eq!(
        twin,
        "zero point of a twin quantizer: expected 2^(bits − 1), got 128 at index 0"
    );
}

/// Noise and channel scales that another tool found, against eq. 3 to 9 in f64.
#[test]
fn given_noise_and_channel_scales_are_taken_out_again() {
    let (m, k, n) = (6, 50, 12);
    let mut rng = Rng(9);
    let (noise, x) = (rng.floats(k), rng.heavy_tailed(m * k));
    let r: Vec<f32> = rng.floats(k).iter().map(|v| 1.0 + v.abs()).collect();
    let codes: Vec<i8> = (0..n * k).map(|_| rng.below(255) as i8).collect();
    let (s_x, z) = (0.25f32, 100.0f32);
    let numbers = Numbers::new(codes.clone(), vec![0.125; n], s_x, z)
        .with_channel_scale(r.clone())
        .with_noise(noise.clone());
    let layer = QuantLinear::from_numbers(numbers, None).unwrap();
    let y = layer.forward(&x).unwrap();
    for (i, y) in y.iter().enumerate() {
        let (x, w) = (&x[i / n * k..][..k], &codes[i % n * k..][..k]);
        let mut sum = 0.0;
        for j in 0..k {
            let t = (f64::from(noise[j]) / f64::from(s_x) + f64::from(z)) as f32;
            let inv = (f64::from(r[j]) / f64::from(s_x)) as f32;
            let u = x[j].mul_add(inv, t).round_ties_even().clamp(0.0, 255.0);
            sum += (f64::from(u) - f64::from(t)) * f64::from(w[j]);
        }
        let exact = sum * f64::from(s_x) * 0.125;
        let close = (f64::from(*y) - exact).abs() <= 1e-5 * (1.0 + exact.abs());
        assert!(close, "{y} is not {exact}");
    }
}
