//! Every recipe on every instruction set against an oracle that shares no code with the crate; the
//! searches keep their promises.

mod common;

use common::{Problem, bits, errors, isas, uneven};
use noisyquant::{
    ActivationRange, Candidates, ChannelScale, Errors, Noise, Objective, Outcome, QuantLinear,
    Quantizer, Recipe, Refine, Shift, WeightQuantizer, WeightRange,
};

/// What `layer` must return for `x`, from the numbers that it publishes, in i64 and f64.
fn oracle(layer: &QuantLinear, x: &[f32]) -> Vec<f32> {
    let (k, n) = (layer.in_features(), layer.out_features());
    let (s_x, z) = (
        f64::from(layer.activation_scale()),
        f64::from(layer.zero_point()),
    );
    let half = 1i64 << (layer.activation_bits() - 1);
    let code = |x: f32, inv: f32, t: f32, max: i64| match x.mul_add(inv, t) {
        v if v.is_nan() => 0,
        v => v.round_ties_even().clamp(0.0, max as f32) as i64,
    };
    let scales = layer.channel_scale().iter().zip(layer.noise());
    let pairs: Vec<(f32, f32)> = scales
        .map(|(r, n)| {
            (
                (f64::from(*r) / s_x) as f32,
                (f64::from(*n) / s_x + z) as f32,
            )
        })
        .collect();
    let level = |(x, (inv, t)): (&f32, &(f32, f32))| match layer.twin_shift() {
        None => code(*x, *inv, *t, 2 * half - 1),
        Some(shift) => {
            let width = f64::from(1u32 << shift);
            let coarse = (
                (f64::from(*inv) / width) as f32,
                ((f64::from(*t) - z) / width) as f32,
            );
            code(*x, *inv, *t, half) + (code(*x, coarse.0, coarse.1, half - 1) << shift)
        }
    };
    let levels: Vec<i64> = x
        .chunks_exact(k)
        .flat_map(|row| row.iter().zip(&pairs).map(level))
        .collect();
    let codes = layer.weight_codes();
    let mut y = vec![0f32; x.len() / k * n];
    for (channel, w) in codes.chunks_exact(k).enumerate() {
        let sum: f64 = w
            .iter()
            .zip(&pairs)
            .map(|(w, p)| f64::from(*w) * f64::from(p.1))
            .sum();
        let comp = (-sum).round_ties_even();
        let scale = layer.activation_scale() * layer.weight_scales()[channel];
        let bias = (f64::from(layer.bias()[channel]) + f64::from(scale) * (-sum - comp)) as f32;
        for (row, levels) in levels.chunks_exact(k).enumerate() {
            let acc: i64 = levels.iter().zip(w).map(|(u, w)| u * i64::from(*w)).sum();
            let total = i32::try_from(acc + comp as i64).expect("fits, as the builder checked");
            y[row * n + channel] = (total as f32).mul_add(scale, bias);
        }
    }
    y
}

const REFINE: Refine = Refine {
    sweeps: 3,
    scales: true,
};

fn recipes() -> Vec<Recipe> {
    let mut recipes: Vec<Recipe> = Recipe::named().into_iter().map(|(_, r)| r).collect();
    recipes.push(Recipe {
        quantizer: Quantizer::asymmetric(ActivationRange::Widened(1.25)),
        shift: Shift::Mean,
        channel_scale: ChannelScale::Strength(0.5),
        noise: Noise::Uniform {
            range: 0.1,
            seed: 4,
        },
        weights: WeightQuantizer::COMPENSATED,
        bias_correction: true,
        refine: None,
        objective: Objective::WorstToken,
    });
    recipes.push(Recipe {
        quantizer: Quantizer::centered(ActivationRange::MinMax),
        shift: Shift::MidRange,
        channel_scale: ChannelScale::Balanced {
            strength: 0.75,
            balance: 0.5,
        },
        refine: Some(REFINE),
        ..Recipe::default()
    });
    recipes.push(Recipe {
        quantizer: Quantizer::twin(ActivationRange::MinMax),
        refine: Some(REFINE),
        ..Recipe::default()
    });
    recipes.push(Recipe {
        quantizer: Quantizer::twin(ActivationRange::Percentile(99.0)),
        channel_scale: ChannelScale::Strength(0.25),
        ..Recipe::default()
    });
    recipes
}

#[test]
fn every_recipe_equals_the_oracle_on_every_set() {
    for (i, recipe) in recipes().into_iter().enumerate() {
        for (j, weight_bits) in [8, 6, 4, 2].into_iter().enumerate() {
            let activation_bits = [8, 6, 4, 7, 3, 2, 5][(i + j) % 7];
            let problem = Problem::new(50 + i, 65 + 13 * j, 37);
            let mut outputs = Vec::new();
            for isa in isas() {
                let builder = problem.builder().weight_bits(weight_bits);
                let builder = builder
                    .activation_bits(activation_bits)
                    .recipe(recipe.clone());
                let layer = builder
                    .calibration_rows(&problem.x)
                    .isa(isa)
                    .build()
                    .unwrap();
                let expected = oracle(&layer, &problem.x);
                let got = layer.forward(&problem.x).unwrap();
                assert_eq!(bits(&got), bits(&expected), "{} {recipe:?}", layer.kernel());
                outputs.push(bits(&got));
            }
            assert!(
                outputs.windows(2).all(|w| w[0] == w[1]),
                "the choice depends on the ISA"
            );
        }
    }
}

#[test]
fn twin_codes_run_in_one_plane_and_in_two() {
    // Negative values down to -0.17 as after GELU; the range's ends decide the shift.
    let mut problem = Problem::new(40, 200, 50);
    for x in &mut problem.x {
        *x = if *x < 0.0 { *x * 0.02 } else { *x };
    }
    for (min, shift) in [
        (-8.0, 0),
        (-4.0, 1),
        (-2.0, 2),
        (-1.0, 3),
        (-0.16, 5),
        (0.0, 12),
    ] {
        for isa in isas() {
            let quantizer = Quantizer::twin(ActivationRange::Fixed {
                min,
                max: 8.0 * 31.0 / 32.0,
            });
            let noise = Noise::Uniform {
                range: 0.3,
                seed: 1,
            };
            let builder = problem.builder().quantizer(quantizer).noise(noise);
            let layer = builder.activation_bits(6).weight_bits(6).isa(isa).build();
            let layer = layer.unwrap();
            assert_eq!(layer.twin_shift(), Some(shift), "{min}");
            let mut x = problem.x.clone();
            x[..4].copy_from_slice(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30]);
            assert_eq!(bits(&layer.forward(&x).unwrap()), bits(&oracle(&layer, &x)));
        }
    }
}

#[test]
fn each_part_of_a_recipe_lowers_the_error_of_uneven_inputs() {
    let problem = uneven(512, 96, 64);
    for activation_bits in [6, 8] {
        let mse = |recipe: Recipe| {
            let builder = problem
                .builder()
                .activation_bits(activation_bits)
                .weight_bits(6);
            let layer = builder
                .recipe(recipe)
                .calibration_rows(&problem.x)
                .build()
                .unwrap();
            errors(&problem, &layer).mse
        };
        let mut recipe = Recipe::default();
        let mut last = mse(recipe.clone());
        let steps: [&dyn Fn(&mut Recipe); 4] = [
            &|r| {
                r.shift = Shift::MidRange;
                r.quantizer = Quantizer::centered(ActivationRange::MinMax);
            },
            &|r| r.channel_scale = ChannelScale::Searched,
            &|r| r.weights = WeightQuantizer::COMPENSATED,
            &|r| r.bias_correction = true,
        ];
        for (i, step) in steps.into_iter().enumerate() {
            step(&mut recipe);
            let next = mse(recipe.clone());
            assert!(
                next < last * 1.0001,
                "A{activation_bits} step {i}: {next} after {last}"
            );
            last = next;
        }
    }
}

#[test]
fn searches_are_never_worse_than_their_start_by_their_objective() {
    let problem = uneven(200, 50, 40);
    for objective in [
        Objective::OutputMse,
        Objective::Cosine,
        Objective::WorstToken,
        Objective::Combined,
    ] {
        let score = |recipe: Recipe| {
            let builder = problem.builder().activation_bits(5).recipe(recipe);
            errors(
                &problem,
                &builder.calibration_rows(&problem.x).build().unwrap(),
            )
        };
        let plain = score(Recipe::default());
        for quantizer in [
            Quantizer::default(),
            Quantizer::symmetric(ActivationRange::Searched),
        ] {
            let searched = score(Recipe {
                quantizer,
                objective,
                noise: Noise::Searched { seed: 3 },
                ..Recipe::default()
            });
            let scores = (
                objective.score(&searched, &plain),
                objective.score(&plain, &plain),
            );
            assert!(
                scores.0 <= scores.1 * (1.0 + 1e-6),
                "{objective:?}: {scores:?}"
            );
        }
    }
}

#[test]
fn a_coordinate_search_improves_a_start_on_rows_that_it_did_not_see() {
    let problem = uneven(600, 64, 48);
    let (seen, unseen) = problem.x.split_at(400 * 64);
    let unseen = Problem {
        x: unseen.to_vec(),
        m: 200,
        ..uneven(600, 64, 48)
    };
    let after = |recipe: Recipe| {
        let builder = problem.builder().activation_bits(6).recipe(recipe);
        errors(&unseen, &builder.calibration_rows(seen).build().unwrap())
    };
    for start in [Recipe::default(), Recipe::default().with_noise(1)] {
        let before = after(start.clone());
        let mut last = before.mse;
        for scales in [false, true] {
            let refine = Some(Refine { scales, ..REFINE });
            let refined = after(Recipe {
                refine,
                ..start.clone()
            });
            assert!(refined.mse <= last * 1.01, "{refined:?} {before:?}");
            last = refined.mse;
        }
        assert!(last < 0.5 * before.mse, "{last} {before:?}");
    }
    // Nothing to choose from: the start.
    let none = Some(Refine {
        sweeps: 0,
        ..REFINE
    });
    let start = Recipe::default();
    let refine = |refine| {
        after(Recipe {
            refine,
            ..start.clone()
        })
    };
    assert_eq!(refine(none), refine(None));
}

#[test]
fn recipes_survive_serde_and_refuse_nonsense() {
    for recipe in recipes() {
        let json = serde_json::to_string(&recipe).unwrap();
        assert_eq!(serde_json::from_str::<Recipe>(&json).unwrap(), recipe);
    }
    // What a later version adds is passed over, and what an earlier one had not is as by default.
    let newer = r#"{"bias_correction":true,"later":[1,2]}"#;
    let corrected = Recipe {
        bias_correction: true,
        ..Recipe::default()
    };
    assert_eq!(serde_json::from_str::<Recipe>(newer).unwrap(), corrected);
    let none: Candidates = serde_json::from_str(r#"{"later":0}"#).unwrap();
    assert_eq!(none, Candidates::default());
    let errors: Errors = serde_json::from_str(r#"{"mse":2.0,"later":0}"#).unwrap();
    assert_eq!((errors.mse, errors.cosine), (2.0, 0.0));
    let outcome = r#"{"recipe":{},"before":{},"after":{},"later":0}"#;
    assert!(serde_json::from_str::<Outcome>(outcome).is_ok());

    let problem = Problem::new(8, 6, 5);
    let refusal = |recipe: Recipe| {
        let builder = problem
            .builder()
            .recipe(recipe)
            .calibration_rows(&problem.x);
        builder.build().unwrap_err().to_string()
    };
    let scaled = |channel_scale| Recipe {
        channel_scale,
        ..Recipe::default()
    };
    assert!(refusal(scaled(ChannelScale::Strength(1.5))).contains("migration strength"));
    let unbalanced = ChannelScale::Balanced {
        strength: 1.0,
        balance: 0.0,
    };
    assert!(refusal(scaled(unbalanced)).contains("balance"));
    assert!(refusal(scaled(ChannelScale::PerChannel(vec![1.0; 5]))).contains("expected 6"));
    assert!(refusal(scaled(ChannelScale::PerChannel(vec![0.0; 6]))).contains("positive"));
    let damped = Recipe {
        weights: WeightQuantizer {
            range: WeightRange::Mse,
            compensation: Some(f32::NAN),
        },
        ..Recipe::default()
    };
    assert!(refusal(damped).contains("damping"));
    let shifted = Recipe {
        shift: Shift::Mean,
        quantizer: Quantizer::symmetric(ActivationRange::Fixed {
            min: -1.0,
            max: 1.0,
        }),
        ..Recipe::default()
    };
    let error = problem.builder().recipe(shifted).build().unwrap_err();
    assert!(error.to_string().contains("a shift needs calibration rows"));
    let error = problem
        .builder()
        .calibration_rows(&problem.x[..6])
        .build_auto()
        .unwrap_err();
    assert!(error.to_string().contains("two rows"), "{error}");
}
