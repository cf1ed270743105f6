//! Without std there are no threads: all work is done by the calling one.

use super::executor::Executor;

impl Executor<'_> {
    /// Calls `work` with each of `items`, of which there are `count`.
    pub(crate) fn for_each<T: Send>(
        self,
        _count: usize,
        items: impl Iterator<Item = T> + Send,
        work: impl Fn(T) + Sync,
    ) {
        items.for_each(work);
    }
}
