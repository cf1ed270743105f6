//! Who runs the tasks of a call.

use core::fmt;

/// Calls a task with every number below the first argument, each once, and returns when all are done. The
/// number only counts: a task takes the next part of the work, whatever its number. A panic of a task must
/// reach the caller.
pub type ParallelFor<'a> = dyn Fn(usize, &(dyn Fn(usize) + Sync)) + Sync + 'a;

/// Who runs the tasks of a call: the calling thread, rayon's current pool, or the host's own threads.
/// The bits of the output are the same with any of them.
///
/// The [default](Self::default) is rayon's current pool, or, without the feature `rayon`, the calling
/// thread.
///
/// ```
/// use noisyquant::Executor;
///
/// // An engine with threads of its own lends them. Here they are made anew for each call.
/// let parallel_for = |count: usize, task: &(dyn Fn(usize) + Sync)| {
///     std::thread::scope(|scope| {
///         for number in 0..count {
///             scope.spawn(move || task(number));
///         }
///     });
/// };
/// let host = Executor::host(4, &parallel_for);
/// assert_eq!(host.threads(), 4);
/// assert_eq!(Executor::serial().threads(), 1);
/// ```
///
/// # After `fork()`
///
/// The child of a process that used rayon has none of its threads. There rayon's pool is the calling thread
/// alone: calls are answered, with the same bits, by one thread. A child that wants more starts a pool of its
/// own and calls within it, or lends threads that it started after the fork.
#[derive(Clone, Copy)]
pub struct Executor<'a> {
    pub(super) threads: usize,
    /// None runs on the calling thread.
    pub(super) parallel_for: Option<&'a ParallelFor<'a>>,
}

impl Executor<'_> {
    /// The calling thread.
    pub const fn serial() -> Self {
        Executor {
            threads: 1,
            parallel_for: None,
        }
    }

    /// The most tasks that a call is cut into.
    pub fn threads(&self) -> usize {
        self.threads
    }
}

impl fmt::Debug for Executor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parallel_for {
            None => f.write_str("Executor(the calling thread)"),
            Some(_) => write!(f, "Executor({} threads)", self.threads),
        }
    }
}
