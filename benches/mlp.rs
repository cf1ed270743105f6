//! `cargo bench --bench mlp`: the MLP of a transformer's block as one call, next to its norm, layers,
//! activation and residual one after the other. One thread, every instruction set of this CPU, ViT-S and
//! ViT-B.
//!
//! The table at the end comes from interleaved rounds: `fused` is the median over rounds of the one call ÷
//! the steps apart, `noise` of the one call with noise in both layers ÷ the same without, `control` of the
//! one call ÷ itself.

mod common;

use std::hint::black_box;

use common::{floats, interleaved};
use noisyquant::{
    Activation, Executor, Isa, MatMut, MatRef, Mlp, Noise, Norm, QuantLinear, Scratch,
};

/// Rows, inputs and hidden features.
const SHAPES: [(usize, usize, usize); 4] = [
    (197, 384, 1536),
    (257, 384, 1536),
    (197, 768, 3072),
    (1, 384, 1536),
];

fn layer((n, k): (usize, usize), x: &[f32], bits: u32, isa: Isa, noise: Noise) -> QuantLinear {
    QuantLinear::builder(&floats(1, n * k), n, k)
        .bias(&floats(2, n))
        .weight_bits(bits)
        .activation_bits(bits)
        .noise(noise)
        .calibration_rows(x)
        .isa(isa)
        .build()
        .expect("a valid layer")
}

/// Both layers of an MLP, with noise or without.
fn mlp((m, k, hidden): (usize, usize, usize), bits: u32, isa: Isa, noise: Noise) -> Mlp {
    let fc1 = layer((hidden, k), &floats(3, m * k), bits, isa, noise.clone());
    let mut between = fc1.forward(&floats(3, m * k)).expect("whole rows");
    gelu(&mut between);
    let fc2 = layer((k, hidden), &between, bits, isa, noise);
    Mlp::new(fc1, Activation::Gelu, fc2).expect("layers that fit")
}

fn gelu(numbers: &mut [f32]) {
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            numbers
                .iter_mut()
                .for_each(|x| *x = Activation::Gelu.of(*x))
        },
    );
}

/// Norm and layers one after the other, the activation between them, and what comes out added to the tokens.
struct Apart {
    normal: Vec<f32>,
    hidden: Vec<f32>,
    update: Vec<f32>,
    scratch: Scratch<'static>,
}

impl Apart {
    fn run(&mut self, norm: &Norm, mlp: &Mlp, tokens: &mut [f32]) {
        let (fc1, fc2) = mlp.layers();
        let (hidden, update, here) = (&mut self.hidden, &mut self.update, Executor::serial());
        let (m, k) = (tokens.len() / norm.width(), norm.width());
        let x = MatRef::new(tokens, m, k, k).expect("whole rows");
        let normal = MatMut::new(&mut self.normal, m, k, k).expect("whole rows");
        norm.forward(x, normal).expect("shapes fit");
        fc1.forward_into(&self.normal, hidden, &mut self.scratch, here)
            .expect("shapes fit");
        gelu(hidden);
        fc2.forward_into(hidden, update, &mut self.scratch, here)
            .expect("shapes fit");
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                tokens
                    .iter_mut()
                    .zip(&*update)
                    .for_each(|(token, update)| *token += update)
            },
        );
    }
}

fn main() {
    let rounds = if common::is_test() { 1 } else { 101 };
    println!(
        "{:32} {:>9} {:>9} {:>9} {:>9}",
        "", "us", "fused", "noise", "control"
    );
    for isa in Isa::available().filter(|isa| *isa != Isa::Scalar) {
        for (bits, shape) in [8, 6]
            .into_iter()
            .flat_map(|bits| SHAPES.map(|shape| (bits, shape)))
        {
            let (m, k, hidden) = shape;
            let plain = mlp(shape, bits, isa, Noise::None);
            let noise = Noise::Uniform {
                range: 0.01,
                seed: 1,
            };
            let noisy = mlp(shape, bits, isa, noise);
            let norm = Norm::layer(&vec![1.0; k], &vec![0.0; k], 1e-6).expect("as many biases");
            let (fc1, fc2) = plain.layers();
            let mut apart = Apart {
                normal: vec![0.0; m * k],
                hidden: vec![0.0; m * hidden],
                update: vec![0.0; m * k],
                scratch: Scratch::with_bytes(fc1.scratch_bytes(m, 1).max(fc2.scratch_bytes(m, 1))),
            };
            let buffers = std::cell::RefCell::new((
                floats(3, m * k),
                Scratch::with_bytes(plain.scratch_bytes(m, 1)),
            ));
            let fused = |mlp: &Mlp| {
                let (tokens, scratch) = &mut *buffers.borrow_mut();
                let tokens = MatMut::new(black_box(tokens), m, k, k).expect("whole rows");
                mlp.forward_residual(&norm, tokens, scratch, Executor::serial())
                    .expect("shapes fit");
            };
            let (times, ratios) = interleaved(
                &mut [
                    &mut || apart.run(&norm, &plain, black_box(&mut buffers.borrow_mut().0)),
                    &mut || fused(&plain),
                    &mut || fused(&noisy),
                    &mut || fused(&plain),
                ],
                rounds,
            );
            // Ratios are to the first.
            let name = format!("{isa} int{bits} {m},{k},{hidden}");
            println!(
                "{name:32} {:9.1} {:9.3} {:9.3} {:9.3}",
                times[1] / 1e3,
                ratios[1],
                ratios[2] / ratios[1],
                ratios[3] / ratios[1],
            );
        }
    }
}
