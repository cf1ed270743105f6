//! Norms by themselves, in front of a layer and in an MLP: next to the same in single steps, bit for bit, on
//! every instruction set.

mod chained;
mod common;

use chained::{apart, layer, view, view_mut};
use common::{Rng, bits, isas};
use noisyquant::half::f16;
use noisyquant::{Activation, Error, Executor, Input, Isa, MatMut, MatRef, Mlp, Norm, Scratch};

/// A LayerNorm and an RMSNorm of random numbers.
fn norms(width: usize) -> [Norm; 2] {
    let mut rng = Rng(21);
    let weight: Vec<f32> = rng.floats(width).iter().map(|v| 1.0 + 0.5 * v).collect();
    let layer = Norm::layer(&weight, &rng.floats(width), 1e-6);
    [layer, Norm::rms(&weight, 1e-5)].map(Result::unwrap)
}

/// The norm of all rows.
fn normed(norm: &Norm, x: &[f32]) -> Vec<f32> {
    let mut y = vec![f32::NAN; x.len()];
    let width = norm.width();
    norm.forward(view(x, width), view_mut(&mut y, width))
        .unwrap();
    y
}

#[test]
fn norms_are_those_of_their_equations() {
    for width in [1, 37, 384] {
        let x: Vec<f32> = Rng(5).floats(3 * width).iter().map(|v| v + 10.0).collect();
        for (norm, centred) in norms(width).iter().zip([true, false]) {
            let y = normed(norm, &x);
            for (x, y) in x.chunks(width).zip(y.chunks(width)) {
                let mean = |of: &dyn Fn(f64) -> f64| -> f64 {
                    x.iter().map(|&x| of(x.into())).sum::<f64>() / width as f64
                };
                let middle = if centred { mean(&|x| x) } else { 0.0 };
                let eps = if centred { 1e-6 } else { 1e-5 };
                let scale = (mean(&|x| (x - middle).powi(2)) + eps).sqrt();
                for (i, (&x, &y)) in x.iter().zip(y).enumerate() {
                    let normal = (f64::from(x) - middle) / scale;
                    let expected = normal * f64::from(norm.weight()[i]) + f64::from(norm.bias()[i]);
                    assert!(
                        (f64::from(y) - expected).abs() < 2e-5,
                        "{y}, not {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_norm_in_front_is_the_norm_and_then_the_layer() {
    let parallel_for = |count: usize, task: &(dyn Fn(usize) + Sync)| {
        std::thread::scope(|scope| (0..count).for_each(|i| _ = scope.spawn(move || task(i))));
    };
    for isa in isas() {
        // Rows of 5000 numbers are more than the room for a few of them.
        for (k, n) in [(64, 96), (37, 29), (384, 70), (5000, 33)] {
            for (bits_of, twin) in [(8, None), (6, Some(3)), (3, Some(3))] {
                let layer = layer(6, (n, k), bits_of, twin, isa);
                for (norm, rows) in norms(k).iter().zip([1, 60]) {
                    let x = Rng(rows as u64).heavy_tailed(rows * k);
                    let expected = layer.forward(&normed(norm, &x)).unwrap();
                    for threads in [1, 3] {
                        let executor = Executor::host(threads, &parallel_for);
                        let mut scratch = Scratch::with_bytes(layer.scratch_bytes(rows, threads));
                        let mut y = vec![f32::NAN; rows * n];
                        let (input, output) = (
                            Input::Normed {
                                x: view(&x, k),
                                norm,
                            },
                            view_mut(&mut y, n).into(),
                        );
                        let none = Activation::Identity;
                        layer
                            .forward_with(input, none, output, &mut scratch, executor)
                            .unwrap();
                        let case = format!("{isa} {k},{n} {bits_of} {twin:?} {rows} {threads}");
                        assert_eq!(bits(&y), bits(&expected), "{case}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_residual_mlp_is_norm_layers_and_addition() {
    let parallel_for = |count: usize, task: &(dyn Fn(usize) + Sync)| {
        std::thread::scope(|scope| (0..count).for_each(|i| _ = scope.spawn(move || task(i))));
    };
    for isa in isas() {
        for (width, hidden, rows) in [(96, 200, 1), (37, 75, 50), (64, 128, 131), (8, 64, 5000)] {
            for (norm, twin) in norms(width).iter().cycle().zip([None, Some(2), Some(3)]) {
                let fc1 = layer(1, (hidden, width), 6, None, isa);
                let fc2 = layer(2, (width, hidden), 6, twin, isa);
                let x = Rng(rows as u64).heavy_tailed(rows * width);
                let update = apart(&fc1, Activation::Gelu, &fc2, &normed(norm, &x));
                let expected: Vec<f32> = x.iter().zip(update).map(|(x, y)| x + y).collect();
                let mlp = Mlp::new(fc1, Activation::Gelu, fc2).unwrap();
                for threads in [1, 4] {
                    let executor = Executor::host(threads, &parallel_for);
                    let mut scratch = Scratch::with_bytes(mlp.scratch_bytes(rows, threads));
                    let mut tokens = x.clone();
                    let all = view_mut(&mut tokens, width);
                    mlp.forward_residual(norm, all, &mut scratch, executor)
                        .unwrap();
                    let case = format!("{isa} {width},{hidden} {rows} {threads}");
                    assert_eq!(bits(&tokens), bits(&expected), "{case}");
                }
            }
        }
    }
}

#[test]
fn norms_that_do_not_fit_are_errors() {
    let said = |norm: Result<Norm, Error>| norm.unwrap_err().to_string();
    assert_eq!(
        said(Norm::rms(&[], 0.0)),
        "features of a norm: expected 1..=65536, got 0"
    );
    assert_eq!(
        said(Norm::layer(&[1.0; 3], &[0.0; 2], 0.0)),
        "biases of a norm: expected 3 elements, got 2"
    );
    for eps in [-1e-9, f32::NAN, f32::INFINITY] {
        let said = said(Norm::rms(&[1.0], eps));
        let expected = "eps: expected a finite value, 0 or more, got ";
        assert!(said.starts_with(expected), "{said}");
    }
    let norm = Norm::rms(&[1.0; 4], 0.0).unwrap();
    let mut y = [0f32; 12];
    let said = |x: MatRef<'_>, y: MatMut<'_>| norm.forward(x, y).unwrap_err().to_string();
    assert_eq!(
        said(view(&[0.0; 9], 3), view_mut(&mut y, 4)),
        "input of a norm: expected (3, 4) (rows, columns), got (3, 3)"
    );
    assert_eq!(
        said(view(&[0.0; 8], 4), view_mut(&mut y, 4)),
        "output: expected (2, 4) (rows, columns), got (3, 4)"
    );
    let mut narrow = [f16::ZERO; 12];
    let x = MatRef::new(&narrow, 3, 4, 4).unwrap();
    assert_eq!(
        said(x, view_mut(&mut y, 4)),
        "input of a norm: expected f32, got f16"
    );
    let to = MatMut::new(&mut narrow, 3, 4, 4).unwrap();
    assert_eq!(
        said(view(&[0.0; 12], 4), to),
        "output of a norm: expected f32, got f16"
    );

    let isa = Isa::Scalar;
    let (fc1, fc2) = (
        layer(1, (8, 4), 8, None, isa),
        layer(2, (4, 8), 8, None, isa),
    );
    let (mut scratch, here) = (Scratch::with_bytes(1 << 20), Executor::serial());
    let input = Input::Normed {
        x: view(&[0.0; 16], 8),
        norm: &norm,
    };
    let output = view_mut(&mut y, 4).into();
    let said = fc2.forward_with(input, Activation::Identity, output, &mut scratch, here);
    assert_eq!(
        said.unwrap_err().to_string(),
        "input of a norm: expected (2, 4) (rows, columns), got (2, 8)"
    );
    let mlp = Mlp::new(fc1.clone(), Activation::Relu, fc2).unwrap();
    let tokens = view_mut(&mut y, 3);
    let said = mlp.forward_residual(&norm, tokens, &mut scratch, here);
    assert_eq!(
        said.unwrap_err().to_string(),
        "input of a norm: expected (4, 4) (rows, columns), got (4, 3)"
    );
    let wider = Mlp::new(fc1, Activation::Relu, layer(2, (6, 8), 8, None, isa)).unwrap();
    let said = wider.forward_residual(&norm, view_mut(&mut y, 4), &mut scratch, here);
    assert_eq!(
        said.unwrap_err().to_string(),
        "output: expected (3, 6) (rows, columns), got (3, 4)"
    );
    let nothing = view_mut(&mut [], 4);
    let none = &mut Scratch::with_bytes(0);
    assert_eq!(mlp.forward_residual(&norm, nothing, none, here), Ok(()));
}
