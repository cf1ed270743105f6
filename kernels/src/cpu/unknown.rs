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

/// What there is needs no permission.
pub(super) fn enable(isa: Isa) -> bool {
    has(isa)
}

/// Not known here.
pub(super) fn l2_bytes() -> Option<usize> {
    None
}
