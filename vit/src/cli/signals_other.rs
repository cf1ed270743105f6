//! Signals that end the program, where there is little but Ctrl-C.

/// Call `end` on another thread when the program is asked to end.
pub(super) fn on_end(end: impl FnOnce() + Send + 'static) {
    let mut end = Some(end);
    // Without a handler an interrupted run may leave its temporary file; it still works.
    let _ = ctrlc::set_handler(move || {
        if let Some(end) = end.take() {
            end();
        }
    });
}

/// Nothing: there is no signal to make a failure of.
pub(super) fn fail_on_abort() {}
