//! Which Arm instruction sets this CPU and operating system can run: the one place that knows.

use std::arch::is_aarch64_feature_detected;

use crate::isa::Isa;

/// Whether `isa` can run here. std asks Linux and Android for HWCAP, macOS for `sysctl` and Windows
/// for `IsProcessorFeaturePresent`, once, and caches the answer. (cpufeatures knows neither
/// `dotprod` nor `i8mm`.)
pub(crate) fn detect(isa: Isa) -> bool {
    match isa {
        Isa::Neon => is_aarch64_feature_detected!("neon"),
        Isa::NeonDotprod => detect(Isa::Neon) && is_aarch64_feature_detected!("dotprod"),
        Isa::NeonI8mm => detect(Isa::Neon) && is_aarch64_feature_detected!("i8mm"),
        _ => false,
    }
}

/// What the CPU has, the operating system allows.
pub(crate) fn refused(_: Isa) -> bool {
    false
}

/// Not readable from user space in general.
pub(crate) fn l2_bytes() -> Option<usize> {
    None
}
