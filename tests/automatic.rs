//! The automatic choice of a recipe: it tries what it is given, judges it by what it builds, and does not
//! depend on threads.

mod common;

use common::{Problem, Rng, bits, errors, uneven};
use noisyquant::{
    Candidates, Noise, Objective, QuantLinear, Recipe, Refine, WeightQuantizer, WeightRange,
};
use rayon::ThreadPoolBuilder;

#[test]
fn the_automatic_choice_tries_what_it_is_given() {
    let problem = uneven(200, 48, 32);
    let builder = problem
        .builder()
        .activation_bits(4)
        .calibration_rows(&problem.x);
    let (_, outcome) = builder.build_auto_from(&Candidates::none()).unwrap();
    assert_eq!(outcome.recipe, Recipe::default());
    assert_eq!(outcome.before, outcome.after);
    let named = Recipe::named().into_iter().map(|(_, recipe)| recipe);
    let named = Candidates {
        recipes: named.collect(),
        ..Candidates::none()
    };
    let (_, outcome) = builder.build_auto_from(&named).unwrap();
    assert!(named.recipes.contains(&outcome.recipe), "{outcome:?}");
    assert!(outcome.after.mse < outcome.before.mse);
    let everything = Candidates {
        refinements: vec![Refine {
            sweeps: 3,
            scales: true,
        }],
        ..Candidates::default()
    };
    let score = |candidates: &Candidates| {
        let (_, outcome) = builder.build_auto_from(candidates).unwrap();
        Objective::Combined.score(&outcome.after, &outcome.before)
    };
    assert!(score(&everything) <= score(&Candidates::default()));
    let json = serde_json::to_string(&everything).unwrap();
    assert_eq!(
        serde_json::from_str::<Candidates>(&json).unwrap(),
        everything
    );
    let wild = Candidates {
        stretch: f32::NAN,
        ..Candidates::none()
    };
    let error = builder.build_auto_from(&wild).unwrap_err();
    assert!(error.to_string().contains("stretch"), "{error}");
}

/// Inputs that hang together, so that later weights can make up for the rounding of earlier ones.
fn correlated(m: usize, k: usize, n: usize) -> Problem {
    const CAUSES: usize = 5;
    let mut problem = Problem::new(m, k, n);
    let mut rng = Rng(77);
    let mix = rng.floats(CAUSES * k);
    for row in problem.x.chunks_exact_mut(k) {
        let causes = rng.floats(CAUSES);
        for (j, x) in row.iter_mut().enumerate() {
            let causes = causes.iter().zip(mix[j..].iter().step_by(k));
            *x = 0.02 * *x + causes.map(|(c, m)| c * m).sum::<f32>();
        }
    }
    problem
}

/// A search over two dampings must judge each with its own factor: the first one's was kept.
#[test]
fn each_damping_is_judged_by_what_it_builds() {
    let problem = correlated(200, 48, 32);
    let builder = problem.builder().weight_bits(3);
    let builder = builder.calibration_rows(&problem.x);
    let damped = |damping| WeightQuantizer {
        range: WeightRange::Mse,
        compensation: Some(damping),
    };
    let choose = |weights: Vec<WeightQuantizer>| {
        let candidates = Candidates {
            weights,
            ..Candidates::none()
        };
        builder.build_auto_from(&candidates).unwrap().1
    };
    // So much damping that hardly anything is compensated, and a little.
    let (much, little) = (choose(vec![damped(1e3)]), choose(vec![damped(0.02)]));
    assert!(
        little.after.mse < 0.5 * much.after.mse,
        "{little:?} {much:?}"
    );
    assert_eq!(choose(vec![damped(1e3), damped(0.02)]), little);
}

#[test]
fn the_automatic_choice_beats_the_plain_layer_and_does_not_depend_on_threads() {
    let problem = uneven(300, 64, 48);
    let unseen = Problem {
        x: problem.x[200 * 64..].to_vec(),
        m: 100,
        ..uneven(300, 64, 48)
    };
    let auto = |threads| {
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let builder = problem.builder().activation_bits(6).weight_bits(6);
            builder
                .calibration_rows(&problem.x[..200 * 64])
                .build_auto()
                .unwrap()
        })
    };
    let (layer, outcome) = auto(1);
    let (other, same) = auto(3);
    assert_eq!(outcome, same);
    let (a, b) = (
        layer.forward(&unseen.x).unwrap(),
        other.forward(&unseen.x).unwrap(),
    );
    assert_eq!(bits(&a), bits(&b));
    let plain = problem.builder().activation_bits(6).weight_bits(6);
    let plain = plain
        .calibration_rows(&problem.x[..200 * 64])
        .build()
        .unwrap();
    let (before, after) = (errors(&unseen, &plain), errors(&unseen, &layer));
    assert!(after.mse < 0.5 * before.mse, "{after:?} {before:?}");
    assert!(
        after.worst_token < before.worst_token,
        "{after:?} {before:?}"
    );
    assert!(outcome.after.mse < outcome.before.mse);
}

/// Sums that overflow have no errors to choose by: they are refused, whatever is chosen.
#[test]
fn outputs_that_overflow_are_refused_and_not_judged() {
    let (rows, k, n) = (12, 8, 3);
    let rows: Vec<f32> = (0..rows * k).map(|i| 3.0 + (i as f32).sin()).collect();
    let weight =
        |of: f32| -> Vec<f32> { (0..n * k).map(|i| of * (1.0 + i as f32 / 99.0)).collect() };
    for size in [1e38, -1e38, 2.5e38] {
        let weight = weight(size);
        let builder = QuantLinear::builder(&weight, n, k).calibration_rows(&rows);
        let automatic = builder.build_auto().map(|built| built.0);
        let searched = builder.noise(Noise::Searched { seed: 0 }).build();
        for refused in [automatic, searched] {
            let said = refused.unwrap_err().to_string();
            let expected = "output of the float layer: expected a finite value, got ";
            assert!(said.starts_with(expected), "{said}");
        }
    }
    // As large as goes.
    let weight = weight(1e36);
    let builder = QuantLinear::builder(&weight, n, k).calibration_rows(&rows);
    let (_, outcome) = builder.build_auto().unwrap();
    for errors in [outcome.before, outcome.after] {
        assert!(
            errors.mse.is_finite() && errors.worst_token.is_finite() && errors.cosine.is_finite()
        );
    }
}
