//! A process that may start no more threads runs everything on those that it has. A binary of its own: it
//! bounds the memory of its process.

#![cfg(target_os = "linux")]

mod common;

use std::env;
use std::process::Command;

use common::{Problem, bits};
use noisyquant::{Executor, Scratch};

/// The name of the test that runs in the bounded process.
const BOUNDED: &str = "in_a_process_without_room_for_threads";

#[test]
fn layers_are_built_and_run_where_no_thread_can_be_started() {
    let test = env::current_exe().unwrap();
    let arguments = ["--exact", BOUNDED, "--ignored", "--nocapture"];
    // rayon's threads have stacks of 2 MiB: together more than the process may have.
    let run = Command::new(test)
        .args(arguments)
        .env("RAYON_NUM_THREADS", "5000")
        .output();
    let run = run.unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(
        run.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&run.stderr)
    );
    assert!(said.contains("1 passed"), "{said}");
    assert!(
        run.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
}

#[test]
#[ignore = "run by the other test, in a process of its own"]
fn in_a_process_without_room_for_threads() {
    let room = libc::rlimit {
        rlim_cur: 1 << 30,
        rlim_max: 1 << 30,
    };
    // SAFETY: bounds this process alone.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &room) }, 0);
    let problem = Problem::new(400, 768, 768);
    let builder = problem.builder().calibration_rows(&problem.x);
    let layer = builder.build().unwrap();
    assert_eq!(Executor::rayon().threads(), 1);
    assert_eq!(layer.explain(400).tasks, 1);
    let mut y = vec![0f32; 400 * 768];
    let mut scratch = Scratch::with_bytes(layer.scratch_bytes(400, 1));
    let serial = layer.forward_into(&problem.x, &mut y, &mut scratch, Executor::serial());
    serial.unwrap();
    assert_eq!(bits(&layer.forward(&problem.x).unwrap()), bits(&y));
    assert_eq!(layer.scratch(400).bytes(), scratch.bytes());
}
