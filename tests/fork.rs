//! After `fork()`, the child of a process that used rayon has none of its threads, and answers as the parent
//! did. A binary of its own: it forks.

#![cfg(unix)]

mod common;
mod forked;

use std::thread;

use common::{Problem, bits};
use forked::{assert_in_child, children_may_start_threads};
use noisyquant::{Error, Errors, Executor, FloatLayer, Isa, QuantLinear, Scratch, calibrate};

/// A problem that is worth several tasks, and its layer, on a set that needs little for that.
fn problem() -> (Problem, QuantLinear) {
    let problem = Problem::new(64, 128, 128);
    let builder = problem.builder().isa(Isa::Scalar);
    let layer = builder.calibration_rows(&problem.x).build();
    (problem, layer.unwrap())
}

fn run(layer: &QuantLinear, x: &[f32], executor: Executor<'_>) -> Vec<u32> {
    let mut y = vec![f32::NAN; 64 * 128];
    let mut scratch = Scratch::with_bytes(layer.scratch_bytes(64, 3));
    layer
        .forward_into(x, &mut y, &mut scratch, executor)
        .unwrap();
    bits(&y)
}

#[test]
fn a_forked_child_answers_as_its_parent() {
    let (problem, layer) = problem();
    let x = &problem.x;
    let before = Executor::rayon();
    let expected = run(&layer, x, before);
    assert_eq!(bits(&layer.forward(x).unwrap()), expected);
    assert_in_child(|| run(&layer, x, Executor::serial()) == expected);
    assert_in_child(|| bits(&layer.forward(x).unwrap()) == expected);
    // An executor that the parent made.
    assert_in_child(|| run(&layer, x, before) == expected);
    assert_in_child(|| {
        let (plan, executor) = (layer.explain(64), Executor::rayon());
        let alone = executor.threads() == 1 && plan.tasks == 1;
        alone && run(&layer, x, executor) == expected
    });
    assert!(Executor::try_rayon().is_ok());
    assert_in_child(|| matches!(Executor::try_rayon(), Err(Error::Threads { .. })));
    // The child of a child, and threads of a child.
    assert_in_child(|| {
        let first = run(&layer, x, Executor::rayon());
        assert_in_child(|| run(&layer, x, Executor::rayon()) == first);
        first == expected
    });
    if !children_may_start_threads() {
        return;
    }
    assert_in_child(|| {
        let runs = || run(&layer, x, Executor::rayon()) == expected;
        thread::scope(|scope| {
            scope.spawn(runs).join().unwrap() && scope.spawn(runs).join().unwrap()
        })
    });
}

#[test]
fn a_forked_child_may_start_a_pool_of_its_own() {
    if !children_may_start_threads() {
        return;
    }
    let (problem, layer) = problem();
    let expected = run(&layer, &problem.x, Executor::rayon());
    assert_in_child(|| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build();
        pool.unwrap().install(|| {
            let executor = Executor::rayon();
            executor.threads() == 3 && run(&layer, &problem.x, executor) == expected
        })
    });
}

#[test]
fn a_child_that_a_thread_of_a_pool_forks_answers_too() {
    let (problem, layer) = problem();
    let expected = run(&layer, &problem.x, Executor::serial());
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build();
    pool.unwrap().install(|| {
        assert_eq!(run(&layer, &problem.x, Executor::rayon()), expected);
        assert_in_child(|| run(&layer, &problem.x, Executor::rayon()) == expected);
    });
}

#[test]
fn a_forked_child_builds_and_judges_as_its_parent() {
    let problem = Problem::new(64, 48, 32);
    let layer = |name: &str| FloatLayer {
        name: name.to_string(),
        weight: &problem.weight,
        bias: &problem.bias,
        rows: &problem.x,
        weight_bits: 8,
        activation_bits: 8,
    };
    let layers = [layer("one"), layer("two")];
    let (expected, _) = calibrate(&layers, |_| ()).unwrap();
    assert_in_child(|| {
        let (got, _) = calibrate(&layers, |_| ()).unwrap();
        got["two"].weight_codes() == expected["two"].weight_codes()
    });
    assert_in_child(|| {
        let built = problem.builder().calibration_rows(&problem.x).build_auto();
        built.unwrap().0.weight_codes() == expected["one"].weight_codes()
    });
    let judge = || Errors::measure(&problem.x, &[0.5; 64 * 48], 48);
    let judged = judge();
    assert_in_child(|| judge() == judged);
}
