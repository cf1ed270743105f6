//! `cargo bench --bench ukernel`: multiply-accumulates of every micro-kernel of the table against
//! the peak of its own instructions, measured in the same run on registers alone.
//!
//! Operands stay in L1/L2: a block of codes and one panel. Criterion times each kernel and its
//! probe; the tables at the end come from interleaved rounds, whose medians they compare. The second one
//! is of whole products of layers: codes and panels are there, outputs are f32. Multiplications that
//! Strassen's algorithm saves are counted as if they were made.

mod common;

use std::hint::black_box;
use std::time::{Duration, Instant};

use aligned_vec::{AVec, ConstAlign};
use common::median;
use criterion::Throughput;
use noisyquant_kernels::layout::codes_stride;
use noisyquant_kernels::output::Output;
use noisyquant_kernels::ready::{self, Channels, Codes, Panels, Ready};
use noisyquant_kernels::row::MicroKernel;
use noisyquant_kernels::table;
use noisyquant_kernels::view::MatMut;

const TILES: usize = 4;
const DEPTHS: [usize; 3] = [384, 768, 1536];

/// (M, K, N) of layers of a ViT-S and of a ViT-B, at 196 patches and at 256.
const LAYERS: [(usize, usize, usize); 5] = [
    (197, 384, 1152),
    (257, 384, 1152),
    (197, 1536, 384),
    (197, 768, 3072),
    (197, 3072, 768),
];

type Bytes<T> = AVec<T, ConstAlign<64>>;

struct Operands {
    codes: Bytes<u8>,
    panel: Bytes<i8>,
    accumulators: Bytes<i32>,
    rows: usize,
    nr: usize,
    stride: usize,
    k: usize,
}

impl Operands {
    fn new(kernel: Ready<MicroKernel>, k: usize) -> Operands {
        let rows = TILES * kernel.tile.mr;
        let stride = codes_stride(k) * kernel.code_bytes();
        let panel = kernel.panel().panel_bytes(k);
        Operands {
            codes: AVec::from_iter(64, (0..rows * stride).map(|i| (i % 16) as u8)),
            panel: AVec::from_iter(64, (0..panel).map(|i| (i % 7) as i8)),
            nr: kernel.tile.nr,
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
            corrections: &[],
            max: 6,
        };
        kernel.run(codes, panel, black_box(&mut self.accumulators));
    }

    fn macs(&self) -> u64 {
        (self.rows * self.nr * self.k) as u64
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

/// A row of a table: what `kernel` does in `work`, which returns how many multiply-accumulates it made, and
/// what its own instructions do on registers; medians of `rounds` rounds, or of those of a second.
fn row(kernel: Ready<MicroKernel>, what: &str, rounds: usize, mut work: impl FnMut() -> u64) {
    let (mut own, mut peak) = (Vec::new(), Vec::new());
    let start = Instant::now();
    while own.is_empty() || own.len() < rounds && start.elapsed().as_secs() < 1 {
        own.push(rate(&mut work));
        peak.push(rate(|| kernel.probe(1000)));
    }
    let (own, peak) = (median(own), median(peak));
    let ratio = 100.0 * own / peak;
    println!(
        "{:28} {what:>12} {own:>12.1} {peak:>12.1} {ratio:>7.1}%",
        kernel.name
    );
}

fn head(what: &str) {
    println!(
        "\n{:28} {what:>12} {:>12} {:>12} {:>8}",
        "kernel", "GMAC/s", "peak", "ratio"
    );
}

/// The product of a layer, all rows in one block.
struct Layer {
    codes: Bytes<u8>,
    panels: Bytes<i8>,
    corrections: Vec<i32>,
    working: Bytes<i32>,
    comp: Vec<i32>,
    channels: [Vec<f32>; 2],
    // On cache lines, as an engine has it.
    y: Bytes<f32>,
    shape: (usize, usize, usize),
}

impl Layer {
    /// The largest code: of six bits, for which, with weights of six bits or what a dense panel holds, every
    /// kernel is exact.
    const MAX_CODE: u8 = 63;

    fn new(kernel: Ready<MicroKernel>, shape: (usize, usize, usize)) -> Layer {
        let ((m, k, n), nr) = (shape, kernel.tile.nr);
        let panels = n.div_ceil(nr);
        let codes = (0..m * codes_stride(k) * kernel.code_bytes()).map(|i| (i % 64) as u8);
        let weights = (0..panels * kernel.panel().panel_bytes(k)).map(|i| (i % 63) as i8 - 31);
        let panels_bytes = AVec::from_iter(64, weights);
        let mut corrections = vec![0; kernel.corrections(panels, k)];
        kernel.correct(&panels_bytes, k, &mut corrections);
        let working = kernel.room(m, k) + 4 * kernel.tile.mr * nr;
        Layer {
            codes: AVec::from_iter(64, codes),
            panels: panels_bytes,
            corrections,
            working: AVec::from_iter(64, (0..working).map(|_| 0)),
            comp: vec![0; panels * nr],
            channels: [vec![1e-3; panels * nr], vec![0.5; panels * nr]],
            y: AVec::from_iter(64, (0..m * n).map(|_| 0.0)),
            shape,
        }
    }

    fn run(&mut self, kernel: Ready<MicroKernel>) -> u64 {
        let (m, k, n) = self.shape;
        let codes = Codes {
            bytes: &self.codes,
            stride: codes_stride(k) * kernel.code_bytes(),
            rows: m,
            k,
            max: Layer::MAX_CODE,
        };
        let panels = Panels {
            bytes: &self.panels,
            corrections: &self.corrections,
            max: kernel.form.max_weight().min(31) as u8,
        };
        let channels = Channels {
            comp: &self.comp,
            scale: &self.channels[0],
            bias: &self.channels[1],
        };
        let y =
            MatMut::new(black_box(&mut self.y[..]), m, n, n).expect("as long as the shape says");
        let y = Output::from(y);
        let epilogue = ready::epilogue(kernel.isa, y.destination()).expect("one for each set");
        kernel.run_block(codes, panels, epilogue, channels, &mut self.working, y);
        (m * k * n) as u64
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
    let (rounds, layers) = match common::is_test() {
        true => (1, &LAYERS[..1]),
        false => (31, &LAYERS[..]),
    };
    head("K");
    for kernel in &kernels {
        for k in DEPTHS {
            let mut operands = Operands::new(*kernel, k);
            row(*kernel, &k.to_string(), rounds, || {
                operands.run(*kernel);
                operands.macs()
            });
        }
    }
    head("M,K,N");
    for kernel in &kernels {
        for &(m, k, n) in layers {
            let mut layer = Layer::new(*kernel, (m, k, n));
            let shape = format!("{m},{k},{n}");
            row(*kernel, &shape, rounds, || layer.run(*kernel));
        }
    }
}
