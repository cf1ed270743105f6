//! What configurations say, down to the answers.

mod common;
mod one_block;

use std::fs;

use common::File;
use image::RgbImage;
use noisyquant_vit::{Calibration, Choice, LayerPlan, Model, Overrides, photo};
use one_block::{Checkpoint, about, close, data, labels, logits, percents, run, top};
use serde_json::{Value, json};

#[test]
fn one_class_and_several_labels_are_judged_by_sigmoid() {
    let one = Checkpoint::hugging_face()
        .classes(1)
        .config("id2label", json!({"0": "hen"}))
        .open();
    assert_eq!(percents(&one, "smooth.png"), [76.3]);
    let several = Checkpoint::hugging_face()
        .classes(3)
        .config("problem_type", json!("multi_label_classification"))
        .config(
            "id2label",
            json!({"0": "hen", "1": "salamander", "2": "terrapin"}),
        )
        .open();
    assert_eq!(percents(&several, "smooth.png"), [76.3, 38.6, 17.3]);
    // Files of before knew one way alone; a single class was meant to be true or not then, too.
    let mut older = File::parse(&one.to_bytes().unwrap());
    let entry = older.metadata.get_mut("noisyquant_vit").unwrap();
    *entry = entry.replace(r#""version":3"#, r#""version":2"#);
    *entry = entry.replace(r#""judgement":"each_alone","#, "");
    let older = Model::from_safetensors(&older.bytes()).unwrap();
    assert_eq!(percents(&older, "smooth.png"), [76.3]);
    // A quantized file remembers it.
    for model in [one, several] {
        let nothing = Calibration::new(&model, 1, 0).unwrap();
        let (quantized, _) = model
            .quantize(
                &|_| LayerPlan::new(8).with_choice(Choice::Float),
                &nothing,
                &|_| (),
            )
            .unwrap();
        let stored = Model::from_safetensors(&quantized.to_bytes().unwrap()).unwrap();
        assert_eq!(
            percents(&stored, "smooth.png"),
            percents(&model, "smooth.png")
        );
    }
    let single =
        Checkpoint::hugging_face().config("problem_type", json!("single_label_classification"));
    assert_eq!(top(&single.open(), "smooth.png"), (3, 32.3));
    let regression = Checkpoint::hugging_face().config("problem_type", json!("regression"));
    assert_eq!(
        regression.error(),
        "FOLDER: config.json `problem_type`: expected single_label_classification or \
         multi_label_classification, got `regression`"
    );
}

#[test]
fn labels_are_by_id() {
    let gaps = Checkpoint::timm()
        .classes(3)
        .config("num_classes", json!(3));
    for (value, expected) in [
        (
            json!({"0": "hen", "2": "terrapin"}),
            [Some("hen"), None, Some("terrapin")],
        ),
        (
            json!(["hen", "salamander"]),
            [Some("hen"), Some("salamander"), None],
        ),
        (
            json!([null, "salamander", "LABEL_2"]),
            [None, Some("salamander"), None],
        ),
    ] {
        let top = gaps.clone().config("label_names", value.clone());
        assert_eq!(labels(&top.open()), expected);
        let mut inner = top;
        inner.config.as_object_mut().unwrap().remove("label_names");
        assert_eq!(
            labels(&inner.pretrained("label_names", value).open()),
            expected
        );
    }
    let ids = json!({"1": "hen", "2": "salamander"});
    let three = Checkpoint::hugging_face()
        .classes(3)
        .config("id2label", ids.clone())
        .open();
    assert_eq!(labels(&three), [None, Some("hen"), Some("salamander")]);
    assert_eq!(percents(&three, "smooth.png"), [79.3, 15.5, 5.2]);
    assert!(three.warnings().is_empty());
    let two = Checkpoint::hugging_face()
        .classes(2)
        .config("id2label", ids)
        .open();
    assert_eq!(labels(&two), [None, Some("hen")]);
    assert_eq!(percents(&two, "smooth.png"), [83.7, 16.3]);
    assert_eq!(about(&two), ["config.json `id2label`"]);
    let more = Checkpoint::hugging_face().classes(3).error();
    assert_eq!(
        more,
        "FOLDER: config.json `id2label`: expected names for 3 classes, as in the tensors, got 11 names"
    );
    for wrong in [
        json!({"a": "hen"}),
        json!({"0": [3]}),
        json!("hen"),
        json!([["hen"]]),
    ] {
        let error = Checkpoint::hugging_face().config("id2label", wrong).error();
        assert!(
            error.starts_with("FOLDER: config.json `id2label`: expected names in"),
            "{error}"
        );
    }
}

#[test]
fn older_configurations_of_timm_have_everything_at_the_top() {
    let mut old = Checkpoint::timm();
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "panda", "k"];
    old.config = json!({
        "architecture": "vit_tiny_patch8_40", "num_classes": 11, "model_args": {"num_heads": 5},
        "input_size": [3, 40, 40], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
        "crop_pct": 1.0, "interpolation": "bilinear", "labels": names,
    });
    let model = old.open();
    assert_eq!(top(&model, "smooth-60x48.png"), (9, 32.0));
    assert_eq!(model.config().label(9), Some("panda"));
    assert!(model.warnings().is_empty(), "{}", model.warnings());
    // What is left out has timm's defaults.
    for key in ["mean", "std", "crop_pct", "interpolation"] {
        old.config.as_object_mut().unwrap().remove(key);
    }
    let preprocess = old.open().config().preprocess.clone();
    assert_eq!(preprocess.resize, 45);
    assert_eq!(preprocess.mean, [0.485, 0.456, 0.406]);
    assert_eq!(preprocess.std, [0.229, 0.224, 0.225]);
}

#[test]
fn timm_crops_in_three_modes() {
    let mode = |mode: &str| {
        Checkpoint::timm()
            .pretrained("mean", json!([0.485, 0.456, 0.406]))
            .pretrained("std", json!([0.229, 0.224, 0.225]))
            .pretrained("crop_mode", json!(mode))
    };
    for (name, class, percent, first, last) in [
        ("center", 9, 38.6, None, None),
        ("squash", 1, 32.0, Some(1.5003), Some(1.1987)),
        ("border", 1, 29.6, Some(1.3438), Some(1.1574)),
    ] {
        let model = mode(name).open();
        assert_eq!(top(&model, "wide.png"), (class, percent), "{name}");
        if let (Some(first), Some(last)) = (first, last) {
            let logits = logits(&model, "wide.png");
            close(logits[1], first);
            close(logits[9], last);
        }
    }
    assert_eq!(
        mode("random").error(),
        "FOLDER: config.json `pretrained_cfg.crop_mode`: expected center, squash or border, got `random`"
    );
}

#[test]
fn timm_cuts_at_even_pixels() {
    let model = Checkpoint::timm().pretrained("crop_pct", json!(0.9)).open();
    assert_eq!(top(&model, "noise-47x44.png"), (1, 33.2));
    let logits = logits(&model, "noise-47x44.png");
    close(logits[1], 1.4008);
    close(logits[9], 0.9355);
}

#[test]
fn every_mode_crops_and_rounds_as_timm_does() {
    let wide = image::open(data("noise-47x44.png")).unwrap().to_rgb8();
    let high = RgbImage::from_fn(44, 47, |x, y| *wide.get_pixel(y, x));
    for (is_high, mode, share, expected) in [
        (false, "center", 0.9, [-2.7891, 1.4546, 1.0082]),
        (true, "center", 0.9, [-2.6961, 1.1328, 1.2211]),
        (false, "center", 0.875, [-2.4141, 1.9041, 1.3508]),
        (true, "center", 0.875, [-2.4640, 1.4980, 1.2356]),
        (false, "center", 0.95, [-2.8190, 0.8220, 1.2097]),
        (true, "center", 0.95, [-2.7255, 1.2281, 1.0536]),
        (false, "squash", 0.9, [-3.1283, 1.0430, 1.3186]),
        (true, "squash", 0.9, [-2.8698, 1.1745, 1.4035]),
        (false, "squash", 0.875, [-2.6629, 1.3545, 1.5943]),
        (true, "squash", 0.875, [-2.4005, 1.4693, 1.0393]),
        (false, "squash", 0.95, [-2.6162, 1.1370, 1.2196]),
        (true, "squash", 0.95, [-2.1994, 1.4016, 1.0541]),
        (false, "border", 0.9, [-2.9559, 1.3363, 1.0379]),
        (true, "border", 0.9, [-2.9183, 1.3756, 1.1617]),
        (false, "border", 0.875, [-2.7848, 1.0573, 1.3289]),
        (true, "border", 0.875, [-2.7487, 1.1679, 0.9637]),
        (false, "border", 0.95, [-2.7809, 0.8605, 1.1149]),
        (true, "border", 0.95, [-2.8186, 1.3615, 1.3005]),
    ] {
        let model = Checkpoint::timm()
            .pretrained("mean", json!([0.485, 0.456, 0.406]))
            .pretrained("std", json!([0.229, 0.224, 0.225]))
            .pretrained("crop_mode", json!(mode))
            .pretrained("crop_pct", json!(share))
            .open();
        let image = if is_high { &high } else { &wide };
        let input = photo::prepare(image, &model.config().preprocess, 3).unwrap();
        let logits = run(&model, &input);
        for (got, expected) in [logits[0], logits[1], logits[9]].into_iter().zip(expected) {
            // Bytes of resized images differ from Pillow's by one here and there.
            let error: f32 = got - expected;
            assert!(
                error.abs() < 0.01,
                "{is_high}, {mode}, {share}: {got}, not {expected}"
            );
        }
    }
}

/// fc2 eight times as large, so that activations show.
fn with_large_fc2() -> Checkpoint {
    let mut checkpoint = Checkpoint::timm();
    for pair in checkpoint
        .tensors
        .tensor("blocks.0.mlp.fc2.weight")
        .data
        .chunks_exact_mut(2)
    {
        let value = half::f16::from_le_bytes([pair[0], pair[1]]);
        pair.copy_from_slice(&half::f16::from_f32(8.0 * value.to_f32()).to_le_bytes());
    }
    checkpoint
}

#[test]
fn arguments_of_timm_change_the_network() {
    let quick = with_large_fc2()
        .argument("act_layer", json!("quick_gelu"))
        .open();
    assert_eq!(top(&quick, "smooth-2.png"), (1, 34.7));
    close(logits(&quick, "smooth-2.png")[1], 2.3079);
    close(logits(&quick, "smooth-2.png")[9], 1.4298);
    let exact = with_large_fc2().open();
    close(logits(&exact, "smooth-2.png")[1], 2.3159);
    let mean = with_large_fc2()
        .config("global_pool", json!("avg"))
        .argument("global_pool", json!("avg"))
        .argument("fc_norm", json!(false))
        .open();
    assert_eq!(top(&mean, "smooth-2.png"), (8, 29.8));
    let stored = Model::from_safetensors(&mean.to_bytes().unwrap()).unwrap();
    assert_eq!(
        logits(&stored, "smooth-2.png"),
        logits(&mean, "smooth-2.png")
    );
    // The norm after the mean: the same norm, by another name.
    let normed = with_large_fc2()
        .config("global_pool", json!("avg"))
        .renamed(|name| {
            Some(match name.strip_prefix("norm.") {
                Some(part) => format!("fc_norm.{part}"),
                None => name.into(),
            })
        })
        .open();
    assert_eq!(top(&normed, "smooth-2.png"), (8, 32.1));
    close(logits(&normed, "smooth-2.png")[1], 1.5775);
}

#[test]
fn arguments_that_contradict_or_are_unknown_are_refused() {
    for (key, value, expected) in [
        ("depth", json!(12), "1, as in the tensors, got 12"),
        ("patch_size", json!(32), "8, as in the tensors, got 32"),
        ("embed_dim", json!(192), "40, as in the tensors, got 192"),
        (
            "img_size",
            json!([224, 224]),
            "40, as in the tensors, got 224",
        ),
        ("mlp_ratio", json!(4), "64 / 40, as in the tensors, got 4"),
        ("reg_tokens", json!(4), "0, as in the tensors, got 4"),
        (
            "init_values",
            json!(1e-5),
            "false, as in the tensors, got true",
        ),
        (
            "qkv_bias",
            json!(false),
            "true, as in the tensors, got false",
        ),
        ("fc_norm", json!(true), "false, as in the tensors, got true"),
        ("qk_norm", json!(true), "false, got true"),
        ("norm_layer", json!("rmsnorm"), "layernorm, got `rmsnorm`"),
        (
            "act_layer",
            json!("silu"),
            "gelu, gelu_tanh or quick_gelu, got `silu`",
        ),
        ("global_pool", json!("map"), "token or avg, got `map`"),
        (
            "class_token",
            json!(false),
            "true, as in the tensors, got false",
        ),
        (
            "rope_theta",
            json!(100),
            "no argument but those that are known here, got 100",
        ),
        ("depth", json!("12"), "a whole number, got `12`"),
    ] {
        let error = Checkpoint::timm().argument(key, value).error();
        let expected = format!("FOLDER: config.json `model_args.{key}`: expected {expected}");
        assert_eq!(error, expected);
    }
    let ignored = Checkpoint::timm()
        .argument("drop_path_rate", json!(0.1))
        .argument("norm_layer", json!(null))
        .argument("mlp_ratio", json!(1.6));
    assert!(ignored.open().warnings().is_empty());
    let classes = Checkpoint::timm()
        .config("num_classes", json!(1000))
        .error();
    assert!(
        classes.ends_with("`num_classes`: expected 11, as in the tensors, got 1000"),
        "{classes}"
    );
}

#[test]
fn changed_configurations_never_panic() {
    let mut state = 1u64;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut opened = 0;
    for checkpoint in [
        Checkpoint::timm(),
        Checkpoint::hugging_face(),
        Checkpoint::golden("hf-swin"),
    ] {
        let written = checkpoint.write();
        let files = ["config.json", "preprocessor_config.json"];
        for name in files.iter().filter(|name| written.path(name).is_file()) {
            let text = fs::read(written.path(name)).unwrap();
            for _ in 0..300 {
                let mut text = text.clone();
                for _ in 0..=random(2) {
                    let at = random(text.len());
                    text[at] = b"0123456789{}[],:\"-.eNIaZ\xff"[random(25)];
                }
                fs::write(written.path(name), &text).unwrap();
                // Some changes do no harm, as in a class's name; the others must be errors.
                let model = Model::open(written.folder.path(), &written.options);
                opened += usize::from(model.is_ok());
            }
            fs::write(written.path(name), text).unwrap();
        }
    }
    assert!(opened > 100, "{opened}");
}

#[test]
fn heads_and_statistics_are_guessed_aloud() {
    let mut bare = Checkpoint::timm();
    bare.config = Value::Null;
    let mut written = bare.write();
    let model = written.open();
    assert_eq!(
        about(&model),
        ["heads", "mean", "std", "resize", "interpolation"]
    );
    assert_eq!(top(&model, "smooth-3.png"), (1, 29.3));
    written.options.overrides = Overrides {
        heads: Some(vec![5]),
        ..Overrides::default()
    };
    assert_eq!(
        about(&written.open()),
        ["mean", "std", "resize", "interpolation"]
    );
    assert_eq!(top(&written.open(), "smooth-3.png").0, 9);
    assert_eq!(top(&written.open(), "smooth-4.png"), (1, 30.5));
    written.options.overrides.mean = Some(vec![0.485, 0.456, 0.406]);
    written.options.overrides.std = Some(vec![0.229, 0.224, 0.225]);
    assert_eq!(top(&written.open(), "smooth-4.png").0, 9);
    assert_eq!(about(&written.open()), ["resize", "interpolation"]);
    // transformers' names alone leave open more.
    let mut bare = Checkpoint::hugging_face();
    (bare.config, bare.preprocessor) = (Value::Null, Value::Null);
    let model = bare.open();
    assert_eq!(about(&model)[..2], ["heads", "layer_norm_eps"]);
    assert_eq!(about(&model).len(), 6);
}

#[test]
fn json_is_read_as_python_writes_it() {
    let plain = Checkpoint::hugging_face();
    let text = plain.config.to_string();
    let (start, rest) = text.split_at(1);
    for text in [
        format!("{start}\"a\": NaN, \"b\": [-Infinity, Infinity], {rest}"),
        format!("\u{feff}{text}"),
        text.replace("\"num_attention_heads\":3", "\"num_attention_heads\":3.0"),
    ] {
        let written = plain.write();
        fs::write(written.path("config.json"), text).unwrap();
        assert_eq!(top(&written.open(), "smooth.png"), (3, 32.3));
    }
    let written = plain.write();
    fs::write(
        written.path("config.json"),
        text.replace("\"layer_norm_eps\":0.01", "\"layer_norm_eps\":NaN"),
    )
    .unwrap();
    assert_eq!(
        written.error(),
        "FOLDER: config.json `layer_norm_eps`: expected a number, got `NaN`"
    );
    assert_eq!(
        Checkpoint::hugging_face()
            .preprocessor("size", json!({"longest_edge": 40}))
            .error(),
        "FOLDER: preprocessor_config.json `size`: expected {\"height\": 224, \"width\": 224}, \
         {\"shortest_edge\": 224}, [224, 224] or 224, got {\"longest_edge\":40}"
    );
    for size in [
        json!(40),
        json!([40, 40.0]),
        json!({"height": 40, "width": 40}),
    ] {
        let model = Checkpoint::hugging_face().preprocessor("size", size).open();
        assert_eq!(top(&model, "smooth.png"), (3, 32.3));
    }
}

#[test]
fn processors_have_the_defaults_of_their_class() {
    let bit = Checkpoint {
        preprocessor: json!({"image_processor_type": "BitImageProcessor", "size": 48, "crop_size": 40}),
        ..Checkpoint::hugging_face()
    };
    let preprocess = bit.open().config().preprocess.clone();
    assert_eq!((preprocess.resize, preprocess.keep_aspect), (48, true));
    assert_eq!(preprocess.mean, [0.481_454_66, 0.457_827_5, 0.408_210_73]);
    let unknown = bit.preprocessor("image_processor_type", json!("ConvNextImageProcessor"));
    let model = unknown.preprocessor("size", json!(40)).open();
    assert_eq!(
        about(&model),
        ["preprocessor_config.json `image_processor_type`"]
    );
    let shorter = Checkpoint::hugging_face().preprocessor("size", json!({"shortest_edge": 40}));
    assert_eq!(
        about(&shorter.open()),
        ["preprocessor_config.json `do_center_crop`"]
    );
    let kept = Checkpoint::hugging_face().preprocessor("do_resize", json!(false));
    assert_eq!(
        about(&kept.open()),
        ["preprocessor_config.json `do_resize`"]
    );
    // Other sizes than the model's are refused, unless they are asked for.
    let other = Checkpoint::hugging_face().preprocessor("size", json!(32));
    assert_eq!(
        other.error(),
        "FOLDER: preprocessor_config.json `size`: expected 40, the image size of the model, got 32"
    );
    let mut written = other.write();
    written.options.overrides.image_size = Some(32);
    assert_eq!(written.open().config().preprocess.resize, 32);
}

#[test]
fn entries_of_other_programs_leave_preprocessing_alone() {
    for mean in ["0.02", "0.02,0.02,0.02"] {
        let mut checkpoint = Checkpoint::hugging_face();
        checkpoint
            .tensors
            .metadata
            .insert("mean".into(), mean.into());
        checkpoint
            .tensors
            .metadata
            .insert("std".into(), mean.into());
        assert_eq!(top(&checkpoint.open(), "smooth.png"), (3, 32.3));
    }
    // Nor do our own go before the files beside them.
    let mut own = Checkpoint::hugging_face();
    own.tensors
        .metadata
        .insert("noisyquant.mean".into(), "0.1,0.1,0.1".into());
    assert_eq!(own.open().config().preprocess.mean, [0.5; 3]);
}
