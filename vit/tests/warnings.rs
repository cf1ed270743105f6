//! What a checkpoint does not say: told once on stderr, in JSON and in the quantized file, and a failure
//! with `--strict`.

mod common;
mod tool;

use std::{fs, process::Output};

use common::File;
use noisyquant_vit::{Model, OpenOptions, embedded};
use serde_json::{Value, json};
use tool::{Bench, golden, json, text};

/// What a bare file of timm's names leaves open.
const UNSTATED: [&str; 5] = ["heads", "mean", "std", "resize", "interpolation"];
/// What states all of it.
const STATED: [&str; 10] = [
    "--heads",
    "5",
    "--mean",
    "0.485,0.456,0.406",
    "--std",
    "0.229,0.224,0.225",
    "--resize",
    "40",
    "--interpolation",
    "bilinear",
];

/// A file of timm's names alone.
fn bare(bench: &Bench) -> String {
    let path = bench.path("bare.safetensors");
    fs::copy(golden("timm-vit") + "/model.safetensors", &path).unwrap();
    path
}

/// Standard output, and what the lines on stderr are about, all of them warnings.
fn warned(bench: &Bench, arguments: &[&str]) -> (String, Vec<String>) {
    let Output {
        status,
        stdout,
        stderr,
    } = bench.command(arguments).output().unwrap();
    let stderr = text(stderr);
    assert!(status.success(), "{arguments:?}: {stderr}");
    let subject = |line: &str| {
        let line = line
            .strip_prefix("warning: ")
            .unwrap_or_else(|| panic!("{line}"));
        line.split_once(": ").unwrap().0.to_string()
    };
    (text(stdout), stderr.lines().map(subject).collect())
}

/// What the entry `warnings` of a JSON object is about.
fn subjects(value: &Value) -> Vec<&str> {
    let warnings = value["warnings"].as_array().unwrap().iter();
    let subject = |warning: &'_ Value| -> usize { warning.as_str().unwrap().find(": ").unwrap() };
    warnings
        .map(|warning| &warning.as_str().unwrap()[..subject(warning)])
        .collect()
}

#[test]
fn every_command_tells_what_it_assumed() {
    let bench = Bench::new();
    let (bare, images, picture) = (bare(&bench), &bench.images, bench.picture("0/a.png"));
    let output = bench.path("q.safetensors");
    let page = bench.path("page.html");
    let commands: [&[&str]; 7] = [
        &["inspect", &bare],
        &["run", &bare, &picture],
        &["eval", &bare, "--images", images],
        &[
            "quantize", &bare, "--images", images, "-o", &output, "--bias", "none",
        ],
        &["compare", &bare, &output, "--images", images],
        &[
            "report",
            &bare,
            &output,
            "--images",
            images,
            "-o",
            &page,
            "--seconds",
            "0",
        ],
        &[
            "bench",
            &bare,
            "--seconds",
            "0",
            "--batch",
            "1",
            "--threads",
            "1",
        ],
    ];
    for command in commands {
        let (stdout, told) = warned(&bench, &[command, &["--json"]].concat());
        assert_eq!(told, UNSTATED, "{command:?}");
        match command[0] {
            "run" => assert_eq!(subjects(&json(&stdout)[0]), UNSTATED),
            "bench" => assert_eq!(subjects(&json(stdout.lines().last().unwrap())), UNSTATED),
            _ => assert_eq!(subjects(&json(&stdout)), UNSTATED, "{command:?}"),
        }
        let error = bench.fail(&[&["--strict"], command].concat());
        assert!(
            error.starts_with("error: --strict: expected no warning, got: heads: "),
            "{error}"
        );
        for subject in UNSTATED {
            assert!(
                error.contains(&format!("{subject}: expected")),
                "{subject}: {error}"
            );
        }
    }
    // The file keeps them.
    let (stdout, told) = warned(&bench, &["inspect", &output]);
    assert_eq!(told, UNSTATED);
    for subject in UNSTATED {
        assert!(
            stdout.contains(&format!("\nwarning: {subject}: ")),
            "{stdout}"
        );
    }
    assert_eq!(warned(&bench, &["run", &output, &picture]).1, UNSTATED);
    assert_eq!(
        warned(&bench, &["inspect", &output, "--mean", "0,0,0"])
            .1
            .len(),
        4
    );
}

#[test]
fn what_is_said_is_not_warned_of() {
    let bench = Bench::new();
    let (bare, picture) = (bare(&bench), bench.picture("0/a.png"));
    let output = bench.path("q.safetensors");
    bench.succeed(&[&["--strict", "run", &bare, &picture][..], &STATED].concat());
    let quantize = [
        "quantize",
        &bare,
        "--images",
        &bench.images,
        "-o",
        &output,
        "--bias",
        "none",
    ];
    bench.succeed(&[&quantize[..], &STATED].concat());
    bench.succeed(&["run", &output, &picture, "--strict"]);
    let (_, told) = warned(&bench, &[&["inspect", &bare][..], &STATED[2..]].concat());
    assert_eq!(told, ["heads"]);
}

#[test]
fn usual_checkpoints_warn_of_nothing() {
    let variants: Value = json(&fs::read_to_string(golden("variants.json")).unwrap());
    let names = variants
        .as_array()
        .unwrap()
        .iter()
        .map(|variant| variant["name"].as_str().unwrap());
    let mut usual = 0;
    for name in names.filter(|name| name.starts_with("hf-")) {
        let model = Model::open(golden(name).as_ref(), &OpenOptions::default()).unwrap();
        assert!(model.warnings().is_empty(), "{name}: {}", model.warnings());
        usual += 1;
    }
    assert!(usual >= 8);
    let own = Model::from_safetensors(embedded::WEIGHTS).unwrap();
    assert!(own.warnings().is_empty(), "{}", own.warnings());
    let json = Bench::new().succeed(&["inspect", &golden("hf-swin"), "--json"]);
    assert_eq!(tool::json(&json)["warnings"], json!([]));
}

#[test]
fn entries_of_other_programs_do_not_count() {
    let mut file = File::embedded();
    for key in ["heads", "mean", "std", "resize", "interpolation"] {
        let value = file.metadata.remove(&format!("noisyquant.{key}")).unwrap();
        file.metadata.insert(key.into(), value);
    }
    let model = Model::from_safetensors(&file.bytes()).unwrap();
    let about: Vec<&str> = model
        .warnings()
        .iter()
        .map(noisyquant_vit::Warning::what)
        .collect();
    assert_eq!(about, UNSTATED);
    assert_eq!(model.config().preprocess.mean, [0.5]);
}
