//! `cargo bench -p noisyquant-vit --bench ops`: the f32 steps between the linear layers, at the
//! sizes of a ViT-S/14 on a 224 × 224 image (one call each; a forward pass makes 12 or 24) and of
//! the first stage of a Swin-T; attention on one thread and on all. With `NOISYQUANT_ISA` integers run on
//! another set than the best.

use std::time::Duration;

use criterion::{
    BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime,
};

#[allow(dead_code, unused_imports)]
#[path = "../src/ops/mod.rs"]
mod ops;

use aligned_vec::AVec;
use noisyquant::{Activation, DynamicMatmul, Norm};
use ops::{Arithmetic, AttentionSizes, Bias, Heads, Lines, Mixed};

const TOKENS: usize = 257;
const WIDTH: usize = 384;
const MLP_WIDTH: usize = 1536;

fn numbers(count: usize) -> Vec<f32> {
    (0..count)
        .map(|i| (i * 2_654_435_761 % 1000) as f32 / 250.0 - 2.0)
        .collect()
}

/// Time `step` inside a pool of one thread and in one of all.
fn on_pools(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, mut step: impl FnMut() + Send) {
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    for threads in [1, all] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.expect("a pool");
        let step = &mut step;
        group.bench_function(format!("{name}/{threads}"), |bencher| {
            pool.install(|| bencher.iter(&mut *step));
        });
    }
}

fn attention(group: &mut BenchmarkGroup<'_, WallTime>) {
    let vit = Heads {
        tokens: TOKENS,
        queries: TOKENS,
        width: WIDTH,
        heads: 6,
    };
    let swin = Heads {
        tokens: 49,
        queries: 49,
        width: 96,
        heads: 3,
    };
    let windows = 64;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let f32 = Arithmetic::Float;
    let int8 = Arithmetic::Int8(DynamicMatmul::new(None).expect("an instruction set"));
    let sizes = AttentionSizes::new([vit, swin], [f32, int8], threads);
    let mut memory: AVec<u8> = AVec::new(64);
    memory.resize(sizes.bytes(), 0);
    let mut scratch = sizes.cut(&mut Lines(&mut memory));
    let (per_head, mask) = (numbers(3 * 49 * 49), numbers(windows * 49 * 49));
    let bias = |mask| {
        Some(Bias {
            per_head: &per_head,
            mask,
        })
    };
    for (name, arithmetic, heads, sequences, bias) in [
        ("vit-s", f32, vit, 1, None),
        ("vit-s-int8", int8, vit, 1, None),
        ("swin-t-plain", f32, swin, windows, None),
        ("swin-t", f32, swin, windows, bias(None)),
        ("swin-t-shifted", f32, swin, windows, bias(Some(&mask[..]))),
    ] {
        let tokens = sequences * heads.tokens;
        let qkv = numbers(tokens * 3 * heads.width);
        let mut mixed = vec![0.0; tokens * heads.width];
        on_pools(group, &format!("attention/{name}"), || {
            let mixed = Mixed::numbers(&mut mixed, heads.width);
            let done = heads.attend(arithmetic, &qkv, bias, mixed, &mut scratch);
            done.expect("sizes that fit");
        });
    }
}

fn elementwise(group: &mut BenchmarkGroup<'_, WallTime>) {
    let norm = Norm::layer(&numbers(WIDTH), &numbers(WIDTH), 1e-6).expect("as many biases");
    // Adding zeros, the numbers stay what they are from call to call; GELU is as fast on any.
    let update = vec![0.0; TOKENS * WIDTH];
    let mut x = numbers(TOKENS * WIDTH);
    let mut y = x.clone();
    group.bench_function("layer_norm", |b| {
        b.iter(|| ops::normalise(&norm, &x, &mut y))
    });
    group.bench_function("add", |b| b.iter(|| ops::add(&mut x, &update)));
    group.bench_function("add+layer_norm", |b| {
        b.iter(|| ops::add_normalise(&norm, &mut x, Some(&update), &mut y));
    });
    let mut hidden = numbers(TOKENS * MLP_WIDTH);
    group.bench_function("gelu", |b| {
        b.iter(|| ops::activate(Activation::Gelu, &mut hidden))
    });
}

fn all(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ops");
    group
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .sample_size(20);
    attention(&mut group);
    elementwise(&mut group);
    group.finish();
}

criterion_group!(benches, all);
criterion_main!(benches);
