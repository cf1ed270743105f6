//! Folders that are no such checkpoint: one line that names the file, what was expected and what was
//! got.

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::{File, Stored};
use noisyquant_vit::{Interpolation, Model, OpenOptions, Overrides};
use safetensors::Dtype;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A copy of a golden checkpoint that a test may spoil.
struct Checkpoint {
    folder: TempDir,
    options: OpenOptions,
}

impl Checkpoint {
    fn of(variant: &str) -> Self {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("golden")
            .join(variant);
        let folder = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(golden).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap() != "golden.safetensors" {
                fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
            }
        }
        let options = OpenOptions::default();
        Self { folder, options }
    }

    fn overriding(mut self, overrides: Overrides) -> Self {
        self.options.overrides = overrides;
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn tensors(&self, name: &str, spoil: impl FnOnce(&mut File)) {
        let path = self.path(name);
        let mut file = File::parse(&fs::read(&path).unwrap());
        spoil(&mut file);
        fs::write(path, file.bytes()).unwrap();
    }

    fn json(&self, name: &str, spoil: impl FnOnce(&mut Value)) {
        let path = self.path(name);
        let mut value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        spoil(&mut value);
        fs::write(path, value.to_string()).unwrap();
    }

    fn open(&self) -> Result<Model, noisyquant_vit::Error> {
        Model::open(self.folder.path(), &self.options)
    }

    /// The one line that opening fails with, without the folder's name.
    fn error(&self) -> String {
        let text = self.open().err().expect("this must not open").to_string();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("expected") && text.contains("got"), "{text}");
        text.replace(&*self.folder.path().to_string_lossy(), "FOLDER")
    }
}

const MODEL: &str = "model.safetensors";
const SECOND: &str = "model-00002-of-00002.safetensors";
const INDEX: &str = "model.safetensors.index.json";

#[test]
fn files_folders_and_indices_open() {
    let checkpoint = Checkpoint::of("hf-deit-f16-sharded");
    for path in [
        checkpoint.folder.path().to_path_buf(),
        checkpoint.path(INDEX),
    ] {
        assert!(Model::open(&path, &checkpoint.options).is_ok(), "{path:?}");
    }
    let single = Checkpoint::of("hf-vit");
    assert!(Model::open(&single.path(MODEL), &single.options).is_ok());
    fs::rename(single.path(MODEL), single.path("renamed.safetensors")).unwrap();
    assert!(single.open().is_ok());
    fs::copy(
        single.path("renamed.safetensors"),
        single.path("copy.safetensors"),
    )
    .unwrap();
    assert!(
        single.error().ends_with("got 2 safetensors files"),
        "{}",
        single.error()
    );
}

#[test]
fn missing_files_are_named() {
    let empty = Checkpoint::of("timm-vit");
    fs::remove_file(empty.path(MODEL)).unwrap();
    assert_eq!(
        empty.error(),
        "folder FOLDER: expected model.safetensors, model.safetensors.index.json or a single \
         safetensors file, got none of them"
    );
    let nowhere = Model::open(&empty.path("nowhere.safetensors"), &empty.options);
    assert!(
        nowhere
            .err()
            .unwrap()
            .to_string()
            .contains("nowhere.safetensors: expected")
    );

    let sharded = Checkpoint::of("hf-deit-f16-sharded");
    fs::remove_file(sharded.path(SECOND)).unwrap();
    let error = sharded.error();
    assert!(
        error.starts_with(&format!("FOLDER/{SECOND}: expected a readable file")),
        "{error}"
    );
}

#[test]
fn truncated_files_are_named() {
    let single = Checkpoint::of("timm-vit");
    let bytes = fs::read(single.path(MODEL)).unwrap();
    for length in [0, 5, 100, bytes.len() / 2, bytes.len() - 1] {
        fs::write(single.path(MODEL), &bytes[..length]).unwrap();
        let expected = format!("FOLDER/{MODEL}: expected a safetensors file, got {length} bytes");
        assert!(single.error().starts_with(&expected), "{}", single.error());
    }
    let sharded = Checkpoint::of("hf-deit-f16-sharded");
    let bytes = fs::read(sharded.path(SECOND)).unwrap();
    fs::write(sharded.path(SECOND), &bytes[..bytes.len() - 2]).unwrap();
    assert!(
        sharded
            .error()
            .starts_with(&format!("FOLDER/{SECOND}: expected"))
    );
}

#[test]
fn tensors_are_named_as_the_checkpoint_names_them() {
    let key = "vit.encoder.layer.1.attention.attention.key.weight";
    let checkpoint = Checkpoint::of("hf-vit");
    checkpoint.tensors(MODEL, |file| drop(file.tensors.remove(key)));
    assert_eq!(
        checkpoint.error(),
        format!("FOLDER: tensor `{key}`: expected shape [36, 36], got no such tensor")
    );

    let checkpoint = Checkpoint::of("hf-vit");
    checkpoint.tensors(MODEL, |file| file.tensor(key).shape = vec![18, 72]);
    assert_eq!(
        checkpoint.error(),
        format!("FOLDER: tensor `{key}`: expected shape [36, 36], got [18, 72]")
    );

    let checkpoint = Checkpoint::of("hf-swin");
    let extra = "swin.encoder.layers.0.blocks.0.attention.logit_scale";
    checkpoint.tensors(MODEL, |file| {
        let stored = file.tensor("classifier.bias").clone();
        file.tensors.insert(extra.into(), stored);
    });
    assert_eq!(
        checkpoint.error(),
        format!("FOLDER: tensor `{extra}`: expected no tensor of this name in a Swin, got one")
    );

    let swin = Checkpoint::of("hf-swin");
    let table = "swin.encoder.layers.0.blocks.0.attention.self.relative_position_bias_table";
    swin.tensors(MODEL, |file| file.tensor(table).shape = vec![10, 5]);
    assert_eq!(
        swin.error(),
        format!("FOLDER: tensor `{table}`: expected shape [(2 · window − 1)², 5], got [10, 5]")
    );
}

#[test]
fn every_tensor_of_every_variant_is_needed() {
    for variant in ["hf-dinov2-registers-head", "hf-deit-distilled", "hf-swin"] {
        let original = Checkpoint::of(variant);
        let whole = File::parse(&fs::read(original.path(MODEL)).unwrap());
        for name in whole.tensors.keys() {
            let unused = name.ends_with("mask_token") || name.ends_with("position_index");
            let mut file = whole.clone();
            file.tensors.remove(name);
            fs::write(original.path(MODEL), file.bytes()).unwrap();
            let opened = original.open();
            // A bias of which there is only one is taken for zeros, with a warning.
            let numbered = name.split('.').any(|part| part.parse::<u8>().is_ok());
            let only = name.ends_with(".bias") && !numbered;
            match opened {
                Ok(model) if only => assert_eq!(model.warnings().iter().count(), 1, "{name}"),
                opened => assert_eq!(opened.is_ok(), unused, "{variant}: {name}"),
            }
        }
    }
}

#[test]
fn a_pooler_is_passed_over() {
    let checkpoint = Checkpoint::of("hf-vit");
    checkpoint.tensors(MODEL, |file| {
        let weight = file.tensor("vit.layernorm.weight").clone();
        file.tensors.insert("vit.pooler.dense.bias".into(), weight);
    });
    assert!(checkpoint.open().is_ok());
}

#[test]
fn shards_do_not_overlap() {
    let sharded = Checkpoint::of("hf-deit-f16-sharded");
    sharded.tensors(SECOND, |file| {
        let zeros = Stored {
            dtype: Dtype::F16,
            shape: vec![1, 1, 36],
            data: vec![0; 72],
        };
        file.tensors
            .insert("deit.embeddings.cls_token".into(), zeros);
    });
    let error = sharded.error();
    let expected =
        format!("FOLDER/{SECOND}: tensor `deit.embeddings.cls_token`: expected it in one");
    assert!(error.starts_with(&expected), "{error}");

    let outside = Checkpoint::of("hf-deit-f16-sharded");
    outside.json(INDEX, |index| {
        index["weight_map"]["classifier.bias"] = json!("../other.safetensors");
    });
    let error = outside.error();
    assert!(
        error.contains("expected the name of a file in the same folder"),
        "{error}"
    );
}

#[test]
fn another_architecture_is_named() {
    let other = Checkpoint::of("timm-vit");
    other.tensors(MODEL, |file| {
        file.tensors.retain(|name, _| name.starts_with("blocks."));
    });
    assert_eq!(
        other.error(),
        "FOLDER: expected a ViT, DeiT, DINOv2 or Swin checkpoint of timm or Hugging Face, got \
         tensors such as `blocks.0.attn.proj.bias` but no `patch_embed.proj.weight`"
    );
    for (kind, expected) in [
        (
            "bert",
            "vit or deit or dinov2 or dinov2_with_registers or swin, got `bert`",
        ),
        (
            "swinv2",
            "vit or deit or dinov2 or dinov2_with_registers or swin, got `swinv2`",
        ),
        ("swin", "vit, deit or dinov2, as the tensors are, got swin"),
    ] {
        let checkpoint = Checkpoint::of("hf-vit");
        checkpoint.json("config.json", |config| config["model_type"] = json!(kind));
        let expected = format!("FOLDER: config.json `model_type`: expected {expected}");
        assert_eq!(checkpoint.error(), expected);
    }
}

#[test]
fn a_wrong_configuration_is_named() {
    for (key, value, expected) in [
        ("hidden_size", json!(48), "36, as in the tensors, got 48"),
        ("num_hidden_layers", json!(3), "2, as in the tensors, got 3"),
        ("image_size", json!(48), "40, as in the tensors, got 48"),
        ("patch_size", json!([4, 4]), "8, as in the tensors, got 4"),
        (
            "hidden_act",
            json!("relu"),
            "gelu or gelu_python or gelu_new or gelu_fast or gelu_accurate or gelu_pytorch_tanh \
             or gelu_python_tanh or quick_gelu, got `relu`",
        ),
        ("use_swiglu_ffn", json!(true), "false, got true"),
    ] {
        let checkpoint = Checkpoint::of("hf-vit");
        checkpoint.json("config.json", |config| config[key] = value);
        let expected = format!("FOLDER: config.json `{key}`: expected {expected}");
        assert_eq!(checkpoint.error(), expected);
    }
    for (key, value, expected) in [
        (
            "num_attention_heads",
            json!(5),
            "heads: expected a divisor of the width 36, got 5",
        ),
        (
            "layer_norm_eps",
            json!(-1.0),
            "layer_norm_eps: expected a positive number, got -1",
        ),
    ] {
        let checkpoint = Checkpoint::of("hf-vit");
        checkpoint.json("config.json", |config| config[key] = value);
        assert_eq!(checkpoint.error(), format!("FOLDER: {expected}"));
    }
    for variant in ["hf-vit", "hf-swin"] {
        let checkpoint = Checkpoint::of(variant);
        checkpoint.json("config.json", |config| {
            config["image_size"] = json!([40, 48]);
        });
        assert_eq!(
            checkpoint.error(),
            "FOLDER: config.json `image_size`: expected a square, got [40, 48]"
        );
    }
    let swin = Checkpoint::of("hf-swin");
    swin.json("config.json", |config| config["depths"] = json!([2, 2, 2]));
    assert_eq!(
        swin.error(),
        "FOLDER: config.json `depths`: expected [2, 2, 1], as in the tensors, got [2, 2, 2]"
    );

    for (name, text) in [
        ("config.json", "{"),
        ("config.json", "[3]"),
        ("preprocessor_config.json", ""),
    ] {
        let checkpoint = Checkpoint::of("hf-vit");
        fs::write(checkpoint.path(name), text).unwrap();
        let expected = format!("FOLDER/{name}: expected JSON of the usual form, got");
        assert!(
            checkpoint.error().starts_with(&expected),
            "{}",
            checkpoint.error()
        );
    }
    let vit = Checkpoint::of("hf-vit");
    vit.json("config.json", |config| config["model_type"] = json!(3));
    assert_eq!(
        vit.error(),
        "FOLDER: config.json `model_type`: expected a text, got 3"
    );
    for (key, value, expected) in [
        (
            "image_mean",
            json!("grey"),
            "preprocessor_config.json `image_mean`: expected a number or several, got `grey`",
        ),
        (
            "image_std",
            json!([1.0, 0.0, 1.0]),
            "std: expected 3 positive numbers",
        ),
        (
            "image_mean",
            json!([0.5, 0.5]),
            "mean: expected 3 finite numbers",
        ),
        (
            "resample",
            json!(9),
            "preprocessor_config.json `resample`: expected 0",
        ),
        (
            "size",
            json!({"height": 40, "width": 48}),
            "preprocessor_config.json `size`: expected a square, got 40 × 48",
        ),
    ] {
        let checkpoint = Checkpoint::of("hf-vit");
        checkpoint.json("preprocessor_config.json", |config| config[key] = value);
        let error = checkpoint.error();
        assert!(error.starts_with(&format!("FOLDER: {expected}")), "{error}");
    }
}

#[test]
fn a_processor_that_does_not_say_how_resizes_as_its_kind_does() {
    let interpolation = |kind: Value| {
        let checkpoint = Checkpoint::of("hf-vit");
        checkpoint.json("preprocessor_config.json", |config| {
            let config = config.as_object_mut().unwrap();
            config.remove("resample");
            config.insert("crop_size".into(), json!(40));
            config.remove("image_processor_type");
            config.insert("feature_extractor_type".into(), kind);
        });
        let model = checkpoint.open().unwrap();
        model.config().preprocess.interpolation
    };
    let bilinear = interpolation(json!("ViTFeatureExtractor"));
    assert_eq!(bilinear, Interpolation::Bilinear);
    let bicubic = interpolation(json!("DeiTFeatureExtractor"));
    assert_eq!(bicubic, Interpolation::Bicubic);
}

#[test]
fn a_processor_that_does_not_resize_leaves_images_of_the_right_size_alone() {
    let checkpoint = Checkpoint::of("hf-dinov2");
    let preprocess = |checkpoint: &Checkpoint| {
        let model = checkpoint.open().unwrap();
        let preprocess = &model.config().preprocess;
        (preprocess.resize, preprocess.crop)
    };
    assert_eq!(preprocess(&checkpoint), (48, 42));
    checkpoint.json("preprocessor_config.json", |config| {
        config["do_resize"] = json!(false);
    });
    assert_eq!(preprocess(&checkpoint), (42, 42));
}

#[test]
fn overrides_that_do_not_fit_are_refused() {
    let error =
        |variant: &str, overrides: Overrides| Checkpoint::of(variant).overriding(overrides).error();
    let size = |size| Overrides {
        image_size: Some(size),
        ..Overrides::default()
    };
    let heads = |heads: &[usize]| Overrides {
        heads: Some(heads.to_vec()),
        ..Overrides::default()
    };
    assert_eq!(
        error("timm-vit", heads(&[7])),
        "FOLDER: heads: expected a divisor of the width 40, got 7"
    );
    assert_eq!(
        error("hf-swin", heads(&[2, 3, 4])),
        "FOLDER: heads: expected [2, 3, 6], as in the tensors, got [2, 3, 4]"
    );
    assert_eq!(
        error("hf-vit", size(41)),
        "FOLDER: image size: expected a multiple of the patch size 8, got 41"
    );
    let resize = Overrides {
        resize: Some(1 << 32),
        ..Overrides::default()
    };
    assert_eq!(
        error("hf-vit", resize),
        "FOLDER: resize: expected from the crop 40 to 16384, got 4294967296"
    );
    assert_eq!(
        error("hf-swin", size(24)),
        "FOLDER: window of stage 2: expected at most the 2 tokens along a side of its feature map, \
         got 3"
    );
    assert_eq!(
        error("timm-swin", Overrides::default()),
        "FOLDER: image size: expected it in config.json or given, for no tensor tells, got none"
    );
}
