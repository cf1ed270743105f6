//! Files that are almost right: quantized models and configurations, changed at random places. Each is read
//! to an error or to a model that runs, without a panic and in little time.

mod tool;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use noisyquant::Recipe;
use noisyquant_vit::{
    Calibration, Choice, Error, LayerPlan, Model, OpenOptions, Output, Workspace,
};
use serde_json::{Value, json};

/// No case takes as long, on a busy machine either.
const LIMIT: Duration = Duration::from_secs(10);

/// What timm writes beside a checkpoint; the golden one has none.
const TIMM: &str = r#"{"architecture": "vit_small_patch16_224", "num_classes": 11, "global_pool": "token",
"pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "crop_pct": 0.9, "crop_mode": "center",
"interpolation": "bicubic", "input_size": [3, 40, 40]}}"#;

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Changes one value somewhere in `value`: to another kind, an extreme, a neighbour or nothing.
fn change_value(value: &mut Value, rng: &mut Rng) {
    match value {
        Value::Object(entries) if !entries.is_empty() && rng.below(8) > 0 => {
            let keys: Vec<String> = entries.keys().cloned().collect();
            let key = rng.pick(&keys);
            match rng.below(12) {
                0 => drop(entries.remove(key)),
                1 => {
                    let moved = entries.remove(key).unwrap_or_default();
                    entries.insert(format!("{key}_"), moved);
                }
                _ => change_value(&mut entries[key.as_str()], rng),
            }
        }
        Value::Array(items) if !items.is_empty() && rng.below(8) > 0 => {
            let at = rng.below(items.len());
            match rng.below(12) {
                0 => drop(items.remove(at)),
                1 => items.push(items[at].clone()),
                _ => change_value(&mut items[at], rng),
            }
        }
        Value::String(text) if rng.below(2) > 0 => {
            *value = changed_text(text.as_bytes(), rng).into();
        }
        Value::Number(number) if rng.below(2) > 0 => {
            let number = number.as_f64().unwrap_or_default();
            let factor = *rng.pick(&[-1.0, 0.0, 0.5, 2.0, 1e9]);
            *value = json!(number * factor + *rng.pick(&[-1.0, 0.0, 1.0]));
        }
        _ => {
            let others = [
                json!(null),
                json!(true),
                json!(0),
                json!(-1),
                json!(u64::MAX),
                json!(1u64 << 32),
                json!(1e308),
                json!(1e-320),
                json!(""),
                json!("\u{0}é"),
                json!([]),
                json!([0, 0]),
                json!({}),
                json!({"shortest_edge": 1}),
            ];
            *value = rng.pick(&others).clone();
        }
    }
}

/// `text` with a byte or a stretch of it changed, taken out or doubled.
fn changed_text(text: &[u8], rng: &mut Rng) -> String {
    let mut text = text.to_vec();
    if !text.is_empty() {
        let (from, length) = (rng.below(text.len()), rng.below(16));
        let to = text.len().min(from + length);
        match rng.below(3) {
            0 => text[from] = rng.next() as u8,
            1 => drop(text.drain(from..to)),
            _ => {
                let twice = text[from..to].to_vec();
                text.splice(from..from, twice);
            }
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// A JSON text with one to three changes, of values or of bytes.
fn changed_json(text: &str, rng: &mut Rng) -> String {
    if rng.below(8) == 0 {
        return changed_text(text.as_bytes(), rng);
    }
    let mut value: Value = serde_json::from_str(text).unwrap();
    for _ in 0..=rng.below(3) {
        change_value(&mut value, rng);
    }
    value.to_string()
}

/// A safetensors file with the header `text`, which holds JSON within JSON.
fn changed_file(file: &[u8], rng: &mut Rng) -> Vec<u8> {
    let (length, rest) = file.split_first_chunk::<8>().unwrap();
    let (text, numbers) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let mut header: Value = serde_json::from_slice(text).unwrap();
    let mut numbers = numbers.to_vec();
    match rng.below(4) {
        0 => {
            for _ in 0..=rng.below(4) {
                let at = rng.below(numbers.len() / 4) * 4;
                let special = [
                    0.0,
                    -1.0,
                    f32::NAN,
                    f32::INFINITY,
                    f32::MIN_POSITIVE,
                    f32::MAX,
                ];
                numbers[at..at + 4].copy_from_slice(&rng.pick(&special).to_le_bytes());
            }
        }
        1 => change_value(&mut header, rng),
        2 => numbers.truncate(rng.below(numbers.len())),
        _ => {
            let metadata = header["__metadata__"].as_object_mut().unwrap();
            let keys: Vec<String> = metadata.keys().cloned().collect();
            let entry = &mut metadata[rng.pick(&keys).as_str()];
            *entry = changed_json(entry.as_str().unwrap(), rng).into();
        }
    }
    let text = header.to_string();
    let length = (text.len() as u64).to_le_bytes();
    [&length, text.as_bytes(), &numbers].concat()
}

/// Runs a model on a grey image, if it is small enough to run often.
fn run(model: &Model) {
    let config = model.config();
    let image = vec![0.25; config.pixels()];
    let mut features = vec![0.0; config.features()];
    let mut workspace = Workspace::serial(model, 1);
    let output = &mut Output::features(&mut features);
    model.forward(&image, output, &mut workspace).unwrap();
}

/// The golden ViT on integers, as a file.
fn quantized() -> Vec<u8> {
    let path = tool::golden("hf-vit");
    let float = Model::open(Path::new(&path), &OpenOptions::default()).unwrap();
    let mut calibration = Calibration::new(&float, 16, 0).unwrap();
    let image: Vec<f32> = (0..float.config().pixels())
        .map(|at| (at % 7) as f32 / 3.0 - 1.0)
        .collect();
    let mut workspace = Workspace::new(&float, 1);
    calibration.observe(&float, &image, &mut workspace).unwrap();
    // Both forms that weights have in files.
    let plan = |name: &str| LayerPlan {
        choice: Choice::Recipe(Recipe::default()),
        ..LayerPlan::new(if name.contains("mlp") { 6 } else { 8 })
    };
    let (model, _) = float.quantize(&plan, &calibration, &|_| ()).unwrap();
    model.to_bytes().unwrap()
}

/// How many of `count` changed cases, each by its own random numbers, open. Those that do run.
fn opened(count: u64, open: impl Fn(&mut Rng) -> Result<Model, Error>) -> u64 {
    let mut opened = 0;
    for seed in 0..count {
        let start = Instant::now();
        if let Ok(model) = open(&mut Rng(seed)) {
            run(&model);
            opened += 1;
        }
        let time = start.elapsed();
        assert!(time < LIMIT, "seed {seed}: {time:?}");
    }
    opened
}

/// Changed quantized files.
fn quantized_files(count: u64) -> u64 {
    let file = quantized();
    opened(count, |rng| {
        Model::from_safetensors(&changed_file(&file, rng))
    })
}

/// Checkpoints with a changed file beside them.
fn configurations(count: u64) -> u64 {
    const CONFIG: &str = "config.json";
    let folders = ["hf-vit", "hf-swin", "hf-dinov2", "timm-vit"].map(|name| {
        let (golden, copy) = (tool::golden(name), tempfile::tempdir().unwrap());
        let mut texts = Vec::new();
        for name in ["model.safetensors", CONFIG, "preprocessor_config.json"] {
            let Ok(bytes) = fs::read(Path::new(&golden).join(name)) else {
                continue;
            };
            fs::write(copy.path().join(name), &bytes).unwrap();
            if name.ends_with(".json") {
                texts.push((copy.path().join(name), String::from_utf8(bytes).unwrap()));
            }
        }
        if texts.is_empty() {
            let path = copy.path().join(CONFIG);
            fs::write(&path, TIMM).unwrap();
            texts.push((path, TIMM.into()));
        }
        let whole = Model::open(copy.path(), &OpenOptions::default());
        run(&whole.unwrap_or_else(|error| panic!("{name}: {error}")));
        (copy, texts)
    });
    opened(count, |rng| {
        let (folder, texts) = rng.pick(&folders);
        let (path, text) = rng.pick(texts);
        fs::write(path, changed_json(text, rng)).unwrap();
        let model = Model::open(folder.path(), &OpenOptions::default());
        fs::write(path, text).unwrap();
        model
    })
}

#[test]
fn a_thousand_of_each() {
    let (files, folders) = (quantized_files(1000), configurations(1000));
    // The changes are small enough that some files still open, and large enough that others do not.
    assert!((50..950).contains(&files), "{files} files open");
    assert!((50..950).contains(&folders), "{folders} folders open");
}

#[test]
#[ignore = "minutes on two cores: .ci/deep runs it"]
fn a_million_of_both() {
    let (files, folders) = std::thread::scope(|scope| {
        let files = scope.spawn(|| quantized_files(500_000));
        let folders = configurations(500_000);
        (files.join().unwrap(), folders)
    });
    println!("of 500000 each, {files} files and {folders} folders open");
}
