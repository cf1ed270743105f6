//! A process that may have little memory: rayon's threads cannot be started, large outputs cannot be had. A
//! binary of its own: it bounds its process.

#![cfg(target_os = "linux")]

mod common;

use std::env;
use std::io::Write;
use std::process::Command;

use common::{Problem, bits};
use noisyquant::{Error, Executor, Scratch};

/// Runs one test of this file in a process of its own, and asserts that it succeeds and says nothing else.
fn assert_in_a_process(name: &str) {
    // Where another program stands between this one and Linux, as qemu does, addresses have no bound.
    if let Ok(runner) = env::var("NOISYQUANT_TEST_RUNNER") {
        // Not `eprintln!`, which the test harness would swallow.
        let mut stderr = std::io::stderr();
        return writeln!(stderr, "{name}: left out under {runner}").unwrap();
    }
    let test = env::current_exe().unwrap();
    let run = Command::new(test)
        // On its first thread, as no other can be had.
        .args(["--exact", name, "--ignored", "--test-threads=1"])
        // The stack of a single thread is more than the process may have. Many with small stacks would fill
        // it instead, and one that has just started could find no room for its first allocation.
        .env("RUST_MIN_STACK", "4294967296")
        .env("RAYON_NUM_THREADS", "4")
        .output()
        .unwrap();
    let [out, err] = [&run.stdout, &run.stderr].map(|said| String::from_utf8_lossy(said));
    assert!(run.status.success(), "{out}\n{err}");
    assert!(out.contains("1 passed") && err.is_empty(), "{out}\n{err}");
}

/// Bounds this process to 1 GiB of addresses.
fn bound() {
    let room = libc::rlimit {
        rlim_cur: 1 << 30,
        rlim_max: 1 << 30,
    };
    // SAFETY: takes a valid limit, and bounds this process alone.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &room) }, 0);
}

#[test]
fn layers_are_built_and_run_where_no_thread_can_be_started() {
    assert_in_a_process("without_room_for_threads");
}

#[test]
fn outputs_that_memory_does_not_hold_are_an_error() {
    assert_in_a_process("outputs_without_room");
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn without_room_for_threads() {
    bound();
    let refused = Executor::try_rayon().unwrap_err().to_string();
    let expected = "threads: expected a pool of them, got: ";
    assert!(refused.starts_with(expected), "{refused}");
    assert_eq!(Executor::rayon().threads(), 1);
    let problem = Problem::new(400, 768, 768);
    let builder = problem.builder().calibration_rows(&problem.x);
    let layer = builder.build().unwrap();
    // Now the thread is a pool.
    assert_eq!(Executor::try_rayon().unwrap().threads(), 1);
    assert_eq!(layer.explain(400).tasks, 1);
    let mut y = vec![0f32; 400 * 768];
    let mut scratch = Scratch::with_bytes(layer.scratch_bytes(400, 1));
    let serial = layer.forward_into(&problem.x, &mut y, &mut scratch, Executor::serial());
    serial.unwrap();
    assert_eq!(bits(&layer.forward(&problem.x).unwrap()), bits(&y));
    assert_eq!(layer.scratch(400).bytes(), scratch.bytes());
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn outputs_without_room() {
    bound();
    let problem = Problem::new(64, 8, 4096);
    let builder = problem.builder().calibration_rows(&problem.x);
    let layer = builder.build().unwrap();
    let error = layer.forward(&vec![0.5f32; 8 << 17]).unwrap_err();
    let bytes = (4 * 4096) << 17;
    let what = "output";
    assert_eq!(error, Error::Memory { what, bytes });
}
