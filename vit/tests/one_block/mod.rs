//! Two checkpoints of one block in f16, cut out of `golden/timm-vit` and `golden/hf-vit`, to be changed by
//! tests, and what they answer. Tests have the right answers from a plain ViT in numpy with images prepared
//! by Pillow, which agrees with the golden outputs to 7e-7.

#![allow(dead_code, reason = "not every test program uses all of it")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use noisyquant_vit::{Model, OpenOptions, Output, Warning, Workspace, photo};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::File;

/// A checkpoint that a test changes before it is written.
#[derive(Clone)]
pub struct Checkpoint {
    pub tensors: File,
    pub config: Value,
    pub preprocessor: Value,
}

/// One that is written, and how it is opened.
pub struct Written {
    pub folder: TempDir,
    pub options: OpenOptions,
}

pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

pub fn golden_json(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("golden/hf-vit")
        .join(name);
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

impl Checkpoint {
    /// Width 40, 5 heads, 40×40 pixels, 11 classes.
    pub fn timm() -> Self {
        Self {
            tensors: File::parse(&fs::read(data("timm-one-block.safetensors")).unwrap()),
            config: json!({
                "architecture": "vit_tiny_patch8_40",
                "num_classes": 11,
                "num_features": 40,
                "model_args": {"num_heads": 5, "img_size": 40},
                "pretrained_cfg": {
                    "input_size": [3, 40, 40],
                    "interpolation": "bicubic",
                    "crop_pct": 1.0,
                    "mean": [0.5, 0.5, 0.5],
                    "std": [0.5, 0.5, 0.5],
                },
            }),
            preprocessor: Value::Null,
        }
    }

    /// Width 36, 3 heads, 40×40 pixels, 11 classes.
    pub fn hugging_face() -> Self {
        let mut config = golden_json("config.json");
        config["num_hidden_layers"] = json!(1);
        Self {
            tensors: File::parse(&fs::read(data("hf-one-block.safetensors")).unwrap()),
            config,
            preprocessor: golden_json("preprocessor_config.json"),
        }
    }

    /// A golden checkpoint, all of it; timm's have no configuration.
    pub fn golden(variant: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("golden")
            .join(variant);
        let json = |name| match fs::read(folder.join(name)) {
            Ok(text) => serde_json::from_slice(&text).unwrap(),
            Err(_) => Value::Null,
        };
        Self {
            tensors: File::parse(&fs::read(folder.join("model.safetensors")).unwrap()),
            config: json("config.json"),
            preprocessor: json("preprocessor_config.json"),
        }
    }

    pub fn config(mut self, key: &str, value: Value) -> Self {
        self.config[key] = value;
        self
    }

    pub fn argument(mut self, key: &str, value: Value) -> Self {
        self.config["model_args"][key] = value;
        self
    }

    pub fn pretrained(mut self, key: &str, value: Value) -> Self {
        self.config["pretrained_cfg"][key] = value;
        self
    }

    pub fn preprocessor(mut self, key: &str, value: Value) -> Self {
        self.preprocessor[key] = value;
        self
    }

    /// With the first classes of the head alone.
    pub fn classes(mut self, count: usize) -> Self {
        for (name, stored) in &mut self.tensors.tensors {
            if name.starts_with("head.") || name.starts_with("classifier.") {
                let row = stored.data.len() / stored.shape[0];
                stored.shape[0] = count;
                stored.data.truncate(count * row);
            }
        }
        self
    }

    /// With other names, none where there is none.
    pub fn renamed(mut self, rename: impl Fn(&str) -> Option<String>) -> Self {
        let tensors = std::mem::take(&mut self.tensors.tensors).into_iter();
        self.tensors.tensors = tensors
            .filter_map(|(name, stored)| Some((rename(&name)?, stored)))
            .collect();
        self
    }

    pub fn write(&self) -> Written {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join("model.safetensors"),
            self.tensors.bytes(),
        )
        .unwrap();
        for (name, value) in [
            ("config.json", &self.config),
            ("preprocessor_config.json", &self.preprocessor),
        ] {
            if !value.is_null() {
                fs::write(folder.path().join(name), value.to_string()).unwrap();
            }
        }
        let options = OpenOptions::default();
        Written { folder, options }
    }

    pub fn open(&self) -> Model {
        self.write().open()
    }

    /// What opening it fails with, without the folder's name.
    pub fn error(&self) -> String {
        self.write().error()
    }
}

impl Written {
    pub fn open(&self) -> Model {
        Model::open(self.folder.path(), &self.options).unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn error(&self) -> String {
        let error = Model::open(self.folder.path(), &self.options).err();
        let text = error.expect("this must not open").to_string();
        assert!(text.contains("expected") && text.contains("got"), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        text.replace(&*self.folder.path().to_string_lossy(), "FOLDER")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

pub fn logits(model: &Model, picture: &str) -> Vec<f32> {
    let config = model.config();
    let input = photo::load(
        &data(picture),
        &config.preprocess,
        config.channels,
        &photo::Options::default(),
    );
    run(model, &input.unwrap())
}

/// The logits of a prepared image.
pub fn run(model: &Model, input: &[f32]) -> Vec<f32> {
    let mut logits = vec![0.0; model.config().classes];
    let mut workspace = Workspace::new(model, 1);
    model
        .forward(input, &mut Output::logits(&mut logits), &mut workspace)
        .unwrap();
    logits
}

/// Percent of each class, to a tenth.
pub fn percents(model: &Model, picture: &str) -> Vec<f64> {
    let probabilities = model
        .config()
        .judgement
        .probabilities(&logits(model, picture));
    probabilities
        .iter()
        .map(|p| (1000.0 * p).round() / 10.0)
        .collect()
}

/// The likeliest class, and its percents.
pub fn top(model: &Model, picture: &str) -> (usize, f64) {
    let percents = percents(model, picture);
    let class = (0..percents.len())
        .max_by(|a, b| percents[*a].total_cmp(&percents[*b]))
        .unwrap();
    (class, percents[class])
}

pub fn close(got: f32, expected: f32) {
    assert!((got - expected).abs() < 1e-3, "{got}, not {expected}");
}

/// What the warnings are about.
pub fn about(model: &Model) -> Vec<&str> {
    model.warnings().iter().map(Warning::what).collect()
}

pub fn labels(model: &Model) -> Vec<Option<&str>> {
    (0..model.config().classes)
        .map(|class| model.config().label(class))
        .collect()
}
