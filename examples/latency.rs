//! Latency of the layer over a list of shapes, one JSON line (or table row) each.
//!
//! ```text
//! cargo run --release --example latency -- --shapes '197,384,1152;1,4096,4096' --isa avx2 --bits 6
//! ```
//!
//! To be run in turn with a program that times oneDNN, onnxruntime or OpenVINO by the same protocol: every
//! call is timed on its own, after a quarter of the time as warm-up.

use std::time::{Duration, Instant};

use aligned_vec::{AVec, ConstAlign};
use clap::{Parser, ValueEnum};
use half::{bf16, f16};
use noisyquant::{
    ActivationRange, Element, Executor, Isa, Noise, Packing, QuantLinear, Quantizer, Scratch,
};

/// Measures one linear layer: f32 out, static quantization, weights packed beforehand, bias.
#[derive(Parser)]
struct Options {
    /// Shapes, 'M,K,N' separated by ';'.
    #[arg(
        long,
        default_value = "197,384,1152;197,384,384;197,384,1536;197,1536,384;1,4096,4096"
    )]
    shapes: String,
    /// Instruction set; the best of this CPU (or NOISYQUANT_ISA) if not given.
    #[arg(long, value_parser = isa)]
    isa: Option<Isa>,
    /// Threads.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: u16,
    /// Seconds to measure each shape for.
    #[arg(long, default_value_t = 0.2)]
    secs: f64,
    /// Bits of the activations; weights have 8, or 6 with 6, or 4 with 4.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..=8))]
    bits: u32,
    /// Whether the layer has a noisy bias.
    #[arg(long, value_enum, default_value_t = Switch::On)]
    noise: Switch,
    /// How weights are kept in memory.
    #[arg(long, value_enum, default_value_t = Packed::Expanded)]
    packing: Packed,
    /// Element type of the input.
    #[arg(long = "in", value_enum, default_value_t = Input::F32)]
    input: Input,
    /// One layer again and again, or, as in a network, many in turn: 32 MB of weights.
    #[arg(long, value_enum, default_value_t = Weights::Warm)]
    weights: Weights,
    /// Print JSON lines.
    #[arg(long)]
    json: bool,
    /// Print the plan of each shape too.
    #[arg(long)]
    explain: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Switch {
    On,
    Off,
}

#[derive(Clone, Copy, ValueEnum)]
enum Input {
    F32,
    F16,
    Bf16,
}

#[derive(Clone, Copy, ValueEnum)]
enum Packed {
    Expanded,
    Dense,
}

/// Bytes of weights that take turns where they come from memory: four times an L3 of 32 MB. Of a third more
/// than L3 holds, much is still found there.
const COLD_BYTES: usize = 128 << 20;

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Weights {
    Warm,
    Cold,
}

fn isa(name: &str) -> Result<Isa, String> {
    Isa::from_name(name).ok_or_else(|| {
        let names: Vec<&str> = Isa::ALL.iter().map(|isa| isa.name()).collect();
        format!("expected one of {}", names.join(", "))
    })
}

fn shapes(text: &str) -> Result<Vec<[usize; 3]>, String> {
    let shape = |part: &str| -> Option<[usize; 3]> {
        let numbers: Option<Vec<usize>> = part.split(',').map(|v| v.trim().parse().ok()).collect();
        numbers?.try_into().ok()
    };
    let parts = text.split(';').filter(|part| !part.trim().is_empty());
    parts
        .map(|p| shape(p).ok_or(format!("shape: expected 'M,K,N', got '{p}'")))
        .collect()
}

/// `len` values in `-1.0..1.0`.
fn floats(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// The values, from the start of a cache line on.
fn aligned<T>(values: impl Iterator<Item = T>) -> AVec<T, ConstAlign<64>> {
    AVec::from_iter(64, values)
}

struct Measured {
    kernel: &'static str,
    plan: String,
    /// Microseconds of each call, sorted.
    times: Vec<f64>,
    error: f64,
}

impl Measured {
    fn quantile(&self, q: f64) -> f64 {
        self.times[((self.times.len() - 1) as f64 * q) as usize]
    }
}

fn measure<T: Element>(options: &Options, [m, k, n]: [usize; 3]) -> Result<Measured, String> {
    let (weight, bias, x) = (floats(1, n * k), floats(2, n), floats(3, m * k));
    let mut builder = QuantLinear::builder(&weight, n, k)
        .bias(&bias)
        .weight_bits(match options.bits {
            4 | 6 => options.bits,
            _ => 8,
        })
        .activation_bits(options.bits)
        .packing(match options.packing {
            Packed::Expanded => Packing::Expanded,
            Packed::Dense => Packing::Dense,
        })
        .quantizer(Quantizer::symmetric(ActivationRange::Fixed {
            min: -1.0,
            max: 1.0,
        }));
    if options.noise == Switch::On {
        builder = builder.noise(Noise::Uniform {
            range: 0.005,
            seed: 1,
        });
    }
    if let Some(isa) = options.isa {
        builder = builder.isa(isa);
    }
    let layer = builder.build().map_err(|error| error.to_string())?;
    let copies = match options.weights {
        Weights::Warm => 1,
        Weights::Cold => COLD_BYTES.div_ceil(layer.packed_bytes()),
    };
    let mut layers = vec![layer];
    while layers.len() < copies {
        layers.push(builder.build().map_err(|error| error.to_string())?);
    }
    let layer = &layers[0];
    // An engine aligns its buffers. A Y that does not start on a cache line takes up to 30 % longer.
    let x = aligned(x.iter().map(|v| T::from_f32(*v)));
    let mut y = aligned((0..m * n).map(|_| 0f32));
    let executor = match options.threads {
        1 => Executor::serial(),
        _ => Executor::rayon(),
    };
    let mut scratch = Scratch::with_bytes(layer.scratch_bytes(m, executor.threads()));

    let mut next = layers.iter().cycle();
    let mut call = || -> Result<f64, String> {
        let layer = next.next().expect("a cycle has no end");
        let start = Instant::now();
        layer
            .forward_into(&x, &mut y, &mut scratch, executor)
            .map_err(|error| error.to_string())?;
        Ok(start.elapsed().as_secs_f64() * 1e6)
    };
    let time = Duration::from_secs_f64(options.secs);
    let start = Instant::now();
    let mut calls = 0;
    while calls < 2.max(copies) || start.elapsed() < time / 4 {
        call()?;
        calls += 1;
    }
    let mut times = Vec::new();
    let start = Instant::now();
    while times.len() < 7 || (start.elapsed() < time && times.len() < 20_000) {
        times.push(call()?);
    }
    times.sort_by(f64::total_cmp);
    let error = reference_error(layer, &weight, &bias, &x, &y);
    Ok(Measured {
        kernel: layer.kernel(),
        plan: layer.explain(m).to_string(),
        times,
        error,
    })
}

/// Largest difference to the quantized layer in f64, over the rms of its outputs, on eight rows.
fn reference_error<T: Element>(
    layer: &QuantLinear,
    weight: &[f32],
    bias: &[f32],
    x: &[T],
    y: &[f32],
) -> f64 {
    let (k, n) = (layer.in_features(), layer.out_features());
    let (s_x, z) = (
        f64::from(layer.activation_scale()),
        f64::from(layer.zero_point()),
    );
    let top = f64::from((1u32 << layer.activation_bits()) - 1);
    let (mut largest, mut squares, mut count) = (0f64, 0f64, 0);
    let rows = x.len() / k;
    for row in (0..rows).step_by(rows.div_ceil(8)) {
        let decoded: Vec<f64> = x[row * k..][..k]
            .iter()
            .zip(layer.noise())
            .map(|(x, noise)| {
                let t = f64::from((f64::from(*noise) / s_x + z) as f32);
                let v = x.to_f32().mul_add((1.0 / s_x) as f32, t as f32);
                (f64::from(v.round_ties_even()).clamp(0.0, top) - t) * s_x
            })
            .collect();
        for (channel, w) in weight.chunks_exact(k).enumerate() {
            let s_w = layer.weight_scales()[channel];
            let codes = w.iter().map(|w| f64::from((w / s_w).round_ties_even()));
            let sum: f64 = codes.zip(&decoded).map(|(w, x)| w * x).sum();
            let expected = sum * f64::from(s_w) + f64::from(bias[channel]);
            largest = largest.max((expected - f64::from(y[row * n + channel])).abs());
            squares += expected * expected;
            count += 1;
        }
    }
    largest / (squares / f64::from(count)).sqrt()
}

fn run(options: &Options) -> Result<(), String> {
    if !options.json {
        println!(
            "{:>16} {:>10} {:>10} {:>10} {:>8}  kernel",
            "M,K,N", "median us", "p10", "p90", "GOPS"
        );
    }
    for shape in shapes(&options.shapes)? {
        let measured = match options.input {
            Input::F32 => measure::<f32>(options, shape)?,
            Input::F16 => measure::<f16>(options, shape)?,
            Input::Bf16 => measure::<bf16>(options, shape)?,
        };
        let [m, k, n] = shape;
        let [p10, median, p90] = [0.1, 0.5, 0.9].map(|q| measured.quantile(q));
        let gops = 2.0 * (m * k * n) as f64 / median / 1e3;
        let (kernel, error, calls) = (measured.kernel, measured.error, measured.times.len());
        if options.json {
            println!(
                concat!(
                    r#"{{"peer":"noisyquant","kernel":"{}","M":{},"K":{},"N":{},"threads":{},"#,
                    r#""med_us":{:.3},"p10":{:.3},"p90":{:.3},"gops":{:.1},"iters":{},"err":{:.3e}}}"#,
                ),
                kernel, m, k, n, options.threads, median, p10, p90, gops, calls, error,
            );
        } else {
            println!(
                "{:>16} {median:>10.1} {p10:>10.1} {p90:>10.1} {gops:>8.0}  {kernel}",
                format!("{m},{k},{n}"),
            );
        }
        if options.explain {
            eprintln!("{}", measured.plan);
        }
    }
    Ok(())
}

fn main() {
    let options = Options::parse();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads.into())
        .build();
    let outcome = match pool {
        // One thread measures on this one, so that pinning this process pins the work.
        Ok(_) if options.threads == 1 => run(&options),
        Ok(pool) => pool.install(|| run(&options)),
        Err(error) => Err(error.to_string()),
    };
    if let Err(message) = outcome {
        eprintln!("latency: {message}");
        std::process::exit(2);
    }
}
