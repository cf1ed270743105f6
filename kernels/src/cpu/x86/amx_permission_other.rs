//! Systems other than Linux: no way to ask for tile registers that was tested here, so not used.

pub(super) const CAN_BE_ASKED: bool = false;

/// Never granted.
pub(super) fn request() -> bool {
    false
}
