//! The subcommands that measure, `bench` and `report`, as a user runs them.

mod tool;

use std::fs;

use noisyquant_vit::{
    bench::{Share, Timing},
    report::ReportData,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tool::{Bench, json};

/// Give every object in `value` a field that only a later version knows.
fn add_fields(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(add_fields);
            fields.insert("of_a_later_version".into(), 1.into());
        }
        Value::Array(values) => values.iter_mut().for_each(add_fields),
        _ => {}
    }
}

/// What the tool printed is a `T`, also if a later version printed more.
fn reads_back<T: Serialize + DeserializeOwned>(printed: &Value) {
    let read: T = serde_json::from_value(printed.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), *printed);
    let mut later = printed.clone();
    add_fields(&mut later);
    let read: T = serde_json::from_value(later).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), *printed);
}

#[test]
fn bench_prints_a_line_for_each_time() {
    let bench = Bench::new();
    let quick = [
        "--seconds",
        "0",
        "--batch",
        "1,2",
        "--threads",
        "1",
        "--isa",
        "scalar",
    ];
    let lines = bench.succeed(&[&["bench", &bench.checkpoint, "--json"], &quick[..]].concat());
    let rows: Vec<Value> = lines.lines().map(json).collect();
    let (times, shares): (Vec<&Value>, Vec<&Value>) =
        rows.iter().partition(|row| row["med_ms"].is_f64());
    let bits: Vec<&str> = times
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    let widths = ["f32", "W8A8", "W8A8", "W7A7", "W6A6", "W4A8", "W4A4"];
    assert_eq!(bits, widths.repeat(2));
    assert_eq!(
        [0, 1, 4].map(|at: usize| times[at]["bits"].as_u64()),
        [32, 8, 6].map(Some)
    );
    for row in &times {
        assert!(
            row["med_ms"].as_f64().unwrap() > 0.0 && row["rounds"].as_u64().unwrap() >= 3,
            "{row}"
        );
        assert!(
            row["noise"].is_boolean() && row["isa"].is_string() && row["threads"] == 1,
            "{row}"
        );
        assert!(row.get("cosine").is_none(), "of made-up images: {row}");
    }
    let percent: f64 = shares
        .iter()
        .map(|share| share["percent"].as_f64().unwrap())
        .sum();
    assert!((percent - 100.0).abs() < 1e-6, "{shares:?}");
    let operations: Vec<&str> = shares
        .iter()
        .map(|share| share["operation"].as_str().unwrap())
        .collect();
    for operation in [
        "linear: qkv",
        "linear: norm, fc1, activation, fc2",
        "attention",
        "LayerNorm and residuals apart",
    ] {
        assert!(
            operations.contains(&operation),
            "{operation} is missing in {operations:?}"
        );
    }
    let judged = ["bench", &bench.checkpoint, "--images", &bench.images];
    let shown = bench.succeed(&[&judged[..], &quick[..]].concat());
    assert!(
        shown.contains("speed-up") && shown.contains("Where the time goes"),
        "{shown}"
    );
    let lines = bench.succeed(&[&judged[..], &quick[..], &["--json"]].concat());
    let times = lines.lines().map(json);
    let times: Vec<Value> = times.filter(|row| row["med_ms"].is_f64()).collect();
    times.iter().for_each(reads_back::<Timing>);
    let cosine = |name: &str| {
        let row = times.iter().rfind(|row| row["name"] == name).unwrap();
        row["cosine"].as_f64().unwrap()
    };
    assert!(times[0].get("cosine").is_none(), "{}", times[0]);
    assert!(cosine("W8A8") > 0.99 && cosine("W8A8") > cosine("W4A4"));
    assert!(cosine("W4A8") > cosine("W4A4"));

    bench.quantize(
        "w5a7",
        &[
            "--weight-bits",
            "5",
            "--activation-bits",
            "7",
            "--bias",
            "none",
        ],
    );
    let lines = bench.succeed(&[&["bench", &bench.path("w5a7"), "--json"], &quick[..]].concat());
    for line in lines.lines().map(json) {
        match line.get("percent") {
            None => reads_back::<Timing>(&line),
            Some(_) => reads_back::<Share>(&line),
        }
    }
    let first = json(lines.lines().next().unwrap());
    assert_eq!(
        (&first["name"], &first["noise"]),
        (&"W5A7".into(), &false.into())
    );
}

#[test]
fn report_is_a_page_of_figures_that_fit_together() {
    let bench = Bench::new();
    bench.quantize("w6a5", &["--weight-bits", "6", "--activation-bits", "5"]);
    let images = ["--images", &bench.images];
    let report = [
        "report",
        &bench.checkpoint,
        "w6a5",
        "-o",
        "report.html",
        "--seconds",
        "0",
        "--json",
    ];
    let data = json(&bench.succeed(&[&report[..], &images].concat()));
    let compared = bench.succeed(
        &[
            &["compare", &bench.checkpoint, "w6a5", "--json"],
            &images[..],
        ]
        .concat(),
    );
    let mut compared = json(&compared);
    let warnings = compared.as_object_mut().unwrap().remove("warnings");
    assert_eq!(warnings, Some(Value::Array(Vec::new())));
    assert_eq!(data["comparison"], compared);
    // A folder is as large as the tensors in it.
    let size = fs::metadata(bench.path("w6a5")).unwrap().len();
    assert_eq!(data["quantized_bytes"], size);
    let folder = bench.path("folder");
    fs::create_dir(&folder).unwrap();
    fs::copy(bench.path("w6a5"), format!("{folder}/model.safetensors")).unwrap();
    let of_folder = report.map(|word| if word == "w6a5" { &folder } else { word });
    let of_folder = json(&bench.succeed(&[&of_folder[..], &images].concat()));
    assert_eq!(of_folder["quantized_bytes"], size);
    let mut page = data.clone();
    page.as_object_mut().unwrap().remove("warnings");
    reads_back::<ReportData>(&page);
    let choices = data["choices"].as_array().unwrap();
    assert_eq!(
        choices.len(),
        data["comparison"]["layers"].as_array().unwrap().len()
    );
    assert!(
        choices
            .iter()
            .all(|choice| choice["bits"] == Value::from([6, 5].to_vec()))
    );

    let tails = data["tails"].as_array().unwrap();
    assert_eq!(tails.len(), 3);
    for tail in tails {
        assert!(tail["kurtosis"].as_f64().unwrap() > 1.0, "{tail}");
        // The symmetric quantizer leaves a code out.
        for (when, levels) in [("before", 31), ("after", 32)] {
            let panel = &tail[when];
            let all: Vec<f64> = serde_json::from_value(panel["levels"].clone()).unwrap();
            assert!(all.len() == levels || tail["choice"].as_str().unwrap().contains("symmetric"));
            assert!(
                all.is_sorted()
                    && (1..=levels as u64).contains(&panel["busy_levels"].as_u64().unwrap())
            );
            let shares = |part: &str| -> f64 {
                let shares: Vec<f64> =
                    serde_json::from_value(panel[part]["shares"].clone()).unwrap();
                shares.iter().sum()
            };
            assert!(
                (shares("full") - 1.0).abs() < 1e-9,
                "{when}: {}",
                shares("full")
            );
            assert!(shares("zoom") <= 1.0 + 1e-9 && shares("zoom") > 0.0);
        }
    }
    let rows = data["latency"].as_array().unwrap();
    assert!(
        rows.iter()
            .all(|row| row["batch"] == 1 && row["med_ms"].as_f64().unwrap() > 0.0)
    );
    assert!(
        rows.iter().any(|row| row["bits"] == 32) && rows.iter().any(|row| row["name"] == "W6A5")
    );

    let widths = data["widths"].as_array().unwrap();
    let cosine = |name: &str| {
        let row = widths.iter().rfind(|row| row["name"] == name);
        row.and_then(|row| row["cosine"].as_f64()).unwrap()
    };
    assert_eq!(
        cosine("W6A5, the model of this page"),
        data["comparison"]["cosine_mean"].as_f64().unwrap()
    );
    assert!(cosine("W8A8") > 0.99 && cosine("W8A8") > cosine("W4A4"));

    let page = fs::read_to_string(bench.path("report.html")).unwrap();
    assert!(page.contains(&format!("{:.4}", cosine("W4A4"))), "widths");
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>"));
    for choice in choices {
        assert!(page.contains(choice["words"].as_str().unwrap()), "{choice}");
    }
}
