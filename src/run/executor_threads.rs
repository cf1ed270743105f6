//! Executors of many threads, and how work is shared between them.

use std::sync::{Mutex, PoisonError};

use super::executor::{Executor, ParallelFor};

impl<'a> Executor<'a> {
    /// The host's threads: `parallel_for(count, task)` calls `task` with each of `0..count` once, on any
    /// threads in any order, and returns when all have been done. A call is cut into at most `threads`
    /// tasks, at least one. What is left over when it returns is done by the calling thread.
    pub fn host(threads: usize, parallel_for: &'a ParallelFor<'a>) -> Self {
        Executor {
            threads: threads.max(1),
            parallel_for: Some(parallel_for),
        }
    }

    /// Calls `work` with each of `items`, of which there are `count`. A task takes the next item rather
    /// than that of its number, so that mutable parts of one slice can be handed out without `unsafe` and
    /// without allocation. Items that the host's loop leaves over are done here.
    pub(crate) fn for_each<T: Send>(
        self,
        count: usize,
        items: impl Iterator<Item = T> + Send,
        work: impl Fn(T) + Sync,
    ) {
        let Some(parallel_for) = self.parallel_for.filter(|_| count > 1) else {
            return items.for_each(work);
        };
        let items = Mutex::new(items);
        parallel_for(count, &|_| {
            // After a panic in a task the iterator is as good as before: the lock is not held meanwhile.
            let item = items.lock().unwrap_or_else(PoisonError::into_inner).next();
            item.into_iter().for_each(&work);
        });
        let left = items.into_inner().unwrap_or_else(PoisonError::into_inner);
        left.for_each(work);
    }
}
