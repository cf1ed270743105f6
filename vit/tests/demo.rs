//! The `noisyquant` command as a user runs it.

use std::process::{Command, Output};

use serde_json::Value;

fn noisyquant(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_noisyquant"))
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

const QUICK: [&str; 7] = ["demo", "--images", "20", "--rounds", "3", "--seeds", "2"];

#[test]
fn json_has_every_figure() {
    let output = noisyquant(&[&QUICK[..], &["--json"]].concat());
    assert!(output.status.success());
    assert_eq!(
        text(output.stderr),
        "",
        "no progress bar where there is no terminal"
    );
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();

    let accuracy = report["accuracy"].as_array().unwrap();
    let text_of = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_string();
    let rows: Vec<String> = accuracy
        .iter()
        .map(|row| text_of(row, "bits") + &text_of(row, "quantizer"))
        .collect();
    let expected = [
        "f32",
        "W8A8symmetric",
        "W8A8asymmetric",
        "W6A6symmetric",
        "W6A6asymmetric",
        "W4A4symmetric",
        "W4A4asymmetric",
    ];
    assert_eq!(rows, expected);
    assert!(accuracy[0]["noisy"].as_array().unwrap().is_empty());
    assert!(
        accuracy[1..]
            .iter()
            .all(|row| row["noisy"].as_array().unwrap().len() == 2)
    );
    let error = |row: usize| accuracy[row]["plain"]["mean_logit_error"].as_f64().unwrap();
    assert!(error(0) == 0.0 && 0.0 < error(1) && error(1) < error(3) && error(3) < error(5));
    assert!(accuracy[0]["plain"]["top1_percent"].as_f64().unwrap() >= 90.0);

    assert!(report["latency"]["float_us"].as_f64().unwrap() > 0.0);
    let latency = report["latency"]["rows"].as_array().unwrap();
    assert_eq!(latency[0]["isa"], "scalar");
    for key in ["w8a8_us", "w8a8_noise_us", "w6a6_us", "w6a6_noise_us"] {
        assert!(
            latency.iter().all(|row| row[key].as_f64().unwrap() > 0.0),
            "{key}"
        );
    }
    let overhead = report["overhead"].as_array().unwrap();
    assert_eq!(
        overhead.len(),
        2 * latency.len(),
        "the model and a layer on every instruction set"
    );
    for key in ["w8a8", "w8a8_control", "w6a6", "w6a6_control"] {
        assert!(
            overhead.iter().all(|row| row[key].as_f64().unwrap() > 0.0),
            "{key}"
        );
    }
}

#[test]
fn tables_are_plain_text_of_bounded_width() {
    let output = noisyquant(&[
        "demo",
        "--images",
        "20",
        "--rounds",
        "3",
        "--seeds",
        "1",
        "--quantizer",
        "symmetric",
    ]);
    assert!(output.status.success());
    assert_eq!(text(output.stderr), "");
    let tables = text(output.stdout);
    for word in [
        "f32",
        "W8A8",
        "W6A6",
        "W4A4",
        "NoisyQuant",
        "scalar",
        "Overhead",
    ] {
        assert!(tables.contains(word), "{word} is missing in:\n{tables}");
    }
    assert!(
        tables.chars().all(|c| c == '\n' || !c.is_control()),
        "control characters in {tables:?}"
    );
    assert!(
        tables.lines().all(|line| line.chars().count() <= 120),
        "{tables}"
    );
}

#[test]
fn help_and_wrong_arguments() {
    let help = text(noisyquant(&["demo", "--help"]).stdout);
    for option in [
        "--json",
        "--images",
        "--seed",
        "--quantizer",
        "--range",
        "--rounds",
    ] {
        assert!(help.contains(option), "{option} is missing in:\n{help}");
    }
    assert!(text(noisyquant(&["--help"]).stdout).contains("demo"));
    for wrong in [
        &["demo", "--images", "0"][..],
        &["demo", "--rounds", "0"],
        &["demo", "--seed", "x"],
        &["nothing"],
    ] {
        let output = noisyquant(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty());
    }
}
