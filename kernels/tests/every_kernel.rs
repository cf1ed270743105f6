//! Every row of the table that this CPU can run, against `spec`, bit for bit.
//!
//! Buffers end at an unmapped page, start unaligned where a kernel allows it, and hold extreme and
//! special values. The set of instruction sets that ran is printed and compared with what the CPU
//! says it has, or, under an emulator, with `NOISYQUANT_EXPECT_ISAS` (space-separated names).

#![cfg(all(unix, feature = "std"))]

mod checks;
mod guarded;

use std::collections::BTreeSet;
use std::io::Write;

use half::{bf16, f16};
use noisyquant_kernels::isa::Isa;
use noisyquant_kernels::ready;
use noisyquant_kernels::row::{Absmax, Epilogue, MicroKernel, Norm, Prologue};
use noisyquant_kernels::table;
use noisyquant_kernels::view::Elem;

/// What the CPU says it has, asked without the crate's own detection.
fn offered() -> BTreeSet<&'static str> {
    let mut isas = BTreeSet::from(["scalar"]);
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if has!("avx2") && has!("fma") && has!("f16c") {
            isas.insert("avx2");
        }
        if has!("avx2") && has!("avxvnni") {
            isas.insert("avxvnni");
        }
        if has!("avx512bw") && has!("avx512vl") && has!("avx512dq") && has!("avx512vnni") {
            isas.insert("avx512vnni");
            // std cannot tell on stable Rust, the Linux kernel can.
            let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
            if cpuinfo.contains(" amx_int8") && !Isa::Amx.is_refused() {
                isas.insert("amx");
            }
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        use std::arch::is_aarch64_feature_detected as has;
        for (present, isa) in [
            (has!("neon"), "neon"),
            (has!("dotprod"), "neondotprod"),
            (has!("i8mm"), "neoni8mm"),
        ] {
            isas.extend(present.then_some(isa));
        }
    }
    isas
}

#[test]
fn every_kernel() {
    let mut executed = BTreeSet::new();
    let mut names = Vec::new();
    for kernel in table::micro_kernels().filter_map(MicroKernel::ready) {
        checks::product::check(kernel);
        checks::block::check(kernel);
        executed.insert(kernel.isa.name());
        names.push(kernel.name);
    }
    for row in table::prologues().filter_map(Prologue::ready) {
        match row.source {
            Elem::F32 => checks::prologue::check::<f32>(row),
            Elem::F16 => checks::prologue::check::<f16>(row),
            Elem::Bf16 => checks::prologue::check::<bf16>(row),
        }
        names.push(row.name);
    }
    for row in table::norms().filter_map(Norm::ready) {
        checks::norm::check(row);
        names.push(row.name);
    }
    for row in table::absmaxes().filter_map(Absmax::ready) {
        match row.source {
            Elem::F32 => checks::absmax::check::<f32>(row),
            Elem::F16 => checks::absmax::check::<f16>(row),
            Elem::Bf16 => checks::absmax::check::<bf16>(row),
        }
        names.push(row.name);
    }
    for row in table::epilogues().filter_map(Epilogue::ready) {
        checks::epilogue::check(row);
        names.push(row.name);
    }
    // Not `print!`, which the test harness would swallow.
    let list = executed.iter().copied().collect::<Vec<_>>().join(" ");
    writeln!(
        std::io::stderr(),
        "every_kernel: executed {list}: {}",
        names.join(" ")
    )
    .unwrap();

    let pinned = std::env::var("NOISYQUANT_EXPECT_ISAS");
    let expected = match &pinned {
        Ok(names) => names.split_whitespace().collect(),
        Err(_) => offered(),
    };
    assert_eq!(executed, expected, "kernels executed, and what there is");
}

#[test]
fn rows_of_missing_sets_are_not_ready() {
    for row in table::micro_kernels() {
        assert_eq!(
            row.ready().is_some(),
            row.isa.is_available(),
            "{}",
            row.name
        );
    }
    let foreign = if cfg!(target_arch = "x86_64") {
        Isa::NeonI8mm
    } else {
        Isa::Amx
    };
    assert!(ready::prologue(foreign, Elem::F32).is_none());
    assert!(ready::norm(foreign).is_none());
    assert!(ready::absmax(foreign, Elem::F32).is_none());
}
