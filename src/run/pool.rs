//! Is rayon's pool there? Not where the system refuses threads, nor in the child of a `fork()`.

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;
use std::{mem, panic, process};

use rayon::ThreadPoolBuilder;

/// The process that last looked for the global pool, and whether it was there: `2 · id + there`.
static FOUND: AtomicU64 = AtomicU64::new(0);

/// How long a pool that the host has started may take to answer. One that does not is taken for one whose
/// threads were lost in a `fork()`; if it was only busy, the bits are the same.
const PATIENCE: Duration = Duration::from_secs(1);

/// Makes sure that a loop on rayon's current pool comes to an end. Where the calling thread is in no pool and
/// the global one is not there, the thread becomes a pool of its own, and stays one: what it starts on
/// rayon, here or in the host's code, it carries out itself.
pub(crate) fn ensure() {
    if rayon::current_thread_index().is_none() && !global_is_there() {
        let alone = ThreadPoolBuilder::new().num_threads(1).use_current_thread();
        // It starts no thread, which is all that could fail, and lasts as long as the calling one.
        mem::forget(alone.build());
    }
}

fn global_is_there() -> bool {
    let process = u64::from(process::id());
    let found = FOUND.load(Ordering::Relaxed);
    if found >> 1 == process {
        return found & 1 == 1;
    }
    // Threads stay behind in the process that forked, and rayon starts the global pool but once.
    let there = found == 0 && look();
    FOUND.store(process << 1 | u64::from(there), Ordering::Relaxed);
    there
}

/// Starts the global pool, or asks the one that the host has started.
fn look() -> bool {
    match ThreadPoolBuilder::new().build_global() {
        Ok(()) => true,
        Err(refused) if refused.source().is_some() => false,
        Err(_) => answers(),
    }
}

fn answers() -> bool {
    let (answer, answered) = mpsc::channel();
    // rayon panics if the host has tried to start the pool before, and could not.
    let asked = panic::catch_unwind(|| rayon::spawn(move || _ = answer.send(())));
    asked.is_ok() && answered.recv_timeout(PATIENCE).is_ok()
}
