//! No detection: what the crate is compiled for is what there is. So it is without std, and on architectures
//! without kernels of their own.

use crate::isa::Isa;

/// Whether the crate is compiled for CPUs with `isa` alone. AMX has no feature that stable Rust names, and
/// needs permission; it is never available here.
pub(super) fn has(isa: Isa) -> bool {
    let x86 = cfg!(target_arch = "x86_64");
    let arm = cfg!(all(target_arch = "aarch64", target_endian = "little"));
    match isa {
        Isa::Scalar => true,
        Isa::Avx2 => {
            x86 && cfg!(all(
                target_feature = "avx2",
                target_feature = "fma",
                target_feature = "f16c"
            ))
        }
        Isa::AvxVnni => has(Isa::Avx2) && cfg!(target_feature = "avxvnni"),
        Isa::Avx512Vnni => {
            has(Isa::Avx2)
                && cfg!(all(
                    target_feature = "avx512f",
                    target_feature = "avx512bw",
                    target_feature = "avx512dq",
                    target_feature = "avx512vl",
                    target_feature = "avx512vnni"
                ))
        }
        Isa::Amx => false,
        Isa::Neon => arm && cfg!(target_feature = "neon"),
        Isa::NeonDotprod => has(Isa::Neon) && cfg!(target_feature = "dotprod"),
        Isa::NeonI8mm => has(Isa::Neon) && cfg!(target_feature = "i8mm"),
    }
}

/// Nothing is asked for, so nothing is refused.
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
