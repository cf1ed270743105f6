//! Layers in a row, with codes between them and what is else on the way, next to the same in single steps:
//! bit for bit, on every instruction set, executor and number of rows.

mod chained;
mod common;

use chained::{apart, layer, view, view_mut};
use common::{Rng, bits, isas};
use noisyquant::half::f16;
use noisyquant::{Activation, Error, Executor, Input, Isa, MatMut, Mlp, Output, Scratch};

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
fn an_mlp_reads_codes() {
    let (k, hidden, n) = (37, 75, 29);
    let serial_for = |count: usize, task: &(dyn Fn(usize) + Sync)| (0..count).for_each(task);
    for isa in isas() {
        for (rows, twin) in [(1, None), (60, Some(2)), (131, None)] {
            let fc1 = layer(1, (hidden, k), 6, twin, isa);
            let fc2 = layer(2, (n, hidden), 6, None, isa);
            let x = Rng(7).heavy_tailed(rows * k);
            let expected = apart(&fc1, Activation::Silu, &fc2, &x);
            let mut codes = fc1.codes(rows).unwrap();
            codes.quantize(view(&x, k)).unwrap();
            let mlp = Mlp::new(fc1, Activation::Silu, fc2).unwrap();
            for threads in [1, 3] {
                let executor = Executor::host(threads, &serial_for);
                let mut scratch = Scratch::with_bytes(mlp.scratch_bytes(rows, threads));
                let mut y = vec![f32::NAN; rows * n];
                let output = view_mut(&mut y, n).into();
                mlp.forward((&codes).into(), output, &mut scratch, executor)
                    .unwrap();
                assert_eq!(bits(&y), bits(&expected), "{isa} {rows} {threads}");
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
