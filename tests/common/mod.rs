//! Operands, and an oracle for the whole layer that shares no code with it: unblocked, in i64 and
//! f64, straight from docs/math.md.

#![allow(dead_code)] // each test binary uses its part

use noisyquant::{Errors, Isa, QuantLinear};

/// SplitMix64: enough randomness for operands.
pub struct Rng(pub u64);

impl Rng {
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.word() % n as u64) as usize
    }

    /// Uniform in `-1.0..1.0`.
    pub fn float(&mut self) -> f32 {
        (self.word() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// `len` values with a heavy tail, as activations of transformers have.
    pub fn heavy_tailed(&mut self, len: usize) -> Vec<f32> {
        let value = |rng: &mut Rng| {
            let v = rng.float();
            if rng.below(50) == 0 {
                8.0 * v
            } else {
                v * v * v
            }
        };
        (0..len).map(|_| value(self)).collect()
    }

    pub fn floats(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.float()).collect()
    }
}

/// A float layer and inputs for it.
pub struct Problem {
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
    pub x: Vec<f32>,
    pub m: usize,
    pub k: usize,
    pub n: usize,
}

impl Problem {
    pub fn new(m: usize, k: usize, n: usize) -> Problem {
        let mut rng = Rng((m * 31 + k * 7 + n) as u64);
        Problem {
            weight: rng.floats(n * k),
            bias: rng.floats(n),
            x: rng.heavy_tailed(m * k),
            m,
            k,
            n,
        }
    }

    pub fn builder(&self) -> noisyquant::Builder<'_> {
        QuantLinear::builder(&self.weight, self.n, self.k).bias(&self.bias)
    }

    /// The float layer in f64, `[m, n]`.
    pub fn float_outputs(&self, x: &[f32]) -> Vec<f64> {
        let mut y = Vec::new();
        for x in x.chunks_exact(self.k) {
            for (w, b) in self.weight.chunks_exact(self.k).zip(&self.bias) {
                let dot: f64 = w
                    .iter()
                    .zip(x)
                    .map(|(w, x)| f64::from(*w) * f64::from(*x))
                    .sum();
                y.push(dot + f64::from(*b));
            }
        }
        y
    }

    /// What `layer`, built from this problem, must return for `x`, bit for bit.
    pub fn oracle(&self, layer: &QuantLinear, x: &[f32]) -> Vec<f32> {
        let (k, s_x) = (self.k, f64::from(layer.activation_scale()));
        let largest_code = (1u32 << layer.activation_bits()) as f32 - 1.0;
        let largest_weight = (1u32 << (layer.weight_bits() - 1)) as f32 - 1.0;
        let inv = (1.0 / s_x) as f32;
        let offset = |n: &f32| (f64::from(*n) / s_x + f64::from(layer.zero_point())) as f32;
        let t: Vec<f32> = layer.noise().iter().map(offset).collect();
        let code = |(x, t): (&f32, &f32)| match x.mul_add(inv, *t) {
            v if v.is_nan() => 0,
            v => v.round_ties_even().clamp(0.0, largest_code) as i64,
        };
        let codes: Vec<i64> = x
            .chunks_exact(k)
            .flat_map(|row| row.iter().zip(&t).map(code))
            .collect();

        let mut y = vec![0f32; x.len() / k * self.n];
        for (n, w) in self.weight.chunks_exact(k).enumerate() {
            let largest = w.iter().fold(0f32, |m, w| m.max(w.abs()));
            let s_w = if largest == 0.0 {
                1.0
            } else {
                largest / largest_weight
            };
            assert_eq!(s_w, layer.weight_scales()[n]);
            let wq: Vec<i64> = w
                .iter()
                .map(|w| {
                    (w / s_w)
                        .round_ties_even()
                        .clamp(-largest_weight, largest_weight) as i64
                })
                .collect();
            let sum: f64 = wq
                .iter()
                .zip(&t)
                .map(|(w, t)| *w as f64 * f64::from(*t))
                .sum();
            let comp = (-sum).round_ties_even();
            let scale = layer.activation_scale() * s_w;
            let bias = (f64::from(self.bias[n]) + f64::from(scale) * (-sum - comp)) as f32;
            for (m, codes) in codes.chunks_exact(k).enumerate() {
                let acc: i64 = codes.iter().zip(&wq).map(|(u, w)| u * w).sum();
                let total = i32::try_from(acc + comp as i64).expect("fits, as the builder checked");
                y[m * self.n + n] = (total as f32).mul_add(scale, bias);
            }
        }
        y
    }
}

/// The instruction sets that the layer can use here; those of `NOISYQUANT_EXPECT_ISAS` (names and spaces)
/// if it is set, no more and no less.
pub fn isas() -> Vec<Isa> {
    let isas: Vec<Isa> = Isa::available().collect();
    if let Ok(expected) = std::env::var("NOISYQUANT_EXPECT_ISAS") {
        let names: Vec<&str> = isas.iter().map(|isa| isa.name()).collect();
        let expected: Vec<&str> = expected.split_whitespace().collect();
        assert_eq!(names, expected, "instruction sets, and what is expected");
    }
    isas
}

pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Errors of `layer` on the inputs of `problem`, against its float outputs.
pub fn errors(problem: &Problem, layer: &QuantLinear) -> Errors {
    let target: Vec<f32> = problem
        .float_outputs(&problem.x)
        .iter()
        .map(|y| *y as f32)
        .collect();
    Errors::measure(&layer.forward(&problem.x).unwrap(), &target, problem.n)
}

/// Inputs whose channels differ in scale and centre, as those of a transformer do.
pub fn uneven(m: usize, k: usize, n: usize) -> Problem {
    let mut problem = Problem::new(m, k, n);
    let mut rng = Rng(77);
    let channels: Vec<(f32, f32)> = (0..k)
        .map(|_| ((3.0 * rng.float()).exp(), 4.0 + 4.0 * rng.float()))
        .collect();
    for row in problem.x.chunks_exact_mut(k) {
        let shared = rng.float();
        for (x, (scale, center)) in row.iter_mut().zip(&channels) {
            *x = (rng.float() + 3.0 * shared + center) * scale;
        }
    }
    problem
}
