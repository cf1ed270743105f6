//! Without std there is no environment to ask.

use alloc::string::String;

pub(super) fn isa() -> Option<String> {
    None
}
