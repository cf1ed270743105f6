//! `NOISYQUANT_ISA`: forces what is there, refuses what is not. The variable is read when a layer is
//! built, so each case runs in a process of its own: this binary again, with `PROBE` set, and under
//! the emulator that `NOISYQUANT_TEST_RUNNER` names (`qemu-aarch64 -cpu max`), if it does.

mod common;

use std::ffi::OsStr;
use std::process::Command;

use common::isas;
use noisyquant::{ActivationRange, Isa, QuantLinear, Quantizer};

/// What building a layer says in a process with `NOISYQUANT_ISA=value`.
fn build_with(value: &str) -> String {
    let binary = std::env::current_exe().unwrap();
    let runner = std::env::var("NOISYQUANT_TEST_RUNNER").unwrap_or_default();
    let mut words = runner.split_whitespace().map(OsStr::new);
    let mut command = match words.next() {
        Some(emulator) => {
            let mut command = Command::new(emulator);
            command.args(words).arg(&binary);
            command
        }
        None => Command::new(&binary),
    };
    let output = command
        .args(["--exact", "probe", "--nocapture"])
        .env("NOISYQUANT_ISA", value)
        .env("PROBE", "1")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.split_once("probe says: "));
    line.unwrap_or_else(|| panic!("no answer in {text}"))
        .1
        .to_string()
}

#[test]
fn probe() {
    if std::env::var_os("PROBE").is_none() {
        return; // only speaks as the child of the tests below
    }
    let quantizer = Quantizer::symmetric(ActivationRange::Fixed {
        min: -1.0,
        max: 1.0,
    });
    match QuantLinear::builder(&[1.0; 4], 2, 2)
        .quantizer(quantizer)
        .build()
    {
        Ok(layer) => println!("\nprobe says: {}", layer.isa()),
        Err(error) => println!("\nprobe says: {error}"),
    }
}

#[test]
fn forces_each_available_set() {
    for isa in isas() {
        assert_eq!(build_with(isa.name()), isa.name());
    }
}

#[test]
fn refuses_missing_and_unknown_sets() {
    for isa in Isa::ALL.into_iter().filter(|isa| !isa.is_available()) {
        let answer = build_with(isa.name());
        assert!(
            answer.starts_with(&format!("instruction set {isa}: expected")),
            "{answer}"
        );
    }
    let answer = build_with("sse9");
    assert!(
        answer.starts_with("NOISYQUANT_ISA: expected one of scalar, avx2"),
        "{answer}"
    );
    assert!(answer.contains("sse9"), "{answer}");
}
