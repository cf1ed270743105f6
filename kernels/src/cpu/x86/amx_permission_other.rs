//! Systems other than Linux: no way to ask for tile registers that was tested here, so not used.

/// Never granted.
pub(super) fn request() -> bool {
    false
}
