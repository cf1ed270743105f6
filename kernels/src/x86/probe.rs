//! Peak probes: the dot-product instructions of each kernel on registers alone, without loads.
//!
//! A bench divides a kernel's rate by the rate of its probe in the same run. `asm!`, so that no
//! compiler can improve the loop away. Each returns the multiply-accumulates that it did.

use core::arch::asm;

/// `vpmaddwd` + `vpaddd` on ymm, 16 MACs a pair: the step of exact int8 on AVX2.
///
/// # Safety
///
/// The CPU has AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn avx2_madd_i16(steps: u64) -> u64 {
    // SAFETY: registers only.
    unsafe {
        asm!(
            "vpxor {a}, {a}, {a}",
            "2:",
            "vpmaddwd {t0}, {a}, {a}", "vpaddd {c0}, {c0}, {t0}",
            "vpmaddwd {t1}, {a}, {a}", "vpaddd {c1}, {c1}, {t1}",
            "vpmaddwd {t0}, {a}, {a}", "vpaddd {c2}, {c2}, {t0}",
            "vpmaddwd {t1}, {a}, {a}", "vpaddd {c3}, {c3}, {t1}",
            "vpmaddwd {t0}, {a}, {a}", "vpaddd {c4}, {c4}, {t0}",
            "vpmaddwd {t1}, {a}, {a}", "vpaddd {c5}, {c5}, {t1}",
            "vpmaddwd {t0}, {a}, {a}", "vpaddd {c6}, {c6}, {t0}",
            "vpmaddwd {t1}, {a}, {a}", "vpaddd {c7}, {c7}, {t1}",
            "dec {n}",
            "jnz 2b",
            n = inout(reg) steps.max(1) => _,
            a = out(ymm_reg) _,
            t0 = out(ymm_reg) _, t1 = out(ymm_reg) _,
            c0 = out(ymm_reg) _, c1 = out(ymm_reg) _, c2 = out(ymm_reg) _, c3 = out(ymm_reg) _,
            c4 = out(ymm_reg) _, c5 = out(ymm_reg) _, c6 = out(ymm_reg) _, c7 = out(ymm_reg) _,
            options(nomem, nostack),
        );
    }
    steps.max(1) * 8 * 16
}

/// `vpmaddubsw` + `vpmaddwd` + `vpaddd` on ymm, 32 MACs each: the step of int7 on AVX2.
///
/// # Safety
///
/// The CPU has AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn avx2_maddubs(steps: u64) -> u64 {
    // SAFETY: registers only.
    unsafe {
        asm!(
            "vpxor ymm15, ymm15, ymm15",
            "2:",
            ".irp i, 0,1,2,3,4,5,6,7",
            "vpmaddubsw ymm8, ymm15, ymm15",
            "vpmaddwd ymm8, ymm8, ymm15",
            "vpaddd ymm\\i, ymm\\i, ymm8",
            ".endr",
            "dec {n}",
            "jnz 2b",
            n = inout(reg) steps.max(1) => _,
            out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _, out("ymm4") _,
            out("ymm5") _, out("ymm6") _, out("ymm7") _, out("ymm8") _, out("ymm15") _,
            options(nomem, nostack),
        );
    }
    steps.max(1) * 8 * 32
}

/// `vpdpbusd` on ymm in its VEX encoding, 32 MACs each, on 12 independent chains.
///
/// # Safety
///
/// The CPU has AVX-VNNI.
#[target_feature(enable = "avx2,avxvnni")]
pub(super) unsafe fn avxvnni_dpbusd(steps: u64) -> u64 {
    // SAFETY: registers only. The accumulators' values do not matter, so they start as they are.
    unsafe {
        asm!(
            "vpxor ymm15, ymm15, ymm15",
            "2:",
            ".irp i, 0,1,2,3,4,5,6,7,8,9,10,11",
            "{{vex}} vpdpbusd ymm\\i, ymm15, ymm15",
            ".endr",
            "dec {n}",
            "jnz 2b",
            n = inout(reg) steps.max(1) => _,
            out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _, out("ymm4") _,
            out("ymm5") _, out("ymm6") _, out("ymm7") _, out("ymm8") _, out("ymm9") _,
            out("ymm10") _, out("ymm11") _, out("ymm15") _,
            options(nomem, nostack),
        );
    }
    steps.max(1) * 12 * 32
}

/// Eight `vpmaddubsw`, seven `vpaddw`, then `vpmaddwd` + `vpaddd`, 32 MACs each: int6 on AVX2.
///
/// # Safety
///
/// The CPU has AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn avx2_maddubs_x8(steps: u64) -> u64 {
    // SAFETY: registers only. Four chains, each the work of one i16 accumulator over 32 inputs.
    unsafe {
        asm!(
            "vpxor {a}, {a}, {a}",
            "2:",
            "vpmaddubsw {s0}, {a}, {a}", "vpmaddubsw {s1}, {a}, {a}",
            "vpmaddubsw {s2}, {a}, {a}", "vpmaddubsw {s3}, {a}, {a}",
            ".rept 7",
            "vpmaddubsw {t0}, {a}, {a}", "vpaddw {s0}, {s0}, {t0}",
            "vpmaddubsw {t1}, {a}, {a}", "vpaddw {s1}, {s1}, {t1}",
            "vpmaddubsw {t0}, {a}, {a}", "vpaddw {s2}, {s2}, {t0}",
            "vpmaddubsw {t1}, {a}, {a}", "vpaddw {s3}, {s3}, {t1}",
            ".endr",
            "vpmaddwd {s0}, {s0}, {a}", "vpaddd {c0}, {c0}, {s0}",
            "vpmaddwd {s1}, {s1}, {a}", "vpaddd {c1}, {c1}, {s1}",
            "vpmaddwd {s2}, {s2}, {a}", "vpaddd {c2}, {c2}, {s2}",
            "vpmaddwd {s3}, {s3}, {a}", "vpaddd {c3}, {c3}, {s3}",
            "dec {n}",
            "jnz 2b",
            n = inout(reg) steps.max(1) => _,
            a = out(ymm_reg) _,
            t0 = out(ymm_reg) _, t1 = out(ymm_reg) _,
            s0 = out(ymm_reg) _, s1 = out(ymm_reg) _, s2 = out(ymm_reg) _, s3 = out(ymm_reg) _,
            c0 = out(ymm_reg) _, c1 = out(ymm_reg) _, c2 = out(ymm_reg) _, c3 = out(ymm_reg) _,
            options(nomem, nostack),
        );
    }
    steps.max(1) * 4 * 8 * 32
}

/// `vpdpbusd` on zmm, 64 MACs each, on 24 independent chains.
///
/// # Safety
///
/// The CPU has AVX-512 VNNI.
#[target_feature(enable = "avx512f,avx512vnni")]
pub(super) unsafe fn avx512_dpbusd(steps: u64) -> u64 {
    // SAFETY: registers only. The accumulators' values do not matter, so they start as they are.
    unsafe {
        asm!(
            "vpxord zmm30, zmm30, zmm30",
            "2:",
            ".irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23",
            "vpdpbusd zmm\\i, zmm30, zmm30",
            ".endr",
            "dec {n}",
            "jnz 2b",
            n = inout(reg) steps.max(1) => _,
            out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _, out("zmm4") _,
            out("zmm5") _, out("zmm6") _, out("zmm7") _, out("zmm8") _, out("zmm9") _,
            out("zmm10") _, out("zmm11") _, out("zmm12") _, out("zmm13") _, out("zmm14") _,
            out("zmm15") _, out("zmm16") _, out("zmm17") _, out("zmm18") _, out("zmm19") _,
            out("zmm20") _, out("zmm21") _, out("zmm22") _, out("zmm23") _, out("zmm30") _,
            options(nomem, nostack),
        );
    }
    steps.max(1) * 24 * 64
}
