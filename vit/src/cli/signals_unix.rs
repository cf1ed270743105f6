//! Signals that end the program.

use std::{
    fs,
    sync::{Arc, atomic::AtomicBool},
    thread,
};

use signal_hook::{
    consts::{SIGABRT, SIGHUP, SIGINT, SIGTERM},
    flag,
    iterator::Signals,
};

/// What the program returns for anything that failed.
const FAILED: i32 = 1;

/// Call `end` on another thread when the program is asked to end. A signal that the program was started to
/// ignore, as `nohup` and shells in the background have it, stays ignored.
pub(super) fn on_end(end: impl FnOnce() + Send + 'static) {
    let ignored = ignored();
    let heard = [SIGINT, SIGTERM, SIGHUP].into_iter();
    // Without a handler an interrupted run may leave its temporary file; it still works.
    if let Ok(mut signals) = Signals::new(heard.filter(|signal| ignored >> (signal - 1) & 1 == 0)) {
        let wait = move || {
            if signals.forever().next().is_some() {
                end();
            }
        };
        let _ = thread::Builder::new().name("signals".into()).spawn(wait);
    }
}

/// Make a failure of an abort: the standard library aborts, with one line on stderr, where there is not
/// enough memory.
pub(super) fn fail_on_abort() {
    // Without it the program is ended by the signal.
    let always = Arc::new(AtomicBool::new(true));
    let _ = flag::register_conditional_shutdown(SIGABRT, FAILED, always);
}

/// Bit `n − 1` is set if signal `n` is ignored. Only Linux says so to safe Rust; elsewhere none is.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}
