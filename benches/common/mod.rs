//! What the benches share: shapes, operands, and interleaved timing.

#![allow(dead_code)] // each bench uses its part

use std::time::{Duration, Instant};

use criterion::Criterion;

/// (M, K, N) of the four linear layers of a DeiT-S block at 224 × 224: qkv, proj, fc1, fc2.
pub const DEIT_S: [(usize, usize, usize); 4] = [
    (197, 384, 1152),
    (197, 384, 384),
    (197, 384, 1536),
    (197, 1536, 384),
];

/// `len` values in `-1.0..1.0`, the same for every run.
pub fn floats(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// Criterion with short runs, for shapes of tens of microseconds to milliseconds.
pub fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .configure_from_args()
}

/// Whether cargo only wants to see that the bench runs: `cargo test` passes no `--bench`.
pub fn is_test() -> bool {
    let has = |flag: &str| std::env::args().any(|arg| arg == flag);
    has("--test") || !has("--bench")
}

/// Median nanoseconds per call of each of `works`, from `rounds` rounds in which each has its turn of
/// about a millisecond; and the same rounds' ratios to the first work, as medians. Machines drift;
/// the ratio within a round does not.
pub fn interleaved(works: &mut [&mut dyn FnMut()], rounds: usize) -> (Vec<f64>, Vec<f64>) {
    let mut times = vec![Vec::new(); works.len()];
    for round in 0..rounds + 2 {
        for (work, times) in works.iter_mut().zip(&mut times) {
            work(); // warm the caches that the others cooled
            let start = Instant::now();
            let mut calls = 0;
            while calls == 0 || start.elapsed() < Duration::from_millis(1) {
                work();
                calls += 1;
            }
            if round >= 2 {
                times.push(start.elapsed().as_nanos() as f64 / f64::from(calls));
            }
        }
    }
    let ratios = |own: &Vec<f64>| own.iter().zip(&times[0]).map(|(a, b)| a / b).collect();
    let ratios = times.iter().map(|own| median(ratios(own))).collect();
    (
        times.iter().map(|own| median(own.clone())).collect(),
        ratios,
    )
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
