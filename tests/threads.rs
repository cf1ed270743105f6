//! The bits do not depend on who runs the tasks, how many there are, or what the scratch was made for.

mod common;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Problem, bits, isas};
use noisyquant::{Executor, Isa, Noise, ParallelFor, QuantLinear, Scratch};
use rayon::ThreadPoolBuilder;
use rayon::prelude::*;

/// Outputs of `layer` on `executor`, with scratch for as many tasks as it has threads.
fn run(layer: &QuantLinear, problem: &Problem, executor: Executor<'_>) -> Vec<u32> {
    let bytes = layer.scratch_bytes(problem.m, executor.threads());
    let mut y = vec![f32::NAN; problem.m * problem.n];
    layer
        .forward_into(
            &problem.x,
            &mut y,
            &mut Scratch::with_bytes(bytes),
            executor,
        )
        .unwrap();
    bits(&y)
}

/// A thread for each task, as a host might have them, that counts the tasks.
fn host(count: usize, task: &(dyn Fn(usize) + Sync), tasks: &AtomicUsize) {
    tasks.store(count, Ordering::Relaxed);
    std::thread::scope(|scope| {
        for number in 0..count {
            scope.spawn(move || task(number));
        }
    });
}

#[test]
fn any_executor_and_number_of_threads_gives_the_same_bits() {
    // Tall, short, one row, wide and narrow; large enough to be worth a second thread.
    for (m, k, n) in [
        (197, 384, 384),
        (3, 1024, 3000),
        (1, 2048, 2048),
        (64, 512, 33),
        (500, 64, 200),
    ] {
        let problem = Problem::new(m, k, n);
        for isa in isas().into_iter().filter(|isa| isa.name() != "scalar") {
            let layer = problem
                .builder()
                .noise(Noise::Uniform {
                    range: 0.1,
                    seed: 5,
                })
                .calibration_rows(&problem.x)
                .isa(isa)
                .build()
                .unwrap();
            let serial = run(&layer, &problem, Executor::serial());
            for threads in [1, 2, 3, 7, 16] {
                let what = format!("{isa} {m}x{k}x{n} on {threads}");
                let pool = ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap();
                let y = pool.install(|| {
                    assert_eq!(Executor::rayon().threads(), threads);
                    run(&layer, &problem, Executor::rayon())
                });
                assert_eq!(y, serial, "{what} of rayon's");

                let tasks = AtomicUsize::new(1);
                let parallel_for =
                    |count: usize, task: &(dyn Fn(usize) + Sync)| host(count, task, &tasks);
                let executor = Executor::host(threads, &parallel_for);
                let y = run(&layer, &problem, executor);
                assert_eq!(y, serial, "{what} of the host's");
                let tasks = tasks.load(Ordering::Relaxed);
                let planned = layer.explain_on(m, executor).tasks;
                assert!(tasks <= planned, "{what}: {tasks} tasks of {planned}");
                assert!(planned == 1 || tasks > 1, "{what}: {tasks} of {planned}");
            }
        }
    }
}

/// A host's loop may be in any order, on one thread, and even leave tasks out or repeat them.
#[test]
fn a_careless_parallel_for_gives_the_same_bits() {
    let problem = Problem::new(400, 768, 768);
    let layer = problem
        .builder()
        .calibration_rows(&problem.x)
        .build()
        .unwrap();
    let serial = run(&layer, &problem, Executor::serial());
    type Task<'a> = &'a (dyn Fn(usize) + Sync);
    let backwards = |count: usize, task: Task<'_>| (0..count).rev().for_each(task);
    let lazy = |_: usize, task: Task<'_>| task(0);
    let idle = |_: usize, _: Task<'_>| ();
    let eager = |count: usize, task: Task<'_>| (0..3 * count).for_each(task);
    let loops: [&ParallelFor<'_>; 4] = [&backwards, &lazy, &idle, &eager];
    for parallel_for in loops {
        let executor = Executor::host(5, parallel_for);
        assert!(layer.explain_on(400, executor).tasks > 1);
        assert_eq!(run(&layer, &problem, executor), serial);
    }
}

#[test]
fn a_scratch_of_fewer_slots_than_threads_still_serves() {
    let problem = Problem::new(197, 384, 384);
    let layer = problem
        .builder()
        .calibration_rows(&problem.x)
        .build()
        .unwrap();
    let expected = layer.forward(&problem.x).unwrap();
    let pool = ThreadPoolBuilder::new().num_threads(5).build().unwrap();
    for slots in 1..=5 {
        let mut scratch = Scratch::with_bytes(layer.scratch_bytes(197, slots));
        let mut y = vec![0f32; 197 * 384];
        let forward = || layer.forward_into(&problem.x, &mut y, &mut scratch, Executor::rayon());
        pool.install(forward).unwrap();
        assert_eq!(bits(&y), bits(&expected));
    }
}

/// A thread that waits for its tasks takes up another round, which waits for the lock of the first: but for
/// calls that stay on their thread.
#[test]
fn a_scratch_behind_a_lock_serves_a_loop_of_calls_that_stay_on_their_thread() {
    let problem = Problem::new(48, 64, 64);
    let builder = problem.builder().isa(Isa::Scalar);
    let layer = builder.calibration_rows(&problem.x).build().unwrap();
    let expected = bits(&layer.forward(&problem.x).unwrap());
    let pool = ThreadPoolBuilder::new().num_threads(8).build().unwrap();
    let cases: [(usize, fn() -> Executor<'static>); 2] =
        [(1, Executor::rayon), (8, Executor::serial)];
    for (threads, executor) in cases {
        let scratch = Mutex::new(Scratch::with_bytes(layer.scratch_bytes(48, threads)));
        pool.install(|| {
            (0..500).into_par_iter().for_each(|_| {
                let mut y = vec![0f32; 48 * 64];
                let scratch = &mut scratch.lock().unwrap();
                let done = layer.forward_into(&problem.x, &mut y, scratch, executor());
                done.unwrap();
                assert_eq!(bits(&y), expected);
            });
        });
    }
}

#[test]
fn scratch_of_the_host_serves_as_its_own_does() {
    let problem = Problem::new(197, 384, 384);
    let layer = problem
        .builder()
        .calibration_rows(&problem.x)
        .build()
        .unwrap();
    let expected = layer.forward(&problem.x).unwrap();
    let bytes = layer.scratch_bytes(197, 2);
    let mut arena = vec![0xa5u8; bytes + Scratch::ALIGN];
    let start = arena.as_ptr().align_offset(Scratch::ALIGN);
    let arena = &mut arena[start..];
    let mut y = vec![0f32; 197 * 384];
    {
        let mut scratch = Scratch::from_slice(&mut arena[..bytes]).unwrap();
        assert_eq!(scratch.bytes(), bytes);
        layer
            .forward_into(&problem.x, &mut y, &mut scratch, Executor::rayon())
            .unwrap();
        assert_eq!(bits(&y), bits(&expected));
    }
    let refused = Scratch::from_slice(&mut arena[1..]).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "scratch: expected an address that is a multiple of 64, got one 1 bytes past"
    );
    let mut scratch = Scratch::from_slice(&mut arena[..64]).unwrap();
    let refused = layer.forward_into(&problem.x, &mut y, &mut scratch, Executor::serial());
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .starts_with("scratch: expected at least")
    );
}
