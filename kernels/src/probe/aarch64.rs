//! The probes of AArch64.

use core::arch::asm;

/// `probe(steps)` returns the multiply-accumulates done.
type Probe = unsafe fn(u64) -> u64;

/// A probe for each micro-kernel, by its name.
pub(super) const PROBES: &[(&str, Probe)] = &[
    ("neon_u8s8_4x8x16", smull),
    ("neon_u6s6_2x16x32", add_smlal),
    ("neondotprod_u8s8_8x8x4", sdot),
    ("neondotprod_u6s6_8x8x4", sdot),
    ("neoni8mm_u8s8_4x24x8", usmmla),
    ("neoni8mm_u6s6_4x24x8", usmmla),
];

/// `smull`, `smlal2` and `sadalp`, 16 MACs: the step of exact int8 on plain NEON, on 16 accumulators.
///
/// # Safety
///
/// `steps` is not 0, and the CPU has NEON.
#[target_feature(enable = "neon")]
unsafe fn smull(steps: u64) -> u64 {
    // SAFETY: registers only. The accumulators' values do not matter, so they start as they are.
    unsafe {
        asm!(
            "2:",
            ".irp i, 0,1,2,3",
            "smull v16.8h, v24.8b, v25.8b",
            "smull v17.8h, v24.8b, v25.8b",
            "smull v18.8h, v24.8b, v25.8b",
            "smull v19.8h, v24.8b, v25.8b",
            "smlal2 v16.8h, v24.16b, v25.16b",
            "smlal2 v17.8h, v24.16b, v25.16b",
            "smlal2 v18.8h, v24.16b, v25.16b",
            "smlal2 v19.8h, v24.16b, v25.16b",
            "sadalp v\\i\\().4s, v16.8h",
            "sadalp v\\i\\().4s, v17.8h",
            "sadalp v\\i\\().4s, v18.8h",
            "sadalp v\\i\\().4s, v19.8h",
            ".endr",
            "subs {n}, {n}, #1",
            "b.ne 2b",
            n = inout(reg) steps => _,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _,
            out("v16") _, out("v17") _, out("v18") _, out("v19") _,
            out("v24") _, out("v25") _,
            options(nomem, nostack),
        );
    }
    steps * 16 * 16
}

/// Two byte additions, `smlal` and `smlal2`, 32 MACs: the step of int6, on eight accumulators.
///
/// # Safety
///
/// `steps` is not 0, and the CPU has NEON.
#[target_feature(enable = "neon")]
unsafe fn add_smlal(steps: u64) -> u64 {
    // SAFETY: registers only. The accumulators' values do not matter, so they start as they are.
    unsafe {
        asm!(
            "2:",
            ".irp i, 0,1,2,3,4,5,6,7",
            "add v16.16b, v24.16b, v25.16b",
            "add v17.16b, v26.16b, v27.16b",
            "smlal v\\i\\().8h, v16.8b, v17.8b",
            "smlal2 v\\i\\().8h, v16.16b, v17.16b",
            ".endr",
            "subs {n}, {n}, #1",
            "b.ne 2b",
            n = inout(reg) steps => _,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _,
            out("v4") _, out("v5") _, out("v6") _, out("v7") _,
            out("v16") _, out("v17") _,
            out("v24") _, out("v25") _, out("v26") _, out("v27") _,
            options(nomem, nostack),
        );
    }
    steps * 8 * 32
}

/// `sdot` by element, 16 MACs each, on 16 accumulators.
///
/// # Safety
///
/// `steps` is not 0, and the CPU has dotprod.
#[target_feature(enable = "neon,dotprod")]
unsafe fn sdot(steps: u64) -> u64 {
    // SAFETY: registers only. The accumulators' values do not matter, so they start as they are.
    unsafe {
        asm!(
            "2:",
            ".irp i, 0,1,2,3,4,5,6,7,16,17,18,19,20,21,22,23",
            "sdot v\\i\\().4s, v24.16b, v25.4b[1]",
            ".endr",
            "subs {n}, {n}, #1",
            "b.ne 2b",
            n = inout(reg) steps => _,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _,
            out("v4") _, out("v5") _, out("v6") _, out("v7") _,
            out("v16") _, out("v17") _, out("v18") _, out("v19") _,
            out("v20") _, out("v21") _, out("v22") _, out("v23") _,
            out("v24") _, out("v25") _,
            options(nomem, nostack),
        );
    }
    steps * 16 * 16
}

/// `usmmla`, 32 MACs each, on 16 accumulators.
///
/// # Safety
///
/// `steps` is not 0, and the CPU has i8mm.
#[target_feature(enable = "neon,i8mm")]
unsafe fn usmmla(steps: u64) -> u64 {
    // SAFETY: registers only. The accumulators' values do not matter, so they start as they are.
    unsafe {
        asm!(
            "2:",
            ".irp i, 0,1,2,3,4,5,6,7,16,17,18,19,20,21,22,23",
            "usmmla v\\i\\().4s, v24.16b, v25.16b",
            ".endr",
            "subs {n}, {n}, #1",
            "b.ne 2b",
            n = inout(reg) steps => _,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _,
            out("v4") _, out("v5") _, out("v6") _, out("v7") _,
            out("v16") _, out("v17") _, out("v18") _, out("v19") _,
            out("v20") _, out("v21") _, out("v22") _, out("v23") _,
            out("v24") _, out("v25") _,
            options(nomem, nostack),
        );
    }
    steps * 16 * 32
}
