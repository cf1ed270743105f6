//! Which Arm instruction sets this CPU and operating system can run.

use std::arch::is_aarch64_feature_detected;

use crate::isa::Isa;

/// Whether `isa` can run here. std asks Linux and Android for HWCAP, macOS for `sysctl` and Windows
/// for `IsProcessorFeaturePresent`, once, and caches the answer.
pub(super) fn has(isa: Isa) -> bool {
    match isa {
        Isa::Neon => is_aarch64_feature_detected!("neon"),
        Isa::NeonDotprod => has(Isa::Neon) && is_aarch64_feature_detected!("dotprod"),
        Isa::NeonI8mm => has(Isa::Neon) && is_aarch64_feature_detected!("i8mm"),
        _ => false,
    }
}

/// What the CPU has, the operating system allows.
pub(super) fn refused(_: Isa) -> bool {
    false
}

/// What there is needs no permission.
pub(super) fn enable(isa: Isa) -> bool {
    has(isa)
}

/// Not readable from user space in general.
pub(super) fn l2_bytes() -> Option<usize> {
    None
}
