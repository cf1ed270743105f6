//! A child of `fork()` that works and ends, for tests.

use std::panic::{self, AssertUnwindSafe};
use std::time::{Duration, Instant};

/// Runs `holds` in a child, and asserts that it returns true there, within a minute.
pub fn assert_in_child(holds: impl FnOnce() -> bool) {
    // SAFETY: the child only computes, on the one thread that it has, and ends with `_exit`; glibc's and
    // musl's allocators work after a fork.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork");
    if child == 0 {
        let held = panic::catch_unwind(AssertUnwindSafe(holds));
        let status = match held {
            Ok(true) => 0,
            Ok(false) => 1,
            Err(_) => 2,
        };
        // SAFETY: ends the child without running what belongs to the test.
        unsafe { libc::_exit(status) }
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
    assert_eq!(libc::WEXITSTATUS(status), 0, "1: false, 2: a panic");
}

/// Whether a child may start threads: qemu ends one that does by an assertion of its own.
#[allow(dead_code, reason = "not every test program asks")]
pub fn children_may_start_threads() -> bool {
    let runner = std::env::var("NOISYQUANT_TEST_RUNNER");
    !runner.is_ok_and(|runner| runner.starts_with("qemu"))
}
