//! The whole layer against the unblocked oracle, on every instruction set of this CPU.

mod common;

use std::io::Write;

use common::{Problem, Rng, bits, isas};
use half::{bf16, f16};
use noisyquant::{
    ActivationRange, Element, Executor, Isa, MatMut, MatRef, Noise, Packing, Quantizer, Scratch,
};
use proptest::prelude::*;

#[test]
fn equals_the_oracle_over_shapes_and_isas() {
    let ms = [1, 2, 3, 5, 6, 7, 11, 12, 13, 25, 100];
    let ks = [1, 3, 63, 64, 65, 130, 384];
    let ns = [1, 4, 5, 15, 16, 17, 31, 32, 33, 65, 100];
    let mut ran = std::collections::BTreeSet::new();
    for isa in isas() {
        for (i, m) in ms.into_iter().enumerate() {
            for (j, k) in ks.into_iter().enumerate() {
                let n = ns[(i + 3 * j) % ns.len()];
                let bits_of = |i: usize| [8, 6, 4, 2, 7, 3, 5][i % 7];
                let problem = Problem::new(m, k, n);
                let layer = problem
                    .builder()
                    .weight_bits(bits_of(i + j))
                    .activation_bits(bits_of(i))
                    .quantizer(match j % 3 {
                        0 => Quantizer::symmetric(ActivationRange::MinMax),
                        1 => Quantizer::asymmetric(ActivationRange::Percentile(99.0)),
                        _ => Quantizer::symmetric(ActivationRange::Mse),
                    })
                    .noise(Noise::Uniform {
                        range: 0.05,
                        seed: 3,
                    })
                    .calibration_rows(&problem.x)
                    .isa(isa)
                    .build()
                    .unwrap();
                let expected = problem.oracle(&layer, &problem.x);
                let got = layer.forward(&problem.x).unwrap();
                assert_eq!(
                    bits(&got),
                    bits(&expected),
                    "{} {m}x{k}x{n}",
                    layer.kernel()
                );
                ran.insert(layer.isa().name());
            }
        }
    }
    writeln!(std::io::stderr(), "layer: executed {ran:?}").unwrap();
    assert_eq!(
        ran.len(),
        isas().len(),
        "executed {ran:?}, available {:?}",
        isas()
    );
}

#[test]
fn dense_layers_are_smaller_and_give_the_same_bits() {
    for isa in isas() {
        for bits_of_weights in 2..=8 {
            for (m, k, n) in [(1, 130, 33), (3, 65, 100), (8, 64, 32), (25, 200, 65)] {
                let problem = Problem::new(m, k, n);
                let builder = problem.builder().weight_bits(bits_of_weights).isa(isa);
                let builder = builder
                    .quantizer(Quantizer::symmetric(ActivationRange::MinMax))
                    .calibration_rows(&problem.x);
                let layer = builder.build().unwrap();
                let dense = builder.packing(Packing::Dense).build().unwrap();
                let case = format!("{} {m}x{k}x{n}", dense.kernel());
                let (got, expected) = (dense.forward(&problem.x), layer.forward(&problem.x));
                assert_eq!(bits(&got.unwrap()), bits(&expected.unwrap()), "{case}");
                assert_eq!(dense.numbers(), layer.numbers(), "{case}");
                assert_eq!(layer.packing(), Packing::Expanded, "{case}");
                let weights = n.next_multiple_of(32) * k.next_multiple_of(64);
                let there = isa == Isa::Avx512Vnni && bits_of_weights <= 6;
                if there {
                    let each = if bits_of_weights <= 4 { 4 } else { 6 };
                    assert_eq!(dense.packing(), Packing::Dense, "{case}");
                    assert_eq!(dense.packed_bytes(), weights / 8 * each, "{case}");
                    let plan = dense.explain(m).to_string();
                    assert!(plan.contains(&format!("dense, {each} bits")), "{plan}");
                } else {
                    assert_eq!(dense.packing(), Packing::Expanded, "{case}");
                    assert_eq!(dense.kernel(), layer.kernel());
                }
                let back = dense.with_packing(Packing::Expanded).unwrap();
                assert_eq!(back.kernel(), layer.kernel(), "{case}");
                assert_eq!(back.packed_bytes(), layer.packed_bytes(), "{case}");
            }
        }
    }
}

#[test]
fn every_pair_of_bits_is_exact_at_the_extremes() {
    // All-equal signs drive every accumulator to its extreme; ±1e9 saturates every code.
    for isa in isas() {
        for activation_bits in 2..=8 {
            for weight_bits in 2..=8 {
                let mut problem = Problem::new(7, 200, 33);
                for (i, w) in problem.weight.iter_mut().enumerate() {
                    *w = if i / 200 % 2 == 0 { 1.0 } else { -1.0 };
                }
                for (i, x) in problem.x.iter_mut().enumerate() {
                    *x = [1e9, -1e9, f32::INFINITY, f32::NAN][(i / 200) % 4];
                }
                let layer = problem
                    .builder()
                    .weight_bits(weight_bits)
                    .activation_bits(activation_bits)
                    .quantizer(Quantizer::asymmetric(ActivationRange::Fixed {
                        min: -1.0,
                        max: 3.0,
                    }))
                    .isa(isa)
                    .build()
                    .unwrap();
                let expected = problem.oracle(&layer, &problem.x);
                let got = layer.forward(&problem.x).unwrap();
                assert_eq!(
                    bits(&got),
                    bits(&expected),
                    "W{weight_bits}A{activation_bits} {isa}"
                );
            }
        }
    }
}

/// Input and output as `T`, strided, with sentinels between the rows.
fn check_strided<T: Element + PartialEq + std::fmt::Debug>() {
    for isa in isas() {
        for (m, k, n) in [(1, 70, 33), (13, 65, 40), (30, 128, 7)] {
            let problem = Problem::new(m, k, n);
            let (x_stride, y_stride) = (k + 3, n + 5);
            let mut x = vec![T::from_f32(f32::NAN); m * x_stride];
            for (i, v) in problem.x.iter().enumerate() {
                x[i / k * x_stride + i % k] = T::from_f32(*v);
            }
            let rounded: Vec<f32> = problem.x.iter().map(|v| T::from_f32(*v).to_f32()).collect();
            let layer = problem
                .builder()
                .noise(Noise::Searched { seed: 1 })
                .calibration_rows(&problem.x)
                .isa(isa)
                .build()
                .unwrap();
            let sentinel = T::from_f32(-123.0);
            let mut y = vec![sentinel; (m - 1) * y_stride + n];
            let views = (
                MatRef::new(&x, m, k, x_stride).unwrap(),
                MatMut::new(&mut y, m, n, y_stride).unwrap(),
            );
            layer
                .forward_view(views.0, views.1, &mut layer.scratch(m), Executor::default())
                .unwrap();
            let expected = problem.oracle(&layer, &rounded);
            for (i, v) in y.iter().enumerate() {
                let (r, c) = (i / y_stride, i % y_stride);
                let expected = if c < n {
                    T::from_f32(expected[r * n + c])
                } else {
                    sentinel
                };
                assert_eq!(*v, expected, "{isa} {m}x{k}x{n} at {:?}", (r, c));
            }
        }
    }
}

#[test]
fn strided_views_of_every_element_type() {
    check_strided::<f32>();
    check_strided::<f16>();
    check_strided::<bf16>();
}

#[test]
fn input_and_output_types_may_differ() {
    let problem = Problem::new(5, 96, 20);
    let layer = problem
        .builder()
        .calibration_rows(&problem.x)
        .build()
        .unwrap();
    let x: Vec<bf16> = problem.x.iter().map(|v| bf16::from_f32(*v)).collect();
    let mut y = vec![f16::ZERO; 5 * 20];
    layer
        .forward_into(&x, &mut y, &mut layer.scratch(5), Executor::default())
        .unwrap();
    let rounded: Vec<f32> = x.iter().map(|v| v.to_f32()).collect();
    let expected = problem.oracle(&layer, &rounded);
    let expected: Vec<f16> = expected.iter().map(|v| f16::from_f32(*v)).collect();
    assert_eq!(y, expected);
}

#[test]
fn no_rows_is_nothing_to_do() {
    let problem = Problem::new(1, 8, 8);
    let layer = problem
        .builder()
        .calibration_rows(&problem.x)
        .build()
        .unwrap();
    assert!(layer.forward::<f32>(&[]).unwrap().is_empty());
    layer
        .forward_into::<f32, f32>(&[], &mut [], &mut layer.scratch(0), Executor::default())
        .unwrap();
}

#[test]
fn many_blocks_of_rows_and_a_scratch_made_for_more() {
    // K so large that the codes of all rows do not fit one block.
    let problem = Problem::new(300, 6000, 9);
    for isa in isas().into_iter().filter(|isa| isa.name() != "scalar") {
        let layer = problem
            .builder()
            .calibration_rows(&problem.x)
            .isa(isa)
            .build()
            .unwrap();
        assert!(layer.explain(300).block_rows < 300);
        let mut scratch = Scratch::with_bytes(layer.scratch_bytes(10_000, 1));
        let mut y = vec![0f32; 300 * 9];
        layer
            .forward_into(&problem.x, &mut y, &mut scratch, Executor::serial())
            .unwrap();
        assert_eq!(bits(&y), bits(&problem.oracle(&layer, &problem.x)), "{isa}");
    }
}

#[test]
fn a_layer_is_shared_between_threads_and_explains_itself() {
    fn send_and_sync<T: Send + Sync>(_: &T) {}
    let problem = Problem::new(197, 384, 64);
    let layer = problem
        .builder()
        .calibration_rows(&problem.x)
        .build()
        .unwrap();
    send_and_sync(&layer);
    let plan = layer.explain(197);
    assert_eq!(plan.kernel, layer.kernel());
    assert_eq!(plan.isa, layer.isa());
    let text = plan.to_string();
    assert!(
        text.contains(layer.kernel()) && text.contains("rows"),
        "{text}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_shape_bits_and_noise(
        (m, k, n) in (1usize..40, 1usize..300, 1usize..80),
        weight_bits in 2u32..=8,
        activation_bits in 2u32..=8,
        range in 0f32..3.0,
        seed: u64,
    ) {
        let mut problem = Problem::new(m, k, n);
        problem.x = Rng(seed).heavy_tailed(m * k);
        let mut outputs = Vec::new();
        for isa in isas() {
            let layer = problem
                .builder()
                .weight_bits(weight_bits)
                .activation_bits(activation_bits)
                .noise(Noise::Uniform { range, seed })
                .calibration_rows(&problem.x)
                .isa(isa)
                .build()
                .unwrap();
            let expected = problem.oracle(&layer, &problem.x);
            let got = layer.forward(&problem.x).unwrap();
            prop_assert_eq!(bits(&got), bits(&expected), "{}", layer.kernel());
            outputs.push(bits(&got));
        }
        prop_assert!(outputs.windows(2).all(|w| w[0] == w[1]), "the bits depend on the ISA");
    }
}
