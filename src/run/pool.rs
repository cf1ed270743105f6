//! Is rayon's pool there? Not where the system refuses threads, nor in the child of a `fork()`.

use std::error::Error as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;
use std::{mem, panic, process, thread};

use rayon::ThreadPoolBuilder;

use crate::error::Error;

/// The process that last looked for the global pool, and whether it was there: `2 · id + there`.
static FOUND: AtomicU64 = AtomicU64::new(0);

/// How long a pool that the host has started may take to answer. One that does not is taken for one whose
/// threads were lost in a `fork()`; if it was only busy, the bits are the same.
const PATIENCE: Duration = Duration::from_secs(1);

/// Makes sure that a loop on rayon's current pool comes to an end. Where the calling thread is in no pool and
/// the global one is not there, the thread becomes a pool of its own, and stays one: what it starts on
/// rayon, here or in the host's code, it carries out itself.
pub(crate) fn ensure() {
    if find().is_err() {
        let alone = ThreadPoolBuilder::new().num_threads(1).use_current_thread();
        // It starts no thread, which is all that could fail, and lasts as long as the calling one.
        mem::forget(alone.build());
    }
}

/// Whether the calling thread is in a pool, or the global one is there.
///
/// # Errors
///
/// [`Error::Threads`] if neither is so.
pub(crate) fn find() -> Result<(), Error> {
    if rayon::current_thread_index().is_some() {
        return Ok(());
    }
    let process = u64::from(process::id());
    let looked = match FOUND.load(Ordering::Relaxed) {
        0 => look(),
        found if found == process << 1 | 1 => return Ok(()),
        // Threads stay behind in the process that forked, and rayon starts the global pool but once.
        _ => Err("those that a fork() left behind, or that were refused before".into()),
    };
    FOUND.store(process << 1 | u64::from(looked.is_ok()), Ordering::Relaxed);
    looked.map_err(|got| Error::Threads { got })
}

/// Starts the global pool, or asks the one that the host has started.
fn look() -> Result<(), String> {
    let mut started = Vec::new();
    let pool = ThreadPoolBuilder::new().spawn_handler(|thread| {
        started.push(thread::Builder::new().spawn(|| thread.run())?);
        Ok(())
    });
    match pool.build_global() {
        Ok(()) => Ok(()),
        Err(refused) if refused.source().is_some() => {
            // Those that did start end now. Until they have, their stacks may be all the memory there was.
            started.into_iter().for_each(|thread| _ = thread.join());
            Err(refused.to_string())
        }
        Err(_) if answers() => Ok(()),
        Err(_) => Err("no answer from those that the host has started".into()),
    }
}

fn answers() -> bool {
    let (answer, answered) = mpsc::channel();
    // rayon panics if the host has tried to start the pool before, and could not.
    let asked = panic::catch_unwind(|| rayon::spawn(move || _ = answer.send(())));
    asked.is_ok() && answered.recv_timeout(PATIENCE).is_ok()
}
