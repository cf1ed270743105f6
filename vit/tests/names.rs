//! Files as people have them: names with wrappers, of other versions, without biases, of other formats.

mod common;
mod one_block;

use std::fs;

use common::File;
use noisyquant::{ActivationRange, Noise, Quantizer};
use noisyquant_vit::{Calibration, Choice, LayerPlan, Model, photo};
use one_block::{Checkpoint, about, close, data, logits, top};
use serde_json::{Value, json};

#[test]
fn a_whole_model_goes_before_shards() {
    let mut other = Checkpoint::timm();
    other.tensors.tensor("head.weight").data.rotate_left(80);
    let written = Checkpoint::timm().write();
    let index = |shard: &str| {
        let map = Checkpoint::timm()
            .tensors
            .tensors
            .into_keys()
            .map(|name| (name, json!(shard)));
        let map: Value = Value::Object(map.collect());
        json!({"metadata": {}, "weight_map": map}).to_string()
    };
    let name = written.path("model.safetensors.index.json");
    fs::write(&name, index("model-00001-of-00001.safetensors")).unwrap();
    for there in [false, true] {
        if there {
            let shard = written.path("model-00001-of-00001.safetensors");
            fs::write(shard, other.tensors.bytes()).unwrap();
        }
        let model = written.open();
        assert_eq!(top(&model, "smooth-4.png"), (1, 30.4));
        assert_eq!(about(&model), [name.to_str().unwrap()]);
    }
    // Asked for by name, the shards count; an index of the whole model is no other.
    let shards = Model::open(&name, &written.options).unwrap();
    assert_ne!(top(&shards, "smooth-4.png"), (1, 30.4));
    fs::write(&name, index("model.safetensors")).unwrap();
    assert!(written.open().warnings().is_empty());
}

#[test]
fn biases_that_are_absent_are_zero() {
    let timm = Checkpoint::timm()
        .renamed(|name| (name != "blocks.0.attn.qkv.bias").then(|| name.to_string()));
    let model = timm.argument("qkv_bias", json!(false)).open();
    close(logits(&model, "smooth-4.png")[1], 1.7830);
    assert!(model.warnings().is_empty());

    let without = || {
        let bias = |name: &str| name.contains(".attention.attention.") && name.ends_with(".bias");
        Checkpoint::hugging_face().renamed(|name| (!bias(name)).then(|| name.to_string()))
    };
    let model = without().config("qkv_bias", json!(false)).open();
    close(logits(&model, "smooth-4.png")[3], 1.6824);
    assert!(model.warnings().is_empty());
    assert_eq!(
        without().error(),
        "FOLDER: config.json `qkv_bias`: expected false, as in the tensors, got true"
    );
    let mut unstated = without();
    unstated.config.as_object_mut().unwrap().remove("qkv_bias");
    assert_eq!(about(&unstated.open()).len(), 3);

    let mut apart = Checkpoint::timm();
    let bias = apart
        .tensors
        .tensors
        .remove("blocks.0.attn.qkv.bias")
        .unwrap();
    for (name, range) in [("q_bias", 0..80), ("v_bias", 160..240)] {
        let mut part = bias.clone();
        (part.shape, part.data) = (vec![40], bias.data[range].to_vec());
        apart
            .tensors
            .tensors
            .insert(format!("blocks.0.attn.{name}"), part);
    }
    let model = apart.open();
    close(logits(&model, "smooth-4.png")[1], 1.2720);
    assert!(model.warnings().is_empty());
    apart.tensors.tensors.remove("blocks.0.attn.v_bias");
    let error = apart.error();
    assert!(
        error.starts_with("FOLDER: tensor `blocks.0.attn.v_bias`: expected"),
        "{error}"
    );
}

#[test]
fn wrappers_before_all_names_are_passed_over() {
    for wrapper in [
        "module.",
        "_orig_mod.",
        "model.",
        "backbone.",
        "module._orig_mod.",
        "net.vit.",
    ] {
        let wrapped = |name: &str| Some(format!("{wrapper}{name}"));
        let timm = Checkpoint::timm().renamed(wrapped).open();
        assert_eq!(top(&timm, "smooth-4.png"), (1, 30.4), "{wrapper}");
        let hugging_face = Checkpoint::hugging_face().renamed(wrapped).open();
        close(logits(&hugging_face, "smooth-4.png")[3], 1.6335);
        assert!(timm.warnings().is_empty() && hugging_face.warnings().is_empty());
    }
    for variant in [
        "hf-swin",
        "hf-deit-distilled",
        "hf-dinov2-registers-head",
        "hf-dinov2",
        "timm-swin",
        "timm-deit-distilled",
        "timm-dinov2-registers",
    ] {
        let plain = Checkpoint::golden(variant);
        let wrapped = plain
            .clone()
            .renamed(|name| Some(format!("model.module.{name}")));
        let bytes = |checkpoint: Checkpoint| {
            let mut written = checkpoint.write();
            if variant == "timm-swin" {
                written.options.overrides.image_size = Some(40);
            }
            written.open().to_bytes().unwrap()
        };
        assert!(bytes(plain) == bytes(wrapped), "{variant}");
    }
    // What the averages and losses of training leave beside them.
    let mut average = Checkpoint::timm().renamed(|name| Some(format!("module.{name}")));
    let scalar = average.tensors.tensor("module.head.bias").clone();
    average
        .tensors
        .tensors
        .insert("n_averaged".into(), scalar.clone());
    assert!(average.open().warnings().is_empty());
    average
        .tensors
        .tensors
        .insert("criterion.weight".into(), scalar.clone());
    assert_eq!(about(&average.open()), ["tensors"]);
    average
        .tensors
        .tensors
        .insert("other.weight".into(), scalar);
    let error = average.error();
    assert!(
        error.starts_with("FOLDER: tensor `other.weight`: expected no tensor"),
        "{error}"
    );

    let mut two = Checkpoint::timm().renamed(|name| Some(format!("student.{name}")));
    let teacher = Checkpoint::timm().renamed(|name| Some(format!("teacher.{name}")));
    two.tensors.tensors.extend(teacher.tensors.tensors);
    let error = two.error();
    assert!(
        error.ends_with("got those of several, `student....` and `teacher....`"),
        "{error}"
    );
}

#[test]
fn names_of_transformers_5_in_memory_are_read() {
    let inner = |blocks: &str| {
        Checkpoint::hugging_face().renamed(|name| {
            let mut name = name.replace("encoder.layer.", blocks);
            for (saved, inner) in [
                ("attention.attention.query", "attention.q_proj"),
                ("attention.attention.key", "attention.k_proj"),
                ("attention.attention.value", "attention.v_proj"),
                ("attention.output.dense", "attention.o_proj"),
                ("intermediate.dense", "mlp.fc1"),
                ("output.dense", "mlp.fc2"),
            ] {
                name = name.replace(saved, inner);
            }
            Some(name)
        })
    };
    for blocks in ["layers.", "encoder.layers.", "encoder.layer."] {
        close(logits(&inner(blocks).open(), "smooth-4.png")[3], 1.6335);
    }
    for variant in ["hf-swin", "hf-dinov2-registers-head", "hf-deit-distilled"] {
        let saved = Checkpoint::golden(variant);
        let inner = saved.clone().renamed(|name| {
            let mut name = name.to_string();
            for (saved, inner) in [
                ("attention.attention.query", "attention.q_proj"),
                ("attention.attention.key", "attention.k_proj"),
                ("attention.attention.value", "attention.v_proj"),
                ("attention.self.query", "attention.q_proj"),
                ("attention.self.key", "attention.k_proj"),
                ("attention.self.value", "attention.v_proj"),
                (
                    "attention.self.relative",
                    "attention.relative_position_bias.relative",
                ),
                ("attention.output.dense", "attention.o_proj"),
                ("intermediate.dense", "mlp.fc1"),
                ("output.dense", "mlp.fc2"),
            ] {
                name = name.replace(saved, inner);
            }
            Some(name)
        });
        let (saved, inner) = (saved.open(), inner.open());
        assert_eq!(
            inner.to_bytes().unwrap(),
            saved.to_bytes().unwrap(),
            "{variant}"
        );
    }
}

#[test]
fn files_of_other_formats_are_named() {
    for (bytes, expected) in [
        (
            &b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"[..],
            "Git LFS pointer",
        ),
        (b"<!DOCTYPE html><html>", "an HTML page"),
        (b"PK\x03\x04\x14\0\0\0", "a ZIP archive"),
        (b"\x80\x02}q\0", "a pickle"),
        (b"\x08\x08\x12\x07pytorch", "an ONNX model"),
        (b"GGUF\x03\0\0\0", "a GGUF file"),
    ] {
        let written = Checkpoint::hugging_face().write();
        fs::write(written.path("model.safetensors"), bytes).unwrap();
        let error = written.error();
        let start = "FOLDER/model.safetensors: expected a safetensors file, got";
        assert!(
            error.starts_with(start) && error.contains(expected),
            "{error}"
        );
        let written = Checkpoint::hugging_face().write();
        fs::write(written.path("config.json"), bytes).unwrap();
        let error = written.error();
        assert!(error.starts_with("FOLDER/config.json: expected"), "{error}");
        let picture = written.path("picture.png");
        fs::write(&picture, bytes).unwrap();
        let error = photo::decode(&picture, &photo::Options::default())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("picture.png: expected") && error.contains(expected),
            "{error}"
        );
    }
    let written = Checkpoint::timm().write();
    let model = written.path("model.safetensors");
    fs::rename(&model, written.path("pytorch_model.bin")).unwrap();
    assert!(
        written
            .error()
            .ends_with("got none of them, but pytorch_model.bin"),
        "{}",
        written.error()
    );
}

#[test]
fn a_quantized_file_without_its_metadata_is_named() {
    let model = Checkpoint::hugging_face().open();
    let nothing = Calibration::new(&model, 1, 0).unwrap();
    let range = ActivationRange::Fixed {
        min: -6.0,
        max: 6.0,
    };
    let fixed = LayerPlan::new(8).with(Quantizer::symmetric(range), Noise::None);
    for plan in [fixed, LayerPlan::new(8).with_choice(Choice::Float)] {
        let (quantized, _) = model
            .quantize(&|_| plan.clone(), &nothing, &|_| ())
            .unwrap();
        let mut file = File::parse(&quantized.to_bytes().unwrap());
        file.metadata.clear();
        let error = Model::from_safetensors(&file.bytes())
            .err()
            .unwrap()
            .to_string();
        let expected =
            "metadata `noisyquant_vit`: expected it beside the tensors of a quantized model";
        assert!(error.starts_with(expected), "{error}");
    }
}

/// Where nothing can be mapped, the bytes are read: a pipe stands in for such file systems.
#[cfg(unix)]
#[test]
fn a_pipe_opens_as_a_file_does() {
    use std::{
        io::Write,
        process::{Command, Stdio},
    };
    let run = |input: &[u8]| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_noisyquant"))
            .args(["inspect", "/dev/stdin", "--json"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // One that fails early reads no more.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    };
    let whole = run(&fs::read(data("timm-one-block.safetensors")).unwrap());
    assert!(
        whole.status.success(),
        "{}",
        String::from_utf8_lossy(&whole.stderr)
    );
    let inspected: Value = serde_json::from_slice(&whole.stdout).unwrap();
    assert_eq!(inspected["config"]["architecture"]["vit"]["width"], 40);
    let nothing = run(b"");
    let error = String::from_utf8_lossy(&nothing.stderr);
    assert!(
        error.contains("expected a safetensors file, got 0 bytes"),
        "{error}"
    );
}
