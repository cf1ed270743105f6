//! The executor that is meant where none is named, without rayon.

use super::executor::Executor;

impl Default for Executor<'_> {
    fn default() -> Self {
        Executor::serial()
    }
}
