//! The float path against features and logits of timm and transformers, for every variant of
//! `vit/golden`, and proof that this would notice.

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::{File, reconfigured};
use noisyquant_vit::{
    Architecture, Calibration, Error, Interpolation, LayerPlan, Model, OpenOptions, Output,
    Overrides, Workspace,
};
use safetensors::SafeTensors;
use serde_json::Value;

/// What the float path is held to, and what a spoilt model has to exceed.
const TOLERANCE: f32 = 1e-4;
const NOTICED: f32 = 1e-3;

/// A variant as `variants.json` lists it.
struct Variant {
    name: String,
    options: OpenOptions,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn variants() -> Vec<Variant> {
    let json = fs::read_to_string(folder().join("variants.json")).unwrap();
    let variants: Vec<Value> = serde_json::from_str(&json).unwrap();
    let number = |value: &Value| value.as_u64().map(|number| number as usize);
    let variant = |variant: &Value| {
        let settings = &variant["settings"];
        Variant {
            name: variant["name"].as_str().unwrap().into(),
            options: OpenOptions {
                overrides: Overrides {
                    heads: number(&settings["heads"]).map(|heads| vec![heads]),
                    image_size: number(&settings["image_size"]),
                    ..Overrides::default()
                },
                ..OpenOptions::default()
            },
        }
    };
    variants.iter().map(variant).collect()
}

fn variant(name: &str) -> Variant {
    let found = variants().into_iter().find(|variant| variant.name == name);
    found.unwrap_or_else(|| panic!("no variant {name}"))
}

/// What the original library makes of some images.
struct Golden {
    images: Vec<f32>,
    features: Vec<f32>,
    logits: Vec<f32>,
}

impl Variant {
    fn folder(&self) -> PathBuf {
        folder().join(&self.name)
    }

    fn open(&self) -> Model {
        let model = Model::open(&self.folder(), &self.options);
        model.unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    fn golden(&self) -> Golden {
        self.golden_at("").expect("outputs at the model's own size")
    }

    /// The tensors whose names have this prefix.
    fn golden_at(&self, prefix: &str) -> Option<Golden> {
        let bytes = fs::read(self.folder().join("golden.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensor = |name: &str| {
            let view = file.tensor(&format!("{prefix}{name}")).ok()?;
            let (numbers, _) = view.data().as_chunks();
            let numbers = numbers.iter().map(|&four| f32::from_le_bytes(four));
            Some(numbers.collect())
        };
        Some(Golden {
            images: tensor("images")?,
            features: tensor("features")?,
            logits: tensor("logits").unwrap_or_default(),
        })
    }

    /// The checkpoint after `spoil` has changed its only file.
    fn spoilt(&self, spoil: impl FnOnce(&mut File)) -> Result<Model, Error> {
        let copy = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(self.folder()).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
        }
        let path = copy.path().join("model.safetensors");
        let mut file = File::parse(&fs::read(&path).unwrap());
        spoil(&mut file);
        fs::write(&path, file.bytes()).unwrap();
        Model::open(copy.path(), &self.options)
    }
}

/// Features and logits of all images, `batch` at a time.
fn run(model: &Model, images: &[f32], batch: usize) -> (Vec<f32>, Vec<f32>) {
    let config = model.config();
    let (mut features, mut logits) = (Vec::new(), Vec::new());
    let mut workspace = Workspace::new(model, batch);
    for images in images.chunks(batch * config.pixels()) {
        let count = images.len() / config.pixels();
        let mut output = (
            vec![0.0; count * config.features()],
            vec![0.0; count * config.classes],
        );
        let parts = &mut Output {
            features: &mut output.0,
            logits: &mut output.1,
        };
        model.forward(images, parts, &mut workspace).unwrap();
        features.extend(output.0);
        logits.extend(output.1);
    }
    (features, logits)
}

/// Largest difference relative to the largest number.
fn difference(got: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(got.len(), expected.len());
    let largest = expected.iter().fold(0.0, |most: f32, x| most.max(x.abs()));
    let pairs = got.iter().zip(expected);
    let error = pairs.fold(0.0, |most: f32, (a, b)| most.max((a - b).abs()));
    if expected.is_empty() {
        0.0
    } else {
        error / largest
    }
}

/// The larger of the errors of features and logits.
fn error(model: &Model, golden: &Golden) -> f32 {
    let (features, logits) = run(model, &golden.images, 2);
    difference(&features, &golden.features).max(difference(&logits, &golden.logits))
}

#[test]
fn every_variant_matches_its_original() {
    let variants = variants();
    assert!(variants.len() >= 12);
    for variant in variants {
        let (model, golden) = (variant.open(), variant.golden());
        assert_eq!(golden.logits.is_empty(), model.config().classes == 0);
        let error = error(&model, &golden);
        println!("{:26} {error:.1e}  {}", variant.name, model.config());
        assert!(
            error <= TOLERANCE,
            "{}: relative error {error:e}",
            variant.name
        );
    }
}

#[test]
fn batches_and_stored_models_give_the_same_bits() {
    for variant in variants() {
        let (model, golden) = (variant.open(), variant.golden());
        let expected = run(&model, &golden.images, 2);
        assert_eq!(run(&model, &golden.images, 1), expected, "{}", variant.name);
        let stored = Model::from_safetensors(&model.to_bytes().unwrap()).unwrap();
        assert_eq!(stored.config(), model.config());
        assert_eq!(
            run(&stored, &golden.images, 2),
            expected,
            "{}",
            variant.name
        );

        let mut calibration = Calibration::new(&model, 64, 0).unwrap();
        let mut workspace = Workspace::new(&model, 2);
        calibration
            .observe(&model, &golden.images, &mut workspace)
            .unwrap();
        let plan = |_: &str| LayerPlan::new(8);
        let (quantized, _) = model.quantize(&plan, &calibration, &|_| ()).unwrap();
        let outputs = run(&quantized, &golden.images, 2);
        let error = difference(&outputs.0, &expected.0);
        assert!(
            0.0 < error && error < 0.1,
            "{}: W8A8 is off by {error}",
            variant.name
        );
        let stored = Model::from_safetensors(&quantized.to_bytes().unwrap()).unwrap();
        assert_eq!(run(&stored, &golden.images, 1), outputs, "{}", variant.name);
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    // Large enough for each thread to get rows of its own.
    for (name, size) in [
        ("timm-dinov2-registers", 224),
        ("hf-vit", 160),
        ("timm-swin", 160),
    ] {
        let mut variant = variant(name);
        variant.options.overrides.image_size = Some(size);
        let float = variant.open();
        let images: Vec<f32> = (0..2 * float.config().pixels())
            .map(|at| (at * 2_654_435_761 % 1000) as f32 / 250.0 - 2.0)
            .collect();
        let mut calibration = Calibration::new(&float, 64, 0).unwrap();
        let mut workspace = Workspace::new(&float, 2);
        calibration
            .observe(&float, &images, &mut workspace)
            .unwrap();
        let plan = |_: &str| LayerPlan::new(8);
        let (quantized, _) = float.quantize(&plan, &calibration, &|_| ()).unwrap();
        for model in [&float, &quantized] {
            let on = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                pool.unwrap().install(|| run(model, &images, 2))
            };
            let one = on(1);
            for threads in [2, 3, 7] {
                assert_eq!(on(threads), one, "{name} on {threads} threads");
            }
        }
    }
}

/// Square weights of attention in each naming.
const SQUARE: [(&str, &str); 6] = [
    ("timm-vit", "blocks.1.attn.proj.weight"),
    ("timm-deit-distilled", "blocks.0.attn.proj.weight"),
    ("timm-swin", "layers.0.blocks.1.attn.proj.weight"),
    (
        "hf-vit",
        "vit.encoder.layer.0.attention.attention.value.weight",
    ),
    (
        "hf-swin",
        "swin.encoder.layers.1.blocks.0.attention.self.value.weight",
    ),
    ("hf-dinov2", "encoder.layer.1.attention.output.dense.weight"),
];

#[test]
fn a_transposed_weight_is_noticed() {
    for (name, weight) in SQUARE {
        let variant = variant(name);
        let model = variant
            .spoilt(|file| file.tensor(weight).transpose())
            .unwrap();
        let error = error(&model, &variant.golden());
        assert!(error > NOTICED, "{name}: relative error only {error:e}");
    }
}

#[test]
fn exchanged_queries_and_keys_are_noticed() {
    for (name, qkv) in [
        ("timm-vit", "blocks.1.attn.qkv.weight"),
        ("timm-swin", "layers.1.blocks.1.attn.qkv.weight"),
    ] {
        let variant = variant(name);
        let exchange = |file: &mut File| {
            let qkv = file.tensor(qkv);
            let third = qkv.data.len() / 3;
            qkv.data[..2 * third].rotate_left(third);
        };
        let error = error(&variant.spoilt(exchange).unwrap(), &variant.golden());
        assert!(error > NOTICED, "{name}: relative error only {error:e}");
    }
    for (name, attention) in [
        (
            "hf-deit-distilled",
            "deit.encoder.layer.0.attention.attention",
        ),
        ("hf-swin", "swin.encoder.layers.0.blocks.1.attention.self"),
        ("hf-dinov2-registers", "encoder.layer.0.attention.attention"),
    ] {
        let variant = variant(name);
        let exchange = |file: &mut File| {
            let part = |part: &str| format!("{attention}.{part}.weight");
            let queries = file.tensor(&part("query")).clone();
            let keys = std::mem::replace(file.tensor(&part("key")), queries);
            *file.tensor(&part("query")) = keys;
        };
        let error = error(&variant.spoilt(exchange).unwrap(), &variant.golden());
        assert!(error > NOTICED, "{name}: relative error only {error:e}");
    }
}

#[test]
fn wrong_windows_are_noticed() {
    for (name, wrong) in [
        ("timm-swin", [r#""shift":2"#, r#""shift":1"#]),
        ("timm-swin", [r#""shift":2"#, r#""shift":3"#]),
        ("timm-swin", [r#""shift":2"#, r#""shift":0"#]),
        ("timm-swin", ["after_shift", "before_shift"]),
        ("hf-swin", [r#""shift":1"#, r#""shift":2"#]),
        ("hf-swin", [r#""shift":1"#, r#""shift":0"#]),
        ("hf-swin", ["before_shift", "after_shift"]),
    ] {
        let variant = variant(name);
        let (model, golden) = (variant.open(), variant.golden());
        let [from, to] = wrong;
        let same = reconfigured(&model, from, from);
        assert!(error(&same, &golden) <= TOLERANCE);
        let error = error(&reconfigured(&model, from, to), &golden);
        assert!(
            error > NOTICED,
            "{name}, {to}: relative error only {error:e}"
        );
    }
}

#[test]
fn changed_configurations_never_panic() {
    for name in ["timm-swin", "hf-dinov2-registers-head"] {
        let mut file = File::parse(&variant(name).open().to_bytes().unwrap());
        let original = file.metadata["noisyquant_vit"].clone();
        let mut state = 1u64;
        for _ in 0..300 {
            let mut changed = original.clone().into_bytes();
            for _ in 0..2 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let at = (state >> 33) as usize % changed.len();
                changed[at] = b"0123456789{}[],:.-"[(state >> 59) as usize % 18];
            }
            let changed = String::from_utf8(changed).unwrap();
            file.metadata.insert("noisyquant_vit".into(), changed);
            // Some changes do no harm, as in a label; the others must be errors of one line.
            if let Err(error) = Model::from_safetensors(&file.bytes()) {
                assert_eq!(error.to_string().lines().count(), 1, "{error}");
            }
        }
    }
}

#[test]
fn absurd_sizes_are_refused() {
    let model = variant("timm-swin").open();
    for (from, to) in [
        (r#""image_size":40"#, r#""image_size":4096"#),
        (r#""image_size":40"#, r#""image_size":18446744073709551612"#),
        (r#""shift":2"#, r#""shift":18446744073709551615"#),
        (r#""width":12"#, r#""width":9223372036854775808"#),
        (r#""depth":2"#, r#""depth":18446744073709551615"#),
        (r#""patch_size":4"#, r#""patch_size":0"#),
        (r#""version":3"#, r#""version":4"#),
        (r#""version":3"#, r#""version":0"#),
        (r#""attention":"f32""#, r#""attention":"int8""#),
    ] {
        let mut file = File::parse(&model.to_bytes().unwrap());
        let entry = file.metadata.get_mut("noisyquant_vit").unwrap();
        *entry = entry.replace(from, to);
        let error = Model::from_safetensors(&file.bytes()).err();
        let error = error
            .unwrap_or_else(|| panic!("{to} was accepted"))
            .to_string();
        assert!(
            error.contains("expected") && error.contains("got"),
            "{error}"
        );
    }
}

#[test]
fn settings_are_read() {
    let vit = variant("hf-vit").open();
    let config = vit.config();
    assert_eq!(config.label(2), Some("terrapin"));
    assert_eq!(config.label(10), Some("banana"));
    assert!(!config.preprocess.keep_aspect);
    assert_eq!((config.preprocess.resize, config.preprocess.crop), (40, 40));
    assert_eq!(config.preprocess.mean, [0.5; 3]);
    let Architecture::Vit(sizes) = &config.architecture else {
        panic!("a ViT")
    };
    assert_eq!((sizes.heads, sizes.layer_norm_eps), (3, 1e-2));

    let dino = variant("hf-dinov2-registers").open();
    let preprocess = &dino.config().preprocess;
    assert!(preprocess.keep_aspect);
    assert_eq!((preprocess.resize, preprocess.crop), (48, 42));
    assert_eq!(preprocess.std, [0.229, 0.224, 0.225]);
    assert_eq!(dino.config().classes, 0);
    assert_eq!(dino.layers().last().unwrap().name, "blocks.1.mlp.fc2");

    let deit = variant("hf-deit-f16-sharded").open();
    let preprocess = &deit.config().preprocess;
    assert_eq!((preprocess.resize, preprocess.crop), (36, 32));

    let swin = variant("hf-swin").open();
    let names: Vec<&str> = swin.layers().iter().map(|layer| &*layer.name).collect();
    let reduction = names
        .iter()
        .position(|name| *name == "layers.1.downsample.reduction");
    assert_eq!(reduction, Some(1 + 4 * 2));
    assert_eq!(swin.layers()[9].linear.in_features(), 48);
}

/// The features of a checkpoint whose tensors have been renamed.
fn renamed(variant: &Variant, rename: impl Fn(&str) -> Option<String>) -> f32 {
    let spoil = |file: &mut File| {
        let tensors = std::mem::take(&mut file.tensors).into_iter();
        let kept = tensors.filter_map(|(name, stored)| Some((rename(&name)?, stored)));
        file.tensors = kept.collect();
    };
    let (model, golden) = (variant.spoilt(spoil).unwrap(), variant.golden());
    difference(&run(&model, &golden.images, 2).0, &golden.features)
}

#[test]
fn older_names_and_models_without_a_head_are_understood() {
    // Before timm 0.9 a stage held the reduction after its blocks, and the head was no part.
    let older = |name: &str| match name.split_once(".downsample.") {
        Some(("layers.1", part)) => format!("layers.0.downsample.{part}"),
        Some(("layers.2", part)) => format!("layers.1.downsample.{part}"),
        _ => name.replace("head.fc.", "head."),
    };
    assert!(renamed(&variant("timm-swin"), |name| Some(older(name))) <= TOLERANCE);
    // transformers' models without a head have no prefix.
    for (name, prefix) in [("hf-vit", "vit."), ("hf-swin", "swin.")] {
        let bare = |name: &str| name.strip_prefix(prefix).map(String::from);
        assert!(renamed(&variant(name), bare) <= TOLERANCE, "{name}");
    }
}

#[test]
fn the_configuration_of_timm_is_read() {
    let copy = tempfile::tempdir().unwrap();
    let (variant, path) = (variant("timm-vit"), copy.path().join("model.safetensors"));
    fs::copy(variant.folder().join("model.safetensors"), path).unwrap();
    for architecture in ["vit_tiny_patch8_40", "deit3_tiny_patch8_40"] {
        let config = r#"{"architecture": "ARCHITECTURE", "model_args": {"num_heads": 5},
            "pretrained_cfg": {"input_size": [3, 40, 40], "interpolation": "bilinear",
            "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "crop_pct": 0.8}}"#;
        let config = config.replace("ARCHITECTURE", architecture);
        fs::write(copy.path().join("config.json"), config).unwrap();
        let model = Model::open(copy.path(), &OpenOptions::default()).unwrap();
        assert!(error(&model, &variant.golden()) <= TOLERANCE);
        let preprocess = &model.config().preprocess;
        assert_eq!((preprocess.resize, preprocess.crop), (50, 40));
        assert_eq!(preprocess.interpolation, Interpolation::Bilinear);
        assert_eq!(preprocess.mean, [0.1, 0.2, 0.3]);
        assert_eq!(preprocess.std, [0.4, 0.5, 0.6]);
    }
}

#[test]
fn another_image_size_is_run_as_the_original_runs_it() {
    let mut seen = 0;
    for mut variant in variants() {
        let Some(golden) = variant.golden_at("other_") else {
            continue;
        };
        seen += 1;
        let pixels = golden.images.len() / 3;
        let size = pixels.isqrt();
        assert_eq!(size * size, pixels, "one square image");
        variant.options.overrides.image_size = Some(size);
        let model = variant.open();
        assert_eq!(model.config().image_size, size);
        assert_eq!(model.config().preprocess.crop, size);
        let error = error(&model, &golden);
        println!("{:26} {error:.1e}  at {size} x {size}", variant.name);
        assert!(
            error <= TOLERANCE,
            "{} at {size} x {size}: relative error {error:e}",
            variant.name
        );
    }
    assert!(seen >= 10);
}
