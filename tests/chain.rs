//! Layers in a row, with codes between them and what is else on the way, next to the same in single steps:
//! bit for bit, on every instruction set, executor and number of rows.

mod common;

use common::{Rng, bits, isas};
use noisyquant::half::f16;
use noisyquant::{
    Activation, Error, Executor, Input, Isa, MatMut, MatRef, Mlp, Norm, Numbers, Output,
    QuantLinear, Scratch,
};

/// A layer of random numbers, with noise, channel scales and a zero point, or a twin quantizer of that shift.
fn layer(seed: u64, (n, k): (usize, usize), bits: u32, twin: Option<u32>, isa: Isa) -> QuantLinear {
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
fn apart(fc1: &QuantLinear, activation: Activation, fc2: &QuantLinear, x: &[f32]) -> Vec<f32> {
    let mut hidden = fc1.forward(x).unwrap();
    hidden.iter_mut().for_each(|y| *y = activation.of(*y));
    fc2.forward(&hidden).unwrap()
}

fn view(x: &[f32], cols: usize) -> MatRef<'_> {
    MatRef::new(x, x.len() / cols, cols, cols).unwrap()
}

fn view_mut(y: &mut [f32], cols: usize) -> MatMut<'_> {
    MatMut::new(y, y.len() / cols, cols, cols).unwrap()
}

/// Bits and shifts of twin quantizers whose codes fit a byte.
const TWINS: [(u32, Option<u32>); 3] = [(8, Some(0)), (6, Some(2)), (4, Some(5))];

/// Inputs, hidden features and outputs: whole panels and lines, and neither.
const SHAPES: [(usize, usize, usize); 4] =
    [(64, 128, 32), (37, 75, 29), (96, 200, 40), (5, 64, 70)];

#[test]
fn an_mlp_is_its_layers_one_after_the_other() {
    let parallel_for = |count: usize, task: &(dyn Fn(usize) + Sync)| {
        std::thread::scope(|scope| (0..count).for_each(|i| _ = scope.spawn(move || task(i))));
    };
    let mut activations = Activation::ALL.into_iter().cycle();
    for isa in isas() {
        for (k, hidden, n) in SHAPES {
            let others = [(8, None), (6, None), (4, None), (6, Some(3))];
            for (bits_of, twin) in others.into_iter().chain(TWINS) {
                let fc1 = layer(1, (hidden, k), bits_of, None, isa);
                let fc2 = layer(2, (n, hidden), bits_of, twin, isa);
                for rows in [1, 3, 50, 131] {
                    let activation = activations.next().unwrap();
                    let x = Rng(rows as u64).heavy_tailed(rows * k);
                    let expected = apart(&fc1, activation, &fc2, &x);
                    let mlp = Mlp::new(fc1.clone(), activation, fc2.clone()).unwrap();
                    for threads in [1, 5] {
                        let executor = match threads {
                            1 => Executor::serial(),
                            _ => Executor::host(threads, &parallel_for),
                        };
                        let case =
                            format!("{isa} {k},{hidden},{n} {bits_of} {twin:?} {rows} {threads}");
                        let mut scratch = Scratch::with_bytes(mlp.scratch_bytes(rows, threads));
                        let mut y = vec![f32::NAN; rows * n];
                        let output = view_mut(&mut y, n).into();
                        mlp.forward(view(&x, k).into(), output, &mut scratch, executor)
                            .unwrap();
                        assert_eq!(bits(&y), bits(&expected), "{case} {activation:?}");

                        // And added to what is there, in a scratch that holds one task.
                        let mut sums = Rng(9).floats(rows * n);
                        let there = sums.clone();
                        let mut scratch = Scratch::with_bytes(mlp.scratch_bytes(rows, 1));
                        let output = Output::Added(view_mut(&mut sums, n));
                        mlp.forward(view(&x, k).into(), output, &mut scratch, executor)
                            .unwrap();
                        for ((sum, there), y) in sums.iter().zip(there).zip(&expected) {
                            assert_eq!(sum.to_bits(), (there + y).to_bits(), "{case}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn more_rows_than_a_block_are_the_same() {
    let (k, hidden, n) = (5, 64, 3);
    for isa in isas() {
        let fc1 = layer(1, (hidden, k), 8, None, isa);
        let fc2 = layer(2, (n, hidden), 8, None, isa);
        // Of codes of 128 bytes a row, half of an L2 of 2 MiB holds 8192.
        let rows = 9000;
        let x = Rng(3).heavy_tailed(rows * k);
        let expected = apart(&fc1, Activation::Gelu, &fc2, &x);
        let mlp = Mlp::new(fc1, Activation::Gelu, fc2).unwrap();
        let mut scratch = Scratch::with_bytes(mlp.scratch_bytes(rows, 1));
        let mut y = vec![f32::NAN; rows * n];
        let output = view_mut(&mut y, n).into();
        mlp.forward(view(&x, k).into(), output, &mut scratch, Executor::serial())
            .unwrap();
        assert_eq!(bits(&y), bits(&expected), "{isa}");
    }
}

#[test]
fn codes_go_from_layer_to_layer() {
    let mut activations = Activation::ALL.into_iter().cycle();
    for isa in isas() {
        let quantizers = [(6, None)].into_iter().chain(TWINS);
        let cases = SHAPES
            .into_iter()
            .flat_map(|shape| quantizers.clone().map(move |q| (shape, q)));
        for ((k, hidden, n), (bits_of, twin)) in cases {
            let fc1 = layer(3, (hidden, k), 8, None, isa);
            let fc2 = layer(4, (n, hidden), bits_of, twin, isa);
            let bytes = fc1.scratch_bytes(200, 2).max(fc2.scratch_bytes(200, 2));
            let mut scratch = Scratch::with_bytes(bytes);
            let mut codes = fc2.codes(200).unwrap();
            assert_eq!((codes.rows(), codes.cols()), (0, hidden));
            for rows in [200, 1, 13, 0] {
                let activation = activations.next().unwrap();
                let x = Rng(rows as u64).heavy_tailed(rows * k);
                let executor = Executor::rayon();
                let (input, output) = (view(&x, k).into(), (&mut codes).into());
                fc1.forward_with(input, activation, output, &mut scratch, executor)
                    .unwrap();
                assert_eq!(codes.rows(), rows);
                let mut y = vec![0.0; rows * n];
                let (input, output) = ((&codes).into(), view_mut(&mut y, n).into());
                let none = Activation::Identity;
                fc2.clone()
                    .forward_with(input, none, output, &mut scratch, executor)
                    .unwrap();
                let expected = apart(&fc1, activation, &fc2, &x);
                assert_eq!(
                    bits(&y),
                    bits(&expected),
                    "{isa} {k},{hidden},{n} {bits_of} {twin:?} {rows} {activation:?}"
                );
            }
            // Of numbers, as the layer itself does it.
            for rows in [7, 200] {
                let x = Rng(5).heavy_tailed(rows * hidden);
                codes.quantize(view(&x, hidden)).unwrap();
                let mut y = vec![0.0; rows * n];
                let (input, output) = ((&codes).into(), view_mut(&mut y, n).into());
                let none = Activation::Identity;
                fc2.forward_with(input, none, output, &mut scratch, Executor::serial())
                    .unwrap();
                assert_eq!(
                    bits(&y),
                    bits(&fc2.forward(&x).unwrap()),
                    "{isa} {k},{hidden},{n} {bits_of} {twin:?} {rows}"
                );
            }
        }
    }
}

#[test]
fn activations_and_sums_are_those_of_single_steps() {
    for isa in isas() {
        for twin in [None, Some(2), Some(3)] {
            let layer = layer(6, (75, 37), 6, twin, isa);
            let mut scratch = Scratch::with_bytes(layer.scratch_bytes(50, 1));
            let x = Rng(7).heavy_tailed(50 * 37);
            let plain = layer.forward(&x).unwrap();
            for activation in Activation::ALL {
                let mut y = Rng(8).floats(50 * 75);
                let expected: Vec<f32> = y
                    .iter()
                    .zip(&plain)
                    .map(|(y, v)| y + activation.of(*v))
                    .collect();
                let (input, output) = (view(&x, 37).into(), Output::Added(view_mut(&mut y, 75)));
                let here = Executor::serial();
                layer
                    .forward_with(input, activation, output, &mut scratch, here)
                    .unwrap();
                assert_eq!(bits(&y), bits(&expected), "{isa} {activation:?} {twin:?}");

                let mut narrow = vec![f16::ZERO; 50 * 75];
                let output = Output::Rows(MatMut::new(&mut narrow, 50, 75, 75).unwrap());
                layer
                    .forward_with(input, activation, output, &mut scratch, here)
                    .unwrap();
                for (y, v) in narrow.iter().zip(&plain) {
                    let expected = f16::from_f32(activation.of(*v));
                    assert_eq!(
                        y.to_bits(),
                        expected.to_bits(),
                        "{isa} {activation:?} {twin:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn operands_that_do_not_fit_are_errors() {
    let isa = Isa::Scalar;
    let (fc1, fc2) = (
        layer(1, (8, 4), 8, None, isa),
        layer(2, (4, 8), 8, None, isa),
    );
    let mut scratch = Scratch::with_bytes(1 << 16);
    let here = Executor::serial();
    let none = Activation::Identity;
    let x = [0.5f32; 3 * 4];
    let mut y = [0f32; 3 * 4];

    // Codes of a layer with the same numbers, which is another layer all the same.
    let other = layer(2, (4, 8), 8, None, isa);
    let mut codes = other.codes(3).unwrap();
    let run = fc1.forward_with(
        view(&x, 4).into(),
        none,
        (&mut codes).into(),
        &mut scratch,
        here,
    );
    assert_eq!(run, Ok(()));
    let said = fc2
        .forward_with(
            (&codes).into(),
            none,
            view_mut(&mut y, 4).into(),
            &mut scratch,
            here,
        )
        .unwrap_err();
    assert_eq!(
        said.to_string(),
        "codes: expected codes that were made for this layer, got codes for another one"
    );

    // Too many rows, and of the wrong length.
    let four = [0.5f32; 4 * 4];
    let said = fc1
        .forward_with(
            view(&four, 4).into(),
            none,
            (&mut codes).into(),
            &mut scratch,
            here,
        )
        .unwrap_err();
    assert_eq!(said.to_string(), "rows of codes: expected 0..=3, got 4");
    // What an error has left is no codes.
    assert_eq!(codes.rows(), 0);
    let mut none_left = Scratch::with_bytes(0);
    let to = (&mut codes).into();
    let said = fc1.forward_with(view(&x, 4).into(), none, to, &mut none_left, here);
    assert!(matches!(said, Err(Error::ScratchTooSmall { .. })));
    assert_eq!(codes.rows(), 0);
    let mut wide = fc1.codes(3).unwrap();
    let said = fc1
        .forward_with(
            view(&x, 4).into(),
            none,
            (&mut wide).into(),
            &mut scratch,
            here,
        )
        .unwrap_err();
    assert_eq!(
        said.to_string(),
        "output: expected (3, 8) (rows, columns), got (3, 4)"
    );
    let said = codes.quantize(view(&x, 4)).unwrap_err();
    assert_eq!(
        said.to_string(),
        "input: expected (3, 8) (rows, columns), got (3, 4)"
    );

    // A twin quantizer whose two codes for a number do not fit a byte.
    let twin = layer(3, (4, 8), 8, Some(1), isa);
    let said = twin.codes(3).unwrap_err();
    assert_eq!(
        said.to_string(),
        "codes: expected a reader whose codes fit a byte, got one with a twin quantizer whose codes do not"
    );

    // The host's memory.
    let mut arena = [0u64; 64];
    let arena: &mut [u8] = &mut arena
        .iter_mut()
        .flat_map(|v| v.to_ne_bytes())
        .collect::<Vec<u8>>();
    let start = arena.as_ptr().align_offset(Scratch::ALIGN);
    assert!(matches!(
        fc2.codes_in(3, &mut arena[start + 1..]),
        Err(Error::Alignment { .. })
    ));
    let bytes = fc2.codes_bytes(3);
    let said = fc2
        .codes_in(3, &mut arena[start..start + bytes - 1])
        .unwrap_err();
    assert!(
        said.to_string()
            .starts_with("memory of codes: expected at least 192 bytes"),
        "{said}"
    );
    assert!(fc2.codes_in(3, &mut arena[start..start + bytes]).is_ok());
    assert!(matches!(fc2.codes(usize::MAX), Err(Error::Memory { .. })));

    // A residual of other elements.
    let mut narrow = [f16::ZERO; 3 * 8];
    let output = Output::Added(MatMut::new(&mut narrow, 3, 8, 8).unwrap());
    let said = fc1
        .forward_with(view(&x, 4).into(), none, output, &mut scratch, here)
        .unwrap_err();
    assert_eq!(said.to_string(), "residual: expected f32, got f16");

    // Layers that are no MLP, and calls of one that do not fit.
    let said = Mlp::new(fc1.clone(), none, fc1.clone()).unwrap_err();
    assert_eq!(
        said.to_string(),
        "second layer of an MLP: expected (8, 8) (rows, columns), got (8, 4)"
    );
    let mlp = Mlp::new(fc1, none, fc2).unwrap();
    let said = mlp
        .forward(
            view(&x, 3).into(),
            view_mut(&mut y, 4).into(),
            &mut scratch,
            here,
        )
        .unwrap_err();
    assert_eq!(
        said.to_string(),
        "input: expected (4, 4) (rows, columns), got (4, 3)"
    );
    let said = mlp
        .forward(
            view(&x, 4).into(),
            view_mut(&mut y, 6).into(),
            &mut scratch,
            here,
        )
        .unwrap_err();
    assert_eq!(
        said.to_string(),
        "output: expected (3, 4) (rows, columns), got (2, 6)"
    );
    let mut small = Scratch::with_bytes(mlp.scratch_bytes(3, 1) - 1);
    let said = mlp
        .forward(
            view(&x, 4).into(),
            view_mut(&mut y, 4).into(),
            &mut small,
            here,
        )
        .unwrap_err();
    assert!(
        matches!(said, Error::ScratchTooSmall { rows: 3, .. }),
        "{said}"
    );
    let nothing = mlp.forward(
        view(&[], 4).into(),
        view_mut(&mut [], 4).into(),
        &mut small,
        here,
    );
    assert_eq!(nothing, Ok(()));
    assert!(matches!(Input::from(view(&x, 4)), Input::Rows(_)));
}

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
