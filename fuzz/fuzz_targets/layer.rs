//! Differential: the layer on an instruction set of this CPU against the scalar rows, bit for bit.
//!
//! The input chooses shape, strides, element types, bits, packing, quantizer, noise, threads, instruction
//! set and a seed; the seed fills weights and activations, some of them special floats. Both layers
//! must agree: on refusing the input, or on every output bit, and leave the gaps of strided
//! outputs alone.

#![no_main]

mod numbers;

use arbitrary::Arbitrary;
use half::{bf16, f16};
use libfuzzer_sys::fuzz_target;
use noisyquant::{
    ActivationRange, Element, Executor, Isa, MatMut, MatRef, Noise, Packing, QuantLinear,
    Quantizer, Scratch,
};
use numbers::Rng;

#[derive(Arbitrary, Debug)]
struct Case {
    m: u8,
    k: u16,
    n: u8,
    x_gap: u8,
    y_gap: u8,
    weight_bits: u8,
    activation_bits: u8,
    elements: u8,
    quantizer: u8,
    noise: u8,
    noise_scale: i8,
    isa: u8,
    dense: bool,
    threads: u8,
    specials: u8,
    exponent: i8,
    seed: u64,
}

fn run<T: Element, U: Element>(layer: &QuantLinear, x: &[f32], case: &Case) -> Vec<u32> {
    let (m, k, n) = (
        usize::from(case.m % 48),
        layer.in_features(),
        layer.out_features(),
    );
    let (x_stride, y_stride) = (
        k + usize::from(case.x_gap % 9),
        n + usize::from(case.y_gap % 9),
    );
    let mut input = vec![T::from_f32(f32::NAN); (m * x_stride).saturating_sub(x_stride - k)];
    for (i, v) in x.iter().enumerate() {
        input[i / k * x_stride + i % k] = T::from_f32(*v);
    }
    let mut y = vec![U::from_f32(-77.0); (m * y_stride).saturating_sub(y_stride - n)];
    // As many tasks as so many threads get, one after the other, from the last to the first.
    let threads = usize::from(case.threads % 3) + 1;
    let in_turn = |count: usize, task: &(dyn Fn(usize) + Sync)| (0..count).rev().for_each(task);
    let executor = Executor::host(threads, &in_turn);
    let mut scratch = Scratch::with_bytes(layer.scratch_bytes(m, threads));
    let views = (
        MatRef::new(&input, m, k, x_stride).expect("fits"),
        MatMut::new(&mut y, m, n, y_stride).expect("fits"),
    );
    layer
        .forward_view(views.0, views.1, &mut scratch, executor)
        .expect("valid views");
    y.into_iter().map(|v| v.to_f32().to_bits()).collect()
}

fn outputs(layer: &QuantLinear, x: &[f32], case: &Case) -> Vec<u32> {
    match case.elements % 6 {
        0 => run::<f32, f32>(layer, x, case),
        1 => run::<f16, f16>(layer, x, case),
        2 => run::<bf16, bf16>(layer, x, case),
        3 => run::<f32, bf16>(layer, x, case),
        4 => run::<bf16, f16>(layer, x, case),
        _ => run::<f16, f32>(layer, x, case),
    }
}

fuzz_target!(|case: Case| {
    let (m, k, n) = (
        usize::from(case.m % 48),
        usize::from(case.k % 400),
        usize::from(case.n % 96),
    );
    let mut rng = Rng(case.seed);
    let weight: Vec<f32> = (0..n * k).map(|_| rng.float()).collect();
    let bias: Vec<f32> = (0..n).map(|_| rng.float()).collect();
    let x = rng.inputs(m * k, case.specials, case.exponent);
    let rows: Vec<f32> = (0..8 * k).map(|_| rng.float()).collect();
    let range = f32::exp2(f32::from(case.noise_scale) / 2.0);
    let build = |isa: Isa| {
        QuantLinear::builder(&weight, n, k)
            .bias(&bias)
            .weight_bits(u32::from(case.weight_bits % 10))
            .activation_bits(u32::from(case.activation_bits % 10))
            .quantizer(match case.quantizer % 5 {
                0 => Quantizer::symmetric(ActivationRange::MinMax),
                1 => Quantizer::asymmetric(ActivationRange::MinMax),
                2 => Quantizer::symmetric(ActivationRange::Percentile(90.0)),
                3 => Quantizer::asymmetric(ActivationRange::Fixed {
                    min: -range,
                    max: 2.0 * range,
                }),
                _ => Quantizer::symmetric(ActivationRange::Fixed {
                    min: 0.0,
                    max: range,
                }),
            })
            .noise(match case.noise % 4 {
                0 => Noise::None,
                1 => Noise::Uniform {
                    range,
                    seed: case.seed,
                },
                2 => Noise::PerChannel((0..k).map(|i| (i as f32 - 3.0) * range).collect()),
                _ => Noise::Uniform {
                    range: range / 100.0,
                    seed: !case.seed,
                },
            })
            .calibration_rows(&rows)
            .packing(match case.dense {
                true => Packing::Dense,
                false => Packing::Expanded,
            })
            .isa(isa)
            .build()
    };
    let isas: Vec<Isa> = Isa::available().collect();
    let isa = isas[usize::from(case.isa) % isas.len()];
    match (build(Isa::Scalar), build(isa)) {
        (Ok(scalar), Ok(simd)) => {
            let expected = outputs(&scalar, &x, &case);
            assert_eq!(outputs(&simd, &x, &case), expected, "{}", simd.kernel());
        }
        (Err(scalar), Err(simd)) => assert_eq!(scalar, simd),
        (scalar, simd) => panic!("{scalar:?} on scalar, {simd:?} on {isa}"),
    }
});
