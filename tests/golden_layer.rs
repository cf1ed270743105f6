//! Outputs of whole layers, bit for bit as the scalar kernels of x86-64 computed them once: the same
//! file is checked on every architecture and for every instruction set there.
//!
//! A change of numerics shows here first. If it is meant, it belongs into CHANGELOG.md, and
//!
//!     NOISYQUANT_WRITE_GOLDEN=1 cargo test --test golden_layer
//!
//! writes `tests/golden/layer.txt` anew.

mod common;

use std::fmt::Write as _;

use common::{Problem, Rng, isas};
use half::{bf16, f16};
use noisyquant::{ActivationRange, Element, Executor, Isa, Noise, Quantizer, Scratch};

const GOLDEN: &str = include_str!("golden/layer.txt");

const SPECIAL: [f32; 12] = [
    f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::MAX,
    f32::MIN,
    f32::MIN_POSITIVE,
    0.0,
    -0.0,
    1e-45,
    -1e-45,
    65_504.0,
    -3.4e-5,
];

/// Element types of input and output.
#[derive(Clone, Copy, Debug)]
enum Types {
    F32ToF32,
    F16ToF16,
    Bf16ToBf16,
    F16ToF32,
    F32ToBf16,
}

/// A layer and a call of it, from a fixed seed.
#[derive(Debug)]
struct Case {
    shape: (usize, usize, usize),
    /// Of weights and activations.
    bits: (u32, u32),
    quantizer: Quantizer,
    noise: Noise,
    types: Types,
    /// Whether special floats are among the inputs.
    special: bool,
}

impl Case {
    fn name(&self, index: usize) -> String {
        let ((m, k, n), (w, a)) = (self.shape, self.bits);
        let special = if self.special { " special" } else { "" };
        format!("{index}: {m}x{k}x{n} w{w}a{a} {:?}{special}", self.types)
    }
}

fn cases() -> Vec<Case> {
    let fixed = ActivationRange::Fixed {
        min: -1.25,
        max: 2.5,
    };
    let quantizers = [
        Quantizer::symmetric(ActivationRange::MinMax),
        Quantizer::asymmetric(ActivationRange::MinMax),
        Quantizer::symmetric(fixed),
        Quantizer::asymmetric(fixed),
    ];
    let types = [
        Types::F32ToF32,
        Types::F16ToF16,
        Types::Bf16ToBf16,
        Types::F16ToF32,
        Types::F32ToBf16,
    ];
    // Around the tiles of every kernel, and depths around multiples of 64 and 128.
    let shapes = [
        (1, 1, 1),
        (1, 64, 40),
        (3, 63, 25),
        (5, 65, 33),
        (9, 130, 17),
        (13, 128, 24),
        (8, 192, 16),
        (2, 384, 97),
        (7, 333, 31),
        (25, 200, 8),
        (4, 768, 48),
        (1, 1536, 65),
        (6, 3, 23),
        (12, 96, 12),
    ];
    let bits = [(8, 8), (6, 6), (8, 8), (6, 6), (4, 8), (7, 7), (2, 3)];
    let noise = |i: usize| match i % 4 {
        0 => Noise::None,
        1 => Noise::Uniform {
            range: 0.03,
            seed: i as u64,
        },
        2 => Noise::Uniform {
            range: 4.0,
            seed: i as u64,
        },
        _ => Noise::PerChannel(Rng(i as u64).floats(shapes[i % shapes.len()].1)),
    };
    let case = |i: usize| Case {
        shape: shapes[i % shapes.len()],
        bits: bits[i % bits.len()],
        quantizer: quantizers[i / 2 % quantizers.len()],
        noise: noise(i),
        types: types[i % types.len()],
        special: !i.is_multiple_of(3),
    };
    (0..2 * shapes.len()).map(case).collect()
}

/// An element type with its bits.
trait Bits: Element {
    fn to_bits(self) -> u32;
}

impl Bits for f32 {
    fn to_bits(self) -> u32 {
        self.to_bits()
    }
}

impl Bits for f16 {
    fn to_bits(self) -> u32 {
        self.to_bits().into()
    }
}

impl Bits for bf16 {
    fn to_bits(self) -> u32 {
        self.to_bits().into()
    }
}

fn outputs(case: &Case, isa: Isa) -> Vec<u32> {
    match case.types {
        Types::F32ToF32 => run::<f32, f32>(case, isa),
        Types::F16ToF16 => run::<f16, f16>(case, isa),
        Types::Bf16ToBf16 => run::<bf16, bf16>(case, isa),
        Types::F16ToF32 => run::<f16, f32>(case, isa),
        Types::F32ToBf16 => run::<f32, bf16>(case, isa),
    }
}

fn run<T: Element, U: Bits>(case: &Case, isa: Isa) -> Vec<u32> {
    let (m, k, n) = case.shape;
    let mut problem = Problem::new(m, k, n);
    // A channel of zeros, one of subnormals, and extremes of both signs.
    for (i, w) in problem.weight.iter_mut().enumerate() {
        match i / k % 11 {
            3 => *w = 0.0,
            5 => *w *= 1e-39,
            7 => *w = w.signum(),
            _ => {}
        }
    }
    let (weight_bits, activation_bits) = case.bits;
    let layer = problem
        .builder()
        .weight_bits(weight_bits)
        .activation_bits(activation_bits)
        .quantizer(case.quantizer)
        .noise(case.noise.clone())
        .calibration_rows(&problem.x)
        .isa(isa)
        .build()
        .unwrap();
    let mut rng = Rng(k as u64);
    let x: Vec<T> = (problem.x.iter())
        .map(|x| match rng.below(9) {
            0 if case.special => SPECIAL[rng.below(SPECIAL.len())],
            _ => *x,
        })
        .map(T::from_f32)
        .collect();
    let mut y = vec![U::default(); m * n];
    let mut scratch = Scratch::with_bytes(layer.scratch_bytes(m, 1));
    let serial = Executor::serial();
    layer
        .forward_into(&x, &mut y, &mut scratch, serial)
        .unwrap();
    y.into_iter().map(U::to_bits).collect()
}

fn write_golden() -> String {
    let mut text = String::from("# See tests/golden_layer.rs. Bits of the outputs, row by row.\n");
    for (i, case) in cases().iter().enumerate() {
        writeln!(text, "case {}", case.name(i)).unwrap();
        for run in outputs(case, Isa::Scalar).chunks(12) {
            let words: Vec<String> = run.iter().map(|v| format!("{v:x}")).collect();
            writeln!(text, "{}", words.join(" ")).unwrap();
        }
    }
    text
}

/// Names and outputs of the cases in `text`.
fn read_golden(text: &str) -> Vec<(String, Vec<u32>)> {
    let mut found: Vec<(String, Vec<u32>)> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix("case ") {
            found.push((name.to_string(), Vec::new()));
        } else {
            let words = line.split(' ');
            let values = words.map(|word| u32::from_str_radix(word, 16).unwrap());
            found.last_mut().unwrap().1.extend(values);
        }
    }
    found
}

/// Checks all cases on `isa` against `text`; what differs first is the error.
fn check(text: &str, isa: Isa) -> Result<(), String> {
    let golden = read_golden(text);
    let cases = cases();
    if golden.len() != cases.len() {
        return Err(format!("{} cases, not {}", golden.len(), cases.len()));
    }
    for (i, (case, (name, expected))) in cases.iter().zip(&golden).enumerate() {
        if case.name(i) != *name {
            return Err(format!("case {name}, not {}", case.name(i)));
        }
        let got = outputs(case, isa);
        if got.len() != expected.len() {
            return Err(format!("{name}: {} outputs", expected.len()));
        }
        if let Some(at) = (0..got.len()).find(|at| got[*at] != expected[*at]) {
            let (row, column) = (at / case.shape.2, at % case.shape.2);
            return Err(format!(
                "{isa}, case {name}, row {row}, column {column}: {:x}, golden {:x}",
                got[at], expected[at]
            ));
        }
    }
    Ok(())
}

#[test]
fn every_isa_gives_the_golden_bits() {
    if std::env::var_os("NOISYQUANT_WRITE_GOLDEN").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/layer.txt");
        std::fs::write(path, write_golden()).unwrap();
        return; // compiled in: the next build reads it
    }
    for isa in isas() {
        if let Err(difference) = check(GOLDEN, isa) {
            panic!("{difference}");
        }
    }
}

#[test]
fn one_changed_bit_fails() {
    // In every case, one bit of one output.
    for (case, (name, outputs)) in read_golden(GOLDEN).iter().enumerate() {
        let changed = case * 37 % outputs.len();
        let mut text = String::new();
        for (i, (name, values)) in read_golden(GOLDEN).into_iter().enumerate() {
            writeln!(text, "case {name}").unwrap();
            for (at, value) in values.into_iter().enumerate() {
                let flip = u32::from(i == case && at == changed) << (case % 16);
                writeln!(text, "{:x}", value ^ flip).unwrap();
            }
        }
        let difference = check(&text, Isa::Scalar).unwrap_err();
        assert!(difference.contains(name), "{difference}");
    }
}
