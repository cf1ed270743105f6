//! `cargo bench --bench overhead`: what the noise costs, and what the fused layer costs over a bare
//! integer GEMM on ready codes. DeiT-S shapes, one thread, every instruction set of this CPU.
//!
//! The table at the end comes from interleaved rounds: `noise` is the median over rounds of the
//! fused layer with noise ÷ the same layer without, `bare` of the bare GEMM ÷ the layer without.

mod common;

use std::cell::RefCell;
use std::hint::black_box;

use aligned_vec::{AVec, ConstAlign};
use common::{DEIT_S, floats, interleaved};
use noisyquant::{Executor, Isa, Noise, QuantLinear, Scratch};
use noisyquant_kernels::layout::codes_stride;
use noisyquant_kernels::ready::{Codes, Panels, Ready};
use noisyquant_kernels::row::MicroKernel;
use noisyquant_kernels::table;

fn layer((m, k, n): (usize, usize, usize), bits: u32, isa: Isa, noise: Noise) -> QuantLinear {
    let (weight, bias, x) = (floats(1, n * k), floats(2, n), floats(3, m * k));
    QuantLinear::builder(&weight, n, k)
        .bias(&bias)
        .weight_bits(bits)
        .activation_bits(bits)
        .noise(noise)
        .calibration_rows(&x)
        .isa(isa)
        .build()
        .expect("a valid layer")
}

/// Codes × packed weights → accumulators in memory, by the micro-kernel of `layer`, without outputs.
struct BareGemm {
    kernel: Ready<MicroKernel>,
    codes: AVec<u8, ConstAlign<64>>,
    panels: AVec<i8, ConstAlign<64>>,
    accumulators: AVec<i32, ConstAlign<64>>,
    panel_bytes: usize,
    stride: usize,
    rows: usize,
    step: usize,
    k: usize,
}

impl BareGemm {
    fn new(layer: &QuantLinear, rows: usize) -> BareGemm {
        let named = |row: &&MicroKernel| row.name == layer.kernel();
        let row = table::micro_kernels()
            .find(named)
            .expect("the layer's kernel");
        let kernel = row.ready().expect("it ran");
        let (k, n) = (layer.in_features(), layer.out_features());
        let panel = kernel.panel();
        let stride = codes_stride(k) * kernel.code_bytes();
        let step = layer.explain(rows).step_rows;
        let packed = panel.packed_len(n, k).expect("fits");
        BareGemm {
            kernel,
            codes: AVec::from_iter(64, (0..rows * stride).map(|i| (i % 16) as u8)),
            panels: AVec::from_iter(64, (0..packed).map(|i| (i % 7) as i8)),
            accumulators: AVec::from_iter(64, (0..step * kernel.tile.nr).map(|_| 0)),
            panel_bytes: panel.panel_bytes(k),
            stride,
            rows,
            step,
            k,
        }
    }

    fn run(&mut self) {
        for panel in self.panels.chunks_exact(self.panel_bytes) {
            for start in (0..self.rows).step_by(self.step) {
                let codes = Codes {
                    bytes: &self.codes[start * self.stride..],
                    stride: self.stride,
                    rows: self.step.min(self.rows - start),
                    k: self.k,
                    max: 15,
                };
                let panel = Panels {
                    bytes: panel,
                    corrections: &[],
                    max: 6,
                };
                self.kernel
                    .run(codes, panel, black_box(&mut self.accumulators));
            }
        }
    }
}

fn forward(layer: &QuantLinear, x: &[f32], y: &mut [f32], scratch: &mut Scratch) {
    layer
        .forward_into(black_box(x), black_box(y), scratch, Executor::serial())
        .expect("shapes fit");
}

fn main() {
    let mut criterion = common::criterion();
    let rounds = if common::is_test() { 1 } else { 101 };
    let mut lines = Vec::new();
    for isa in Isa::available().filter(|isa| *isa != Isa::Scalar) {
        for bits in [8, 6] {
            for shape in DEIT_S {
                let (m, k, n) = shape;
                let plain = layer(shape, bits, isa, Noise::None);
                let noisy = layer(
                    shape,
                    bits,
                    isa,
                    Noise::Uniform {
                        range: 0.01,
                        seed: 1,
                    },
                );
                let mut bare = BareGemm::new(&plain, m);
                let (x, mut y) = (floats(3, m * k), vec![0f32; m * n]);
                let mut scratch = Scratch::with_bytes(plain.scratch_bytes(m, 1));

                let name = format!("overhead/{isa}/int{bits}/{m}x{k}x{n}");
                let mut group = criterion.benchmark_group(name);
                group.bench_function("noisy", |b| {
                    b.iter(|| forward(&noisy, &x, &mut y, &mut scratch))
                });
                group.bench_function("plain", |b| {
                    b.iter(|| forward(&plain, &x, &mut y, &mut scratch))
                });
                group.bench_function("bare gemm", |b| b.iter(|| bare.run()));
                group.finish();

                // Both layers use the same buffers, which is why they are lent and not captured.
                let buffers = RefCell::new((y, scratch));
                let run = |layer: &QuantLinear| {
                    let (y, scratch) = &mut *buffers.borrow_mut();
                    forward(layer, &x, y, scratch);
                };
                let (times, ratios) = interleaved(
                    &mut [&mut || run(&plain), &mut || run(&noisy), &mut || bare.run()],
                    rounds,
                );
                lines.push((
                    format!(
                        "{:24} int{bits} {:>13} {:>9.1} {:>9.1} {:>8.3} {:>8.3}",
                        plain.kernel(),
                        format!("{m},{k},{n}"),
                        times[0] / 1e3,
                        times[1] / 1e3,
                        ratios[1],
                        ratios[2],
                    ),
                    ratios[1],
                ));
            }
        }
    }
    criterion.final_summary();
    println!(
        "\n{:24} bits {:>13} {:>9} {:>9} {:>8} {:>8}",
        "kernel", "M,K,N", "plain us", "noisy us", "noise", "bare"
    );
    for (line, _) in &lines {
        println!("{line}");
    }
    let overhead = common::median(lines.iter().map(|(_, ratio)| *ratio).collect());
    println!("median with noise / without noise: {overhead:.4}");
}
