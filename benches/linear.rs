//! `cargo bench --bench linear`: the layer, f32 in and f32 out, with noise, at the shapes of DeiT-S,
//! ViT-B, ViT-L and Swin-T and at one row; every instruction set of this CPU; 1 thread and all.
//!
//! This bench is for watching our own numbers. `examples/latency` does the same work with the timing of the
//! comparison with oneDNN, onnxruntime and OpenVINO.

mod common;

use std::hint::black_box;

use common::{DEIT_S, floats};
use criterion::{BenchmarkId, Throughput};
use noisyquant::{Executor, Isa, Noise, QuantLinear, Scratch};

const OTHERS: [(&str, usize, usize, usize); 9] = [
    ("vit-b", 197, 768, 2304),
    ("vit-b", 197, 768, 768),
    ("vit-b", 197, 768, 3072),
    ("vit-b", 197, 3072, 768),
    ("vit-l", 197, 1024, 4096),
    ("vit-l", 197, 4096, 1024),
    ("swin-t", 3136, 96, 288),
    ("swin-t", 49, 768, 3072),
    ("one-row", 1, 4096, 4096),
];

fn main() {
    let mut criterion = common::criterion();
    let deit = DEIT_S.map(|(m, k, n)| ("deit-s", m, k, n));
    for (model, m, k, n) in deit.into_iter().chain(OTHERS) {
        let (weight, bias, x) = (floats(1, n * k), floats(2, n), floats(3, m * k));
        let mut y = vec![0f32; m * n];
        let mut group = criterion.benchmark_group(format!("linear/{model}/{m}x{k}x{n}"));
        group.throughput(Throughput::Elements((m * k * n) as u64));
        for isa in Isa::available().filter(|isa| *isa != Isa::Scalar) {
            for bits in [8, 6] {
                let layer = QuantLinear::builder(&weight, n, k)
                    .bias(&bias)
                    .weight_bits(bits)
                    .activation_bits(bits)
                    .noise(Noise::Uniform {
                        range: 0.01,
                        seed: 1,
                    })
                    .calibration_rows(&x)
                    .isa(isa)
                    .build()
                    .expect("a valid layer");
                for executor in [Executor::serial(), Executor::rayon()] {
                    let threads = executor.threads();
                    let mut scratch = Scratch::with_bytes(layer.scratch_bytes(m, threads));
                    let id = BenchmarkId::new(format!("{}/int{bits}", layer.kernel()), threads);
                    group.bench_function(id, |b| {
                        b.iter(|| {
                            let done = layer.forward_into(
                                black_box(&x),
                                black_box(&mut y),
                                &mut scratch,
                                executor,
                            );
                            done.expect("shapes fit");
                        });
                    });
                }
            }
        }
        group.finish();
    }
    criterion.final_summary();
}
