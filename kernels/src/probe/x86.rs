//! The probes of x86-64.

use core::arch::asm;

/// `probe(steps)` returns the multiply-accumulates done.
type Probe = unsafe fn(u64) -> u64;

/// A probe for each micro-kernel, by its name.
pub(super) const PROBES: &[(&str, Probe)] = &[
    ("avx2_u8s8_6x16x2", avx2_madd_i16),
    ("avx2_u7s8_6x16x4", avx2_maddubs),
    ("avx2_u6s6_6x16x4", avx2_maddubs_x8),
    ("avxvnni_u8s8_6x16x4", avxvnni_dpbusd),
    ("avxvnni_u6s6_6x16x4", avxvnni_dpbusd),
    ("avx512vnni_u8s8_12x32x4", avx512_dpbusd),
    ("avx512vnni_u6s6_12x32x4", avx512_dpbusd),
    ("avx512vnni_u8d6_12x32x4", avx512_dpbusd),
    ("avx512vnni_u8d4_12x32x4", avx512_dpbusd),
    ("amx_u8s8_32x32x4", amx_dpbusd),
];

/// `vpmaddwd` + `vpaddd` on ymm, 16 MACs a pair: the step of exact int8 on AVX2.
///
/// # Safety
///
/// `steps` is not 0, and the CPU has AVX2.
#[target_feature(enable = "avx2")]
unsafe fn avx2_madd_i16(steps: u64) -> u64 {
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
            n = inout(reg) steps => _,
            a = out(ymm_reg) _,
            t0 = out(ymm_reg) _, t1 = out(ymm_reg) _,
            c0 = out(ymm_reg) _, c1 = out(ymm_reg) _, c2 = out(ymm_reg) _, c3 = out(ymm_reg) _,
            c4 = out(ymm_reg) _, c5 = out(ymm_reg) _, c6 = out(ymm_reg) _, c7 = out(ymm_reg) _,
            options(nomem, nostack),
        );
    }
    steps * 8 * 16
}

/// `vpmaddubsw` + `vpmaddwd` + `vpaddd` on ymm, 32 MACs each: the step of int7 on AVX2.
///
/// # Safety
///
/// `steps` is not 0, and the CPU has AVX2.
#[target_feature(enable = "avx2")]
unsafe fn avx2_maddubs(steps: u64) -> u64 {
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
            n = inout(reg) steps => _,
            out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _, out("ymm4") _,
            out("ymm5") _, out("ymm6") _, out("ymm7") _, out("ymm8") _, out("ymm15") _,
            options(nomem, nostack),
        );
    }
    steps * 8 * 32
}

/// `vpdpbusd` on ymm in its VEX encoding, 32 MACs each, on 12 independent chains.
///
/// # Safety
///
/// `steps` is not 0, and the CPU has AVX-VNNI.
#[target_feature(enable = "avx2,avxvnni")]
unsafe fn avxvnni_dpbusd(steps: u64) -> u64 {
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
            n = inout(reg) steps => _,
            out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _, out("ymm4") _,
            out("ymm5") _, out("ymm6") _, out("ymm7") _, out("ymm8") _, out("ymm9") _,
            out("ymm10") _, out("ymm11") _, out("ymm15") _,
            options(nomem, nostack),
        );
    }
    steps * 12 * 32
}

/// Eight `vpmaddubsw`, seven `vpaddw`, then `vpmaddwd` + `vpaddd`, 32 MACs each: int6 on AVX2.
///
/// # Safety
///
/// `steps` is not 0, and the CPU has AVX2.
#[target_feature(enable = "avx2")]
unsafe fn avx2_maddubs_x8(steps: u64) -> u64 {
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
            n = inout(reg) steps => _,
            a = out(ymm_reg) _,
            t0 = out(ymm_reg) _, t1 = out(ymm_reg) _,
            s0 = out(ymm_reg) _, s1 = out(ymm_reg) _, s2 = out(ymm_reg) _, s3 = out(ymm_reg) _,
            c0 = out(ymm_reg) _, c1 = out(ymm_reg) _, c2 = out(ymm_reg) _, c3 = out(ymm_reg) _,
            options(nomem, nostack),
        );
    }
    steps * 4 * 8 * 32
}

/// `vpdpbusd` on zmm, 64 MACs each, on 24 independent chains.
///
/// # Safety
///
/// `steps` is not 0, and the CPU has AVX-512 VNNI.
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn avx512_dpbusd(steps: u64) -> u64 {
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
            n = inout(reg) steps => _,
            out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _, out("zmm4") _,
            out("zmm5") _, out("zmm6") _, out("zmm7") _, out("zmm8") _, out("zmm9") _,
            out("zmm10") _, out("zmm11") _, out("zmm12") _, out("zmm13") _, out("zmm14") _,
            out("zmm15") _, out("zmm16") _, out("zmm17") _, out("zmm18") _, out("zmm19") _,
            out("zmm20") _, out("zmm21") _, out("zmm22") _, out("zmm23") _, out("zmm30") _,
            options(nomem, nostack),
        );
    }
    steps * 24 * 64
}

/// Memory operand of `ldtilecfg`: palette 1, and eight tiles of 16 rows of 64 bytes.
#[repr(C, align(64))]
struct FullTiles {
    palette: [u8; 16],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl FullTiles {
    fn new() -> FullTiles {
        let mut tiles = FullTiles {
            palette: [0; 16],
            row_bytes: [0; 16],
            rows: [0; 16],
        };
        tiles.palette[0] = 1;
        tiles.row_bytes[..8].fill(64);
        tiles.rows[..8].fill(16);
        tiles
    }
}

/// `tdpbusd` on full tiles, 16 384 MACs each, on 4 chains as in the kernel: the peak.
///
/// # Safety
///
/// `steps` is not 0, and the CPU has AMX-INT8 and the process permission to use it.
unsafe fn amx_dpbusd(steps: u64) -> u64 {
    let config = FullTiles::new();
    // SAFETY: tile registers only, zeroed by `ldtilecfg`.
    unsafe {
        asm!(
            "ldtilecfg [{config}]",
            "2:",
            "tdpbusd tmm0, tmm4, tmm6",
            "tdpbusd tmm1, tmm4, tmm7",
            "tdpbusd tmm2, tmm5, tmm6",
            "tdpbusd tmm3, tmm5, tmm7",
            "dec {n}",
            "jnz 2b",
            "tilerelease",
            config = in(reg) &config,
            n = inout(reg) steps => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(readonly, nostack),
        );
    }
    steps * 4 * 16 * 16 * 64
}
