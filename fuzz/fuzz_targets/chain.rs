//! Differential: layers in a row on an instruction set of this CPU, with a norm in front, activations, codes
//! between them and a residual at the end, against the scalar rows in single steps, bit for bit.
//!
//! The input chooses shapes, bits, quantizers (plain, and twin ones whose codes fit a byte or do not),
//! activations, what the first layer reads and what is between two layers, threads, and a seed that fills the
//! rest.

#![no_main]

mod numbers;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use noisyquant::{
    Activation, Codes, Executor, Input, Isa, MatMut, MatRef, Mlp, Norm, Numbers, Output,
    QuantLinear, Scratch,
};
use noisyquant_kernels::spec::{self, NormKind};
use numbers::Rng;

#[derive(Arbitrary, Debug)]
struct Layer {
    n: u8,
    bits: u8,
    zero_point: u8,
    twin_shift: u8,
    activation: u8,
    /// Whether the next layer gets codes, if it can.
    codes: bool,
}

#[derive(Arbitrary, Debug)]
struct Case {
    isa: u8,
    m: u8,
    k: u8,
    layers: [Layer; 3],
    count: u8,
    as_mlp: bool,
    norm: u8,
    /// Whether the first layer gets codes, if it can.
    codes: bool,
    added: bool,
    threads: u8,
    specials: u8,
    exponent: i8,
    seed: u64,
}

impl Layer {
    fn numbers(&self, k: usize, rng: &mut Rng) -> Numbers {
        let n = usize::from(self.n % 100) + 1;
        let bits = u32::from(self.bits % 7) + 2;
        let most = (1i32 << (bits - 1)) - 1;
        let code = |v: f32| (v * most as f32) as i8;
        let codes = (0..n * k).map(|_| code(rng.float())).collect();
        let scales = (0..n).map(|_| rng.float().abs() + 0.01).collect();
        let twin = self.twin_shift < 32;
        let middle = f32::from(1u8 << (bits - 1));
        let zero_point = if twin {
            middle
        } else {
            f32::from(self.zero_point)
        };
        let numbers = Numbers::new(codes, scales, 0.05, zero_point)
            .with_weight_bits(bits)
            .with_activation_bits(bits)
            .with_bias((0..n).map(|_| rng.float()).collect())
            .with_noise((0..k).map(|_| 0.1 * rng.float()).collect());
        if twin {
            numbers.with_twin_shift((self.twin_shift % 13).into())
        } else {
            numbers
        }
    }

    fn activation(&self) -> Activation {
        Activation::ALL[usize::from(self.activation) % Activation::ALL.len()]
    }
}

fn view(x: &[f32], cols: usize) -> MatRef<'_> {
    MatRef::new(x, x.len() / cols, cols, cols).expect("whole rows")
}

fn view_mut(y: &mut [f32], cols: usize) -> MatMut<'_> {
    MatMut::new(y, y.len() / cols, cols, cols).expect("whole rows")
}

fuzz_target!(|case: Case| {
    let isas: Vec<Isa> = Isa::available().collect();
    let isa = isas[usize::from(case.isa) % isas.len()];
    let (m, k) = (usize::from(case.m % 70), usize::from(case.k % 150) + 1);
    let mut rng = Rng(case.seed);
    let count = if case.as_mlp {
        2
    } else {
        usize::from(case.count % 3) + 1
    };
    let steps = &case.layers[..count];
    let (mut scalar, mut simd, mut inputs) = (Vec::new(), Vec::new(), k);
    for step in steps {
        let numbers = step.numbers(inputs, &mut rng);
        inputs = numbers.out_features();
        let on = |isa| QuantLinear::from_numbers(numbers.clone(), Some(isa));
        // Noise and zero points that a layer is refused for are another target's affair.
        let (Ok(a), Ok(b)) = (on(Isa::Scalar), on(isa)) else {
            return;
        };
        scalar.push(a);
        simd.push(b);
    }
    let x = rng.inputs(m * k, case.specials, case.exponent);
    let weight: Vec<f32> = (0..k).map(|_| rng.float()).collect();
    let norm = match case.norm % 3 {
        0 => None,
        1 => Some((NormKind::Layer, Norm::layer(&weight, &weight, 1e-6))),
        _ => Some((NormKind::Rms, Norm::rms(&weight, 1e-6))),
    };
    let norm = norm.map(|(kind, norm)| (kind, norm.expect("as many biases")));
    // An MLP can add its outputs to what its norm is taken of.
    let residual = norm.is_some() && case.as_mlp && case.added && inputs == k;
    let there: Vec<f32> = match residual {
        true => x.clone(),
        false => (0..m * inputs).map(|_| rng.float()).collect(),
    };

    let mut expected = x.clone();
    if let Some((kind, norm)) = &norm {
        for (x, y) in x.chunks(k).zip(expected.chunks_mut(k)) {
            spec::normalize(*kind, x, norm.weight(), norm.bias(), 1e-6, y);
        }
    }
    let input = match &norm {
        Some((_, norm)) => Input::Normed {
            x: view(&x, k),
            norm,
        },
        None => view(&x, k).into(),
    };
    for (at, (layer, step)) in scalar.iter().zip(steps).enumerate() {
        expected = layer.forward(&expected).expect("whole rows");
        // The second layer of an MLP has none.
        if !(case.as_mlp && at == 1) {
            let activation = step.activation();
            expected.iter_mut().for_each(|y| *y = activation.of(*y));
        }
    }
    if case.added {
        expected
            .iter_mut()
            .zip(&there)
            .for_each(|(y, there)| *y += there);
    }

    // As many tasks as so many threads get, one after the other, from the last to the first.
    let threads = usize::from(case.threads % 3) + 1;
    let in_turn = |count: usize, task: &(dyn Fn(usize) + Sync)| (0..count).rev().for_each(task);
    let executor = Executor::host(threads, &in_turn);
    let mut y = if case.added {
        there
    } else {
        vec![-77.0; m * inputs]
    };
    let output = match case.added {
        true => Output::Added(view_mut(&mut y, inputs)),
        false => Output::Rows(view_mut(&mut y, inputs)),
    };
    if case.as_mlp {
        let mlp = Mlp::new(simd[0].clone(), steps[0].activation(), simd[1].clone());
        let mlp = mlp.expect("layers that fit");
        let mut scratch = Scratch::with_bytes(mlp.scratch_bytes(m, threads));
        match (&norm, output) {
            (Some((_, norm)), Output::Added(tokens)) if residual => {
                mlp.forward_residual(norm, tokens, &mut scratch, executor)
            }
            (_, output) => mlp.forward(input, output, &mut scratch, executor),
        }
        .expect("shapes fit");
    } else {
        let bytes = simd
            .iter()
            .map(|layer| layer.scratch_bytes(m, threads))
            .max();
        let mut scratch = Scratch::with_bytes(bytes.unwrap_or(0));
        let mut codes: Option<Codes<'_>> = match case.codes {
            true if norm.is_none() => simd[0].codes(m).ok(),
            _ => None,
        };
        if let Some(codes) = &mut codes {
            codes.quantize(view(&x, k)).expect("room for all rows");
        }
        let (mut numbers, mut output) = (Vec::new(), Some(output));
        for (at, (layer, step)) in simd.iter().zip(steps).enumerate() {
            let (rows, made) = (std::mem::take(&mut numbers), codes.take());
            let input = match &made {
                Some(codes) => codes.into(),
                None if at == 0 => input,
                None => view(&rows, layer.in_features()).into(),
            };
            let room = match simd.get(at + 1) {
                Some(next) if step.codes => next.codes(m).ok(),
                _ => None,
            };
            codes = room;
            let to = if at + 1 == simd.len() {
                output.take().expect("one last layer")
            } else if let Some(codes) = &mut codes {
                codes.into()
            } else {
                numbers = vec![0.0; m * layer.out_features()];
                view_mut(&mut numbers, layer.out_features()).into()
            };
            let activation = step.activation();
            layer
                .forward_with(input, activation, to, &mut scratch, executor)
                .expect("shapes fit");
        }
    }
    // The bits of a NaN, which only a residual can be, are the CPU's.
    let bits = |y: &[f32]| -> Vec<Option<u32>> {
        let bits = |y: &f32| (!y.is_nan()).then(|| y.to_bits());
        y.iter().map(bits).collect()
    };
    assert_eq!(bits(&y), bits(&expected), "{isa}");
});
