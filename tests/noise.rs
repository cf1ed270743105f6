//! The noise cancels: exactly in the integers, and in the mean against the float layer.

mod common;

use common::{Problem, Rng, bits};
use noisyquant::{ActivationRange, Noise, QuantLinear, Quantizer};

fn squared_error(y: &[f32], target: &[f64]) -> f64 {
    y.iter()
        .zip(target)
        .map(|(y, t)| (f64::from(*y) - t).powi(2))
        .sum()
}

#[test]
fn any_noise_that_the_builder_accepts_equals_the_oracle_on_shifted_codes() {
    let problem = Problem::new(20, 130, 50);
    let mut rng = Rng(9);
    for magnitude in [0.0, 1e-6, 0.01, 1.0, 30.0, 1e4] {
        let noise: Vec<f32> = rng.floats(130).iter().map(|v| v * magnitude).collect();
        let layer = problem
            .builder()
            .noise(Noise::PerChannel(noise))
            .calibration_rows(&problem.x)
            .build()
            .unwrap();
        let got = layer.forward(&problem.x).unwrap();
        assert_eq!(
            bits(&got),
            bits(&problem.oracle(&layer, &problem.x)),
            "noise of ±{magnitude}"
        );
    }
}

#[test]
fn averaging_over_seeds_converges_to_the_float_layer() {
    // Noise of one half step is a non-subtractive dither in the codes: E[Q(x + N) − N] = x in range.
    // Weights of exact codes leave the activations as the only source of error.
    let mut problem = Problem::new(4, 96, 24);
    for w in &mut problem.weight {
        *w = (*w * 127.0).round() / 127.0;
    }
    for row in problem.weight.chunks_exact_mut(96) {
        row[0] = 1.0;
    }
    for x in &mut problem.x {
        *x = x.clamp(-0.9, 0.9);
    }
    let target = problem.float_outputs(&problem.x);
    let step = 1.0 / 7.0; // symmetric, 4 bits, range ±1
    let mean_error = |seeds: u64| {
        let mut sum = vec![0f64; target.len()];
        for seed in 0..seeds {
            let layer = problem
                .builder()
                .activation_bits(4)
                .quantizer(Quantizer::symmetric(ActivationRange::Fixed {
                    min: -1.0,
                    max: 1.0,
                }))
                .noise(Noise::Uniform {
                    range: step / 2.0,
                    seed,
                })
                .build()
                .unwrap();
            for (sum, y) in sum.iter_mut().zip(layer.forward(&problem.x).unwrap()) {
                *sum += f64::from(y) / seeds as f64;
            }
        }
        let errors = sum.iter().zip(&target).map(|(y, t)| (y - t).powi(2));
        (errors.sum::<f64>() / target.len() as f64).sqrt()
    };
    let (few, many) = (mean_error(16), mean_error(1600));
    // A hundred times the seeds: a tenth of the error, if there is no bias.
    assert!(many < few / 7.0, "16 seeds: {few}, 1600 seeds: {many}");
    assert!(many > few / 14.0, "16 seeds: {few}, 1600 seeds: {many}");
}

#[test]
fn searched_noise_is_never_worse_than_none_on_the_calibration_rows() {
    for (i, activation_bits) in (2..=8).enumerate() {
        let problem = Problem::new(256, 64 + i, 40);
        let target = problem.float_outputs(&problem.x);
        let build = |noise| -> QuantLinear {
            let builder = problem
                .builder()
                .activation_bits(activation_bits)
                .noise(noise);
            builder.calibration_rows(&problem.x).build().unwrap()
        };
        let plain = build(Noise::None).forward(&problem.x).unwrap();
        let searched = build(Noise::Searched { seed: 2 });
        let noisy = searched.forward(&problem.x).unwrap();
        let (plain, noisy) = (
            squared_error(&plain, &target),
            squared_error(&noisy, &target),
        );
        assert!(
            noisy <= plain,
            "A{activation_bits}: {noisy} against {plain}"
        );
    }
}

#[test]
fn noise_helps_where_theorem_1_says_so() {
    // All inputs sit just beside a rounding boundary, where D < 0 (eq. 12).
    let mut problem = Problem::new(64, 64, 16);
    let step = 1.0 / 7.0;
    for (i, x) in problem.x.iter_mut().enumerate() {
        *x = (0.5 + (i % 5) as f32) * step + 0.02 * step;
    }
    let target = problem.float_outputs(&problem.x);
    let error = |noise| {
        let layer = problem
            .builder()
            .activation_bits(4)
            .quantizer(Quantizer::symmetric(ActivationRange::Fixed {
                min: -1.0,
                max: 1.0,
            }))
            .noise(noise)
            .calibration_rows(&problem.x)
            .build()
            .unwrap();
        squared_error(&layer.forward(&problem.x).unwrap(), &target)
    };
    let (plain, noisy) = (error(Noise::None), error(Noise::Searched { seed: 0 }));
    // The best n is 1.5 b, which takes three quarters of the error away; the weights have theirs.
    assert!(noisy < 0.5 * plain, "{noisy} against {plain}");
}
