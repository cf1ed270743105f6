//! The subcommands on small checkpoints and pictures, as a user runs them.

mod tool;

use std::fs;

use safetensors::SafeTensors;
use serde_json::Value;
use tool::{Bench, json, text};

#[test]
fn inspect_tells_what_is_in_a_checkpoint() {
    let bench = Bench::new();
    let shown = bench.succeed(&["inspect", &bench.checkpoint]);
    for words in [
        "ViT, 40×40 pixels",
        "11 classes",
        "blocks.0.attn.qkv",
        "head",
    ] {
        assert!(shown.contains(words), "{words} is missing in:\n{shown}");
    }
    let facts = json(&bench.succeed(&["inspect", &bench.checkpoint, "--json"]));
    assert_eq!(facts["quantized"], false);
    assert_eq!(facts["config"]["labels"][0], "hen");
    let layers = facts["layers"].as_array().unwrap();
    let sum: u64 = layers
        .iter()
        .map(|layer| (layer["inputs"].as_u64().unwrap() + 1) * layer["outputs"].as_u64().unwrap())
        .sum();
    assert_eq!(facts["parameters"], sum);
    assert_eq!(facts["bytes"], 4 * sum);
}

#[test]
fn inspect_tells_what_opening_a_model_took() {
    let bench = Bench::new();
    bench.quantize("int6", &["--bias", "none", "--weight-bits", "6"]);
    let shown = bench.succeed(&["inspect", "int6", "--timing"]);
    for words in ["packed weights in", "opened in", "packed in", "peak memory"] {
        assert!(shown.contains(words), "{words} is missing in:\n{shown}");
    }
    let facts = json(&bench.succeed(&["inspect", "int6", "--timing", "--json"]));
    let packed = facts["packed_bytes"].as_u64().unwrap();
    assert!(packed > 0 && packed < facts["bytes"].as_u64().unwrap());
    let timing = &facts["timing"];
    for time in ["open_ms", "pack_ms"] {
        let time = timing[time].as_f64().unwrap();
        assert!(time > 0.0 && time < 60_000.0, "{timing}");
    }
    let peak = timing["peak_bytes"].as_u64();
    assert_eq!(peak.is_some(), cfg!(target_os = "linux"), "{timing}");
    assert!(peak.is_none_or(|peak| peak > packed), "{timing}");

    let float = json(&bench.succeed(&["inspect", &bench.checkpoint, "--json"]));
    assert_eq!(float["packed_bytes"], 0);
    assert!(float["timing"].is_null());
    let shown = bench.succeed(&["inspect", &bench.checkpoint]);
    assert!(
        !shown.contains("opened in") && !shown.contains("packed"),
        "{shown}"
    );
}

#[test]
fn a_quantized_file_is_self_contained_and_close_to_its_checkpoint() {
    let bench = Bench::new();
    let summary = json(&bench.quantize("int8.safetensors", &["--json"]));
    assert_eq!(summary["images"], 6);
    assert!(
        summary["layers"]
            .as_array()
            .unwrap()
            .iter()
            .all(|layer| layer["auto"] == true)
    );
    // Away from the checkpoint's folder, and so without its config.json.
    let file = bench.path("int8.safetensors");
    SafeTensors::deserialize(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(summary["bytes"], fs::metadata(&file).unwrap().len());
    let facts = json(&bench.succeed(&["inspect", &file, "--json"]));
    assert_eq!(facts["quantized"], true);
    assert!(
        facts["layers"]
            .as_array()
            .unwrap()
            .iter()
            .all(|layer| layer["bits"] == "W8A8")
    );

    let images = ["--images", &bench.images];
    let compare = |file: &str, more: &[&str]| {
        bench.succeed(&[&["compare", &bench.checkpoint, file], &images[..], more].concat())
    };
    let eight = json(&compare(&file, &["--json"]));
    bench.quantize(
        "int3.safetensors",
        &["--weight-bits", "3", "--activation-bits", "3"],
    );
    let three = json(&compare(&bench.path("int3.safetensors"), &["--json"]));
    let number = |value: &Value, key: &str| value[key].as_f64().unwrap();
    assert_eq!(eight["images"], 6);
    assert!(number(&eight, "cosine_least") > 0.995, "{eight}");
    assert!(number(&eight, "cosine_least") <= number(&eight, "cosine_mean"));
    assert!(number(&three, "cosine_mean") < number(&eight, "cosine_mean"));
    assert!((0.0..=1.0).contains(&number(&eight, "top1_agreement")));
    let layers = |comparison: &Value| comparison["layers"].as_array().unwrap().clone();
    for (eight, three) in layers(&eight).iter().zip(layers(&three)) {
        assert!(
            number(eight, "alone") < number(&three, "alone"),
            "{eight} {three}"
        );
        assert!(
            number(eight, "along") < number(&three, "along"),
            "{eight} {three}"
        );
    }
    let first = &layers(&eight)[0];
    assert_eq!(
        first["alone"], first["along"],
        "nothing runs before the first layer"
    );
    let shown = compare(&file, &[]);
    assert!(
        shown.contains("mean 0.99") && shown.contains("blocks.1.mlp.fc2"),
        "{shown}"
    );

    // The same bits again, on any number of threads.
    let again = bench
        .command(&[
            "quantize",
            &bench.checkpoint,
            "--images",
            &bench.images,
            "-o",
            &bench.path("again"),
        ])
        .env("RAYON_NUM_THREADS", "1")
        .output()
        .unwrap();
    assert!(again.status.success());
    assert!(fs::read(bench.path("again")).unwrap() == fs::read(&file).unwrap());
}

#[test]
fn every_quantizer_and_bias_makes_a_model() {
    let bench = Bench::new();
    let chosen = |more: &[&str]| {
        let summary = json(&bench.quantize("out", &[more, &["--json", "--rows", "64"]].concat()));
        summary["layers"][1]["recipe"].clone()
    };
    for quantizer in ["minmax", "percentile", "mse", "easyquant", "twin"] {
        let recipe = chosen(&["--quantizer", quantizer, "--bias", "none"]);
        assert_eq!(recipe["noise"], "None", "{quantizer}");
        assert_eq!(recipe["shift"], "None", "{quantizer}");
    }
    assert!(
        chosen(&["--bias", "noise", "--seed", "3"])["noise"]["Searched"]["seed"].as_u64()
            >= Some(3)
    );
    assert_eq!(chosen(&["--bias", "shift"])["shift"], "MidRange");
    assert_eq!(chosen(&["--bias", "shift"])["channel_scale"], "None");
    assert_eq!(
        chosen(&["--bias", "shift+scale"])["channel_scale"],
        "Searched"
    );
}

#[test]
fn some_layers_may_have_settings_of_their_own() {
    let bench = Bench::new();
    let layers = bench.path("layers.toml");
    let write = |text: &str| fs::write(&layers, text).unwrap();
    write(
        "[[layer]]\nname = 'blocks.*.mlp.fc?'\nweight-bits = 6\nbias = 'shift'\n\
         [[layer]]\nname = 'blocks.0.mlp.fc1'\nactivation-bits = 5\n\
         [[layer]]\nname = 'head'\nfloat = true\n\
         [[layer]]\nname = '*'\nseed = 7\n",
    );
    let flags = ["--layers", &layers, "--bias", "none", "--json"];
    let summary = json(&bench.quantize("mixed", &flags));
    let layer = |name: &str| {
        let layers = summary["layers"].as_array().unwrap().iter();
        layers
            .clone()
            .find(|layer| layer["name"] == name)
            .unwrap()
            .clone()
    };
    let bits = |name: &str| {
        [
            layer(name)["weight_bits"].clone(),
            layer(name)["activation_bits"].clone(),
        ]
    };
    assert_eq!(bits("blocks.1.mlp.fc2"), [6, 8]);
    assert_eq!(bits("blocks.0.mlp.fc1"), [6, 5]);
    assert_eq!(bits("blocks.0.attn.qkv"), [8, 8]);
    assert_eq!(layer("blocks.0.mlp.fc1")["recipe"]["shift"], "MidRange");
    assert!(layer("head")["recipe"].is_null());
    let shown = bench.succeed(&["inspect", &bench.path("mixed")]);
    assert!(
        shown
            .lines()
            .any(|line| line.contains("head") && line.contains("f32")),
        "{shown}"
    );

    for (wrong, words) in [
        ("[[layer]]\nname = 'blocks.*.mlp.fc3'\n", "blocks.*.mlp.fc3"),
        (
            "[[layer]]\nname = 'head'\nbits = 3\n",
            "line 3: unknown field `bits`",
        ),
        (
            "[[layer]]\nname = 'head'\nweight-bits = 9\n",
            "expected 2 to 8 bits, got 9",
        ),
        (
            "[[layer]]\nname = 'head'\nquantizer = 'mse'\nbias = 'auto'\n",
            "layer `head`",
        ),
        ("[[layer\n", "line 1"),
    ] {
        write(wrong);
        let error = bench.fail(&bench.quantize_arguments("none", &flags));
        assert!(error.contains(words), "{words} is missing in {error}");
        assert!(!fs::exists(bench.path("none")).unwrap());
    }

    // A quantizer asked for of all layers is none of the one that finds its own.
    write("[[layer]]\nname = 'head'\nbias = 'auto'\n");
    let flags = [
        "--layers",
        &layers,
        "--quantizer",
        "minmax",
        "--bias",
        "none",
    ];
    bench.quantize("one", &flags);
}

#[test]
fn attention_is_a_choice() {
    let bench = Bench::new();
    let compared = |attention: &str| {
        let flags = ["--bias", "none", "--attention", attention];
        bench.quantize(attention, &flags);
        let shown = bench.succeed(&["inspect", attention]);
        let words = format!("attention in {attention}");
        assert!(shown.contains(&words), "{words} is missing in:\n{shown}");
        let facts = json(&bench.succeed(&["inspect", attention, "--json"]));
        assert_eq!(facts["attention"], attention);
        let images = ["--images", &bench.images, "--json"];
        let arguments = [&["compare", &bench.checkpoint, attention], &images[..]].concat();
        json(&bench.succeed(&arguments))["cosine_mean"].clone()
    };
    let [f32, int8] = ["f32", "int8"].map(compared);
    assert_ne!(f32, int8, "the flag changed nothing");
    assert!(int8.as_f64().unwrap() > 0.995, "{int8}");

    let mut bench = bench;
    bench.checkpoint = tool::golden("hf-swin");
    let flags = ["--attention", "int8"];
    let error = bench.fail(&bench.quantize_arguments("swin", &flags));
    assert!(error.contains("got int8 for a Swin"), "{error}");
    assert!(!fs::exists(bench.path("swin")).unwrap());
}

#[test]
fn run_names_classes_and_features() {
    let bench = Bench::new();
    let image = &bench.picture("0/a.png");
    let answers = json(&bench.succeed(&[
        "run",
        &bench.checkpoint,
        image,
        image,
        "--top",
        "3",
        "--json",
    ]));
    assert_eq!(answers[0]["top"], answers[1]["top"]);
    let top = answers[0]["top"].as_array().unwrap();
    assert_eq!(top.len(), 3);
    let probability = |class: &Value| class["probability"].as_f64().unwrap();
    assert!(probability(&top[0]) >= probability(&top[1]) && probability(&top[0]) < 1.0);
    let shown = bench.succeed(&["run", &bench.checkpoint, image]);
    assert!(shown.contains(top[0]["label"].as_str().unwrap()), "{shown}");
    assert_eq!(shown.lines().count(), 1 + 5);

    let headless = tool::golden("hf-dinov2");
    let answers = json(&bench.succeed(&["run", &headless, image, "--json"]));
    assert!(answers[0]["top"].as_array().unwrap().is_empty());
    assert!(!answers[0]["features"].as_array().unwrap().is_empty());
    assert!(
        bench
            .succeed(&["run", &headless, image])
            .contains("features of norm")
    );
}

/// The folders are given the names that the float model itself gives the pictures, so it is always right
/// on those and never on the others.
#[test]
fn eval_counts_right_answers() {
    let bench = Bench::new();
    let folder = bench.path("classes");
    let class = |picture: &str| {
        let run = bench.succeed(&["run", &bench.checkpoint, picture, "--top", "11", "--json"]);
        let ranks = json(&run)[0]["top"].as_array().unwrap().clone();
        ranks
            .iter()
            .map(|class| class["class"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    for class in 0..11 {
        fs::create_dir_all(format!("{folder}/{class:02}")).unwrap();
    }
    // One right, one third, one last.
    for (name, rank) in [("0/a.png", 0), ("0/b.png", 2), ("1/a.png", 10)] {
        let picture = bench.picture(name);
        let class = class(&picture)[rank];
        fs::copy(
            &picture,
            format!("{folder}/{class:02}/{}", name.replace('/', "-")),
        )
        .unwrap();
    }
    let eval = |more: &[&str]| {
        bench.succeed(&[&["eval", &bench.checkpoint, "--images", &folder], more].concat())
    };
    for batch in ["1", "2", "8"] {
        let accuracy = json(&eval(&["--batch", batch, "--json"]));
        assert_eq!(
            (&accuracy["images"], &accuracy["classes"]),
            (&3.into(), &11.into())
        );
        let percent = |key: &str| accuracy[key].as_f64().unwrap();
        assert!(
            (percent("top1_percent") - 100.0 / 3.0).abs() < 1e-9,
            "{accuracy}"
        );
        assert!(
            (percent("top5_percent") - 200.0 / 3.0).abs() < 1e-9,
            "{accuracy}"
        );
        assert!(percent("images_per_second") >= percent("images_per_second_with_reading"));
    }
    assert!(eval(&[]).contains("top-1  33.33 %"));
    fs::create_dir(format!("{folder}/12")).unwrap();
    let error = bench.fail(&["eval", &bench.checkpoint, "--images", &folder]);
    assert!(
        error.contains("at most 11 folders") && error.contains("got 12"),
        "{error}"
    );
    let error = bench.fail(&["eval", &tool::golden("hf-dinov2"), "--images", &folder]);
    assert!(error.contains("expected a model with a head"), "{error}");
}

#[test]
fn help_shows_examples_and_wrong_usage_is_status_2() {
    let bench = Bench::new();
    for command in [
        "inspect", "quantize", "run", "eval", "compare", "bench", "report",
    ] {
        let help = bench.succeed(&[command, "--help"]);
        for words in ["Examples:", "--json", &format!("noisyquant {command} ")] {
            assert!(help.contains(words), "{words} is missing in:\n{help}");
        }
        let output = bench.command(&[command]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{command} without arguments");
    }
    let image = bench.picture("0/a.png");
    for wrong in [
        &[
            "quantize",
            "x",
            "--images",
            "y",
            "-o",
            "z",
            "--weight-bits",
            "9",
        ][..],
        &[
            "quantize", "x", "--images", "y", "-o", "z", "--bias", "loud",
        ],
        &["quantize", "x", "--images", "y"],
        &[
            "quantize",
            "x",
            "--images",
            "y",
            "-o",
            "z",
            "--bias",
            "auto",
            "--quantizer",
            "mse",
        ],
        &["bench", "x", "--isa", "mmx"],
        &["run", "x", &image, "--top", "0"],
    ] {
        let output = bench.command(wrong).output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(2),
            "{wrong:?}: {}",
            text(output.stderr)
        );
        assert!(output.stdout.is_empty());
    }
}
