//! Progress bars on stderr; nothing is drawn where that is no terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of `length` steps that shows the time left. It is cleared when it is dropped.
pub(super) fn bar(length: usize, message: impl Into<String>) -> ProgressBar {
    const TEMPLATE: &str = "{bar:24} {pos}/{len} {eta} left {wide_msg}";
    let style = ProgressStyle::with_template(TEMPLATE).unwrap_or(ProgressStyle::default_bar());
    let bar = ProgressBar::new(length as u64).with_style(style);
    bar.set_message(message.into());
    bar
}
