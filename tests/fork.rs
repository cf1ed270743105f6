//! After `fork()`, the child of a process that used rayon runs on the serial executor. A binary of its own:
//! it forks.

#![cfg(unix)]

mod common;

use std::time::{Duration, Instant};

use common::{Problem, bits};
use noisyquant::{Executor, Scratch};

#[test]
fn a_forked_child_runs_on_the_serial_executor() {
    let problem = Problem::new(400, 768, 768);
    let layer = problem
        .builder()
        .calibration_rows(&problem.x)
        .build()
        .unwrap();
    let mut y = vec![0f32; 400 * 768];
    // rayon's pool has threads in this process, and none in the child.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build();
    pool.unwrap().install(|| {
        let mut scratch = layer.scratch(400);
        let executor = Executor::rayon();
        assert!(layer.explain_on(400, executor).tasks > 1);
        layer
            .forward_into(&problem.x, &mut y, &mut scratch, executor)
            .unwrap();
    });
    let expected = bits(&y);
    let bytes = layer.scratch_bytes(400, 1);
    let mut scratch = Scratch::with_bytes(bytes);
    y.fill(f32::NAN);

    // SAFETY: the child only computes, in memory that is there already, and ends with `_exit`.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork");
    if child == 0 {
        let done = layer.forward_into(&problem.x, &mut y, &mut scratch, Executor::serial());
        let same = y.iter().map(|y| y.to_bits()).eq(expected.iter().copied());
        // SAFETY: ends the child without running what belongs to the test.
        unsafe { libc::_exit(if done.is_ok() && same { 0 } else { 1 }) }
    }
    let start = Instant::now();
    let mut status = 0;
    // SAFETY: waits for our own child.
    while unsafe { libc::waitpid(child, &mut status, libc::WNOHANG) } == 0 {
        if start.elapsed() > Duration::from_secs(60) {
            // SAFETY: our own child.
            unsafe { libc::kill(child, libc::SIGKILL) };
            panic!("the child hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(libc::WIFEXITED(status), "status {status}");
    assert_eq!(libc::WEXITSTATUS(status), 0, "other bits, or an error");
}
