//! `cargo bench --bench ukernel`: multiply-accumulates of every micro-kernel of the table against
//! the peak of its own instructions, measured in the same run on registers alone.
//!
//! Operands stay in L1/L2: a block of codes and one panel. Criterion times each kernel and its
//! probe; the table at the end comes from interleaved rounds, whose medians it compares.

mod common;

use std::hint::black_box;
use std::time::{Duration, Instant};

use aligned_vec::{AVec, ConstAlign};
use common::median;
use criterion::Throughput;
use noisyquant_kernels::layout::codes_stride;
use noisyquant_kernels::ready::{Codes, Panels, Ready};
use noisyquant_kernels::row::MicroKernel;
use noisyquant_kernels::table;

const TILES: usize = 4;
const DEPTHS: [usize; 3] = [384, 768, 1536];

type Bytes<T> = AVec<T, ConstAlign<64>>;

struct Operands {
    codes: Bytes<u8>,
    panel: Bytes<i8>,
    accumulators: Bytes<i32>,
    rows: usize,
    stride: usize,
    k: usize,
}

impl Operands {
    fn new(kernel: Ready<MicroKernel>, k: usize) -> Operands {
        let rows = TILES * kernel.tile.mr;
        let stride = codes_stride(k) * kernel.code_bytes();
        Operands {
            codes: AVec::from_iter(64, (0..rows * stride).map(|i| (i % 16) as u8)),
            panel: AVec::from_iter(64, (0..k * kernel.tile.nr).map(|i| (i % 7) as i8)),
            accumulators: AVec::from_iter(64, (0..rows * kernel.tile.nr).map(|_| 0)),
            rows,
            stride,
            k,
        }
    }

    fn run(&mut self, kernel: Ready<MicroKernel>) {
        let codes = Codes {
            bytes: &self.codes,
            stride: self.stride,
            rows: self.rows,
            k: self.k,
            max: 15,
        };
        let panel = Panels {
            bytes: &self.panel,
            sums: &[],
            max: 6,
        };
        kernel.run(codes, panel, black_box(&mut self.accumulators));
    }

    fn macs(&self) -> u64 {
        (self.rows * self.panel.len()) as u64
    }
}

/// Multiply-accumulates per nanosecond of `work`, which returns how many it did.
fn rate(mut work: impl FnMut() -> u64) -> f64 {
    let start = Instant::now();
    let mut done = 0;
    while start.elapsed() < Duration::from_millis(2) {
        for _ in 0..4 {
            done += work();
        }
    }
    done as f64 / start.elapsed().as_nanos() as f64
}

fn table(kernels: &[Ready<MicroKernel>], rounds: usize) {
    println!(
        "\n{:28} {:>6} {:>12} {:>12} {:>8}",
        "kernel", "K", "GMAC/s", "peak", "ratio"
    );
    for kernel in kernels {
        for k in DEPTHS {
            let mut operands = Operands::new(*kernel, k);
            let macs = operands.macs();
            let (mut own, mut peak) = (Vec::new(), Vec::new());
            for _ in 0..rounds {
                own.push(rate(|| {
                    operands.run(*kernel);
                    macs
                }));
                peak.push(rate(|| kernel.probe(1000)));
            }
            let (own, peak) = (median(own), median(peak));
            let ratio = 100.0 * own / peak;
            println!(
                "{:28} {k:>6} {own:>12.1} {peak:>12.1} {ratio:>7.1}%",
                kernel.name
            );
        }
    }
}

fn main() {
    let kernels: Vec<_> = table::micro_kernels()
        .filter_map(MicroKernel::ready)
        .collect();
    let mut criterion = common::criterion();
    let mut group = criterion.benchmark_group("ukernel");
    for kernel in &kernels {
        let mut operands = Operands::new(*kernel, 384);
        group.throughput(Throughput::Elements(operands.macs()));
        group.bench_function(kernel.name, |b| b.iter(|| operands.run(*kernel)));
        group.throughput(Throughput::Elements(kernel.probe(1)));
        group.bench_function(format!("{}/peak", kernel.name), |b| {
            b.iter(|| kernel.probe(1))
        });
    }
    group.finish();
    criterion.final_summary();
    table(&kernels, if common::is_test() { 1 } else { 31 });
}
