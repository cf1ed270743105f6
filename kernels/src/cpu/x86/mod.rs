//! Which x86 instruction sets this CPU and operating system can run.

#[cfg(target_os = "linux")]
#[path = "amx_permission_linux.rs"]
mod amx_permission;
#[cfg(not(target_os = "linux"))]
#[path = "amx_permission_other.rs"]
mod amx_permission;
mod cache;

use std::arch::is_x86_feature_detected;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::sync::{LazyLock, OnceLock};

pub(super) use cache::l2_bytes;

use crate::isa::Isa;

/// std does not know AMX on stable Rust. In a virtual machine `cpuid` is slow, so it is asked once.
static HAS_AMX: LazyLock<bool> = LazyLock::new(|| amx_permission::CAN_BE_ASKED && has_amx());

/// What the operating system answered when it was asked for the use of tiles; empty if it was not.
static AMX_GRANTED: OnceLock<bool> = OnceLock::new();

/// Whether CPU and operating system have `isa` and it was not refused so far. This asks for no permission.
/// std asks the CPU once; a check after the first is one load.
pub(super) fn has(isa: Isa) -> bool {
    match isa {
        Isa::Avx2 => {
            is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c")
        }
        Isa::AvxVnni => has(Isa::Avx2) && is_x86_feature_detected!("avxvnni"),
        Isa::Avx512Vnni => {
            has(Isa::Avx2)
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
        }
        Isa::Amx => has(Isa::Avx512Vnni) && *HAS_AMX && AMX_GRANTED.get() != Some(&false),
        _ => false,
    }
}

/// Whether the operating system was asked for `isa` and refused.
pub(super) fn refused(isa: Isa) -> bool {
    isa == Isa::Amx && AMX_GRANTED.get() == Some(&false)
}

/// Whether `isa` can run, with permission: the only place that asks for it.
pub(super) fn enable(isa: Isa) -> bool {
    has(isa) && (isa != Isa::Amx || *AMX_GRANTED.get_or_init(amx_permission::request))
}

/// AMX-TILE and AMX-INT8, and the operating system saves their state.
fn has_amx() -> bool {
    const TILE_AND_INT8: u32 = 1 << 24 | 1 << 25;
    const XCR0_TILES: u64 = 1 << 17 | 1 << 18;
    const OSXSAVE: u32 = 1 << 27;
    let leaves = __cpuid(0).eax;
    leaves >= 7
        && __cpuid_count(7, 0).edx & TILE_AND_INT8 == TILE_AND_INT8
        && __cpuid(1).ecx & OSXSAVE != 0
        // SAFETY: OSXSAVE says that `xgetbv` is enabled.
        && unsafe { _xgetbv(0) } & XCR0_TILES == XCR0_TILES
}
