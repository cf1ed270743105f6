//! Layers and products do not allocate after warm-up. One test in this binary: the counter is global.

mod common;

use std::alloc::System;

use common::{Problem, isas};
use half::f16;
use noisyquant::{Activation, DynamicMatmul, Executor, MatMut, MatRef, Mlp, Norm, Scratch};
use rayon::ThreadPoolBuilder;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Allocations of `calls` calls of `work`, after a few for warm-up. The least of three counts: a thread of
/// rayon's that has gone to sleep since the layer was built may allocate in one, but what the work itself
/// allocates is in all.
fn allocations(calls: usize, mut work: impl FnMut()) -> usize {
    for _ in 0..50 {
        work();
    }
    let mut count = || {
        let region = Region::new(ALLOCATOR);
        for _ in 0..calls {
            work();
        }
        let change = region.change();
        change.allocations + change.reallocations
    };
    let counts = [count(), count(), count()];
    counts.into_iter().min().unwrap_or_default()
}

#[test]
fn what_is_called_again_does_not_allocate() {
    let pool = ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    for (m, k, n) in [(197, 384, 384), (1, 2048, 2048), (4, 100, 70)] {
        let problem = Problem::new(m, k, n);
        for isa in isas().into_iter().filter(|isa| isa.name() != "scalar") {
            let layer = problem
                .builder()
                .calibration_rows(&problem.x)
                .isa(isa)
                .build()
                .unwrap();
            let x: Vec<f16> = problem.x.iter().map(|v| f16::from_f32(*v)).collect();
            let mut y = vec![0f32; m * n];
            let mut scratch = Scratch::with_bytes(layer.scratch_bytes(m, 1));
            let serial = Executor::serial();
            let count = allocations(10, || {
                layer
                    .forward_into(&x, &mut y, &mut scratch, serial)
                    .unwrap();
            });
            assert_eq!(count, 0, "{isa} {m}x{k}x{n}, one thread");
            // On a worker of the pool; entering a pool from outside is rayon's own affair.
            let count = pool.install(|| {
                let mut scratch = layer.scratch(m);
                let pool = Executor::rayon();
                allocations(10, || {
                    layer.forward_into(&x, &mut y, &mut scratch, pool).unwrap();
                })
            });
            assert_eq!(count, 0, "{isa} {m}x{k}x{n}, a pool of three");

            let norm = Norm::layer(&vec![1.0; k], &vec![0.0; k], 1e-6).unwrap();
            let back = Problem::new(m, n, k);
            let back = back.builder().calibration_rows(&back.x).isa(isa).build();
            let mlp = Mlp::new(layer, Activation::Gelu, back.unwrap()).unwrap();
            let mut tokens = problem.x.clone();
            let mut scratch = Scratch::with_bytes(mlp.scratch_bytes(m, 3));
            let mut residual = |executor| {
                let tokens = MatMut::new(&mut tokens, m, k, k).unwrap();
                mlp.forward_residual(&norm, tokens, &mut scratch, executor)
                    .unwrap();
            };
            let count = allocations(10, || residual(serial));
            assert_eq!(count, 0, "{isa} {m}x{k}x{n}, an MLP");
            let count = pool.install(|| {
                let pool = Executor::rayon();
                allocations(10, || residual(pool))
            });
            assert_eq!(count, 0, "{isa} {m}x{k}x{n}, an MLP on a pool of three");

            let matmul = DynamicMatmul::new(Some(isa)).unwrap();
            let mut memory = Scratch::with_bytes(matmul.operand_bytes(n, k));
            let mut scratch = Scratch::with_bytes(matmul.scratch_bytes(m, n, k));
            let count = allocations(10, || {
                let left = MatRef::new(&problem.x, m, k, k).unwrap();
                let right = MatRef::new(&problem.weight, n, k, k).unwrap();
                let output = MatMut::new(&mut y, m, n, n).unwrap();
                let operand = matmul.pack_rows(right, &mut memory, &mut scratch);
                let range = matmul.range(left);
                operand
                    .unwrap()
                    .multiply(left, range, 1.0, output, &mut scratch)
                    .unwrap();
            });
            assert_eq!(count, 0, "{isa} {m}x{k}x{n}, both quantized at run time");
        }
    }
}
