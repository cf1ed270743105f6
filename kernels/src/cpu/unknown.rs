//! Architectures without kernels of their own.

use crate::isa::Isa;

/// No SIMD instruction set is known here.
pub(super) fn has(_: Isa) -> bool {
    false
}

/// Nothing is known, so nothing is refused.
pub(super) fn refused(_: Isa) -> bool {
    false
}

/// Not known here.
pub(super) fn l2_bytes() -> Option<usize> {
    None
}
