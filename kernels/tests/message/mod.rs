//! What is said at an assertion.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a call says when it panics; nothing if it does not.
pub fn message(call: impl FnOnce()) -> String {
    let Err(panic) = catch_unwind(AssertUnwindSafe(call)) else {
        return String::new();
    };
    match panic.downcast::<String>() {
        Ok(message) => *message,
        Err(panic) => panic.downcast::<&str>().expect("a message").to_string(),
    }
}
