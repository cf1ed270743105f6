//! Files that are no such model: an error that names what was expected and what was got, never a
//! panic.

mod common;

use common::{File, Stored};
use noisyquant_vit::{Error, Images, Linear, Model, Warning, embedded};
use safetensors::Dtype;

/// The error of loading these bytes.
fn error(bytes: &[u8]) -> Error {
    Model::from_safetensors(bytes)
        .err()
        .expect("this file must not load")
}

/// The error of loading the embedded model after `spoil`, as text; every error says what was
/// expected and got.
fn error_after(spoil: impl FnOnce(&mut File)) -> String {
    let mut file = File::embedded();
    spoil(&mut file);
    let text = error(&file.bytes()).to_string();
    assert!(text.contains("expected") && text.contains("got"), "{text}");
    text
}

/// Bytes of a file with this header and no data.
fn with_header(header: &str) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes
}

#[test]
fn every_truncation_is_an_error() {
    let whole = embedded::WEIGHTS;
    let header = 8 + u64::from_le_bytes(*whole.first_chunk().unwrap()) as usize;
    let near_start = 0..64;
    let in_header = (64..header).step_by(97);
    let in_data = (header..whole.len()).step_by(50_021);
    let near_end = whole.len() - 4..whole.len();
    for length in near_start.chain(in_header).chain(in_data).chain(near_end) {
        let error = error(&whole[..length]);
        assert!(
            matches!(error, Error::File { length: got, .. } if got == length),
            "{length}: {error}"
        );
    }
    let mut longer = whole.to_vec();
    longer.push(0);
    assert!(matches!(error(&longer), Error::File { .. }));
}

#[test]
fn hostile_headers_are_errors() {
    let huge_shape = format!(
        r#"{{"a":{{"dtype":"F32","shape":[{},{}],"data_offsets":[0,0]}}}}"#,
        u64::MAX,
        u64::MAX
    );
    let backwards = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#;
    // Together with the header, more bytes than 64 bits count.
    let tensor = |i: u64| {
        let each = u64::MAX / 8;
        let (from, to) = (i * each, (i + 1) * each);
        format!(r#""{i}":{{"dtype":"U8","shape":[{each}],"data_offsets":[{from},{to}]}}"#)
    };
    let too_long = (0..8).map(tensor).collect::<Vec<_>>().join(",");
    let too_long = format!("{{{too_long}}}");
    let beyond = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    for header in [
        "",
        "{",
        "[]",
        "null",
        "{}",
        r#"{"a":1}"#,
        &huge_shape,
        &too_long,
        backwards,
        beyond,
    ] {
        let error = error(&with_header(header));
        assert!(
            matches!(error, Error::File { .. } | Error::Architecture { .. }),
            "{header}: {error}"
        );
    }
    let mut endless = u64::MAX.to_le_bytes().to_vec();
    endless.extend_from_slice(b"{}");
    assert!(matches!(error(&endless), Error::File { .. }));
    // Empty tensors may claim any other dimension: nothing may be computed from it.
    let empty = format!(
        r#"{{"patch_embed.proj.weight":{{"dtype":"F16","shape":[0,1,{0},{0}],"data_offsets":[0,0]}}}}"#,
        u64::MAX / 4
    );
    assert!(matches!(
        error(&with_header(&empty)),
        Error::Shape { .. } | Error::File { .. }
    ));
}

#[test]
fn changed_header_bytes_never_panic() {
    let header = 8 + u64::from_le_bytes(*embedded::WEIGHTS.first_chunk().unwrap()) as usize;
    let mut state = 1u64;
    for _ in 0..2000 {
        let mut bytes = embedded::WEIGHTS.to_vec();
        for _ in 0..2 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            bytes[(state >> 33) as usize % header] =
                b"0123456789{}[],:\"aF\\ \xff"[(state >> 60) as usize];
        }
        // Some changes do no harm, as in the text of a licence; the others must be errors.
        let _ = Model::from_safetensors(&bytes);
    }
}

#[test]
fn every_missing_tensor_is_named() {
    for name in File::embedded().tensors.keys() {
        if matches!(&**name, "head.bias" | "norm.bias" | "patch_embed.proj.bias") {
            // There is only one, which is taken for zeros.
            let mut file = File::embedded();
            file.tensors.remove(name);
            let model = Model::from_safetensors(&file.bytes()).unwrap();
            let about: Vec<&str> = model.warnings().iter().map(Warning::what).collect();
            assert_eq!(about, [name]);
            continue;
        }
        let text = error_after(|file| drop(file.tensors.remove(name)));
        assert!(text.contains(&format!("`{name}`")), "{name}: {text}");
    }
}

#[test]
fn every_mis_shaped_tensor_is_named() {
    for (name, stored) in File::embedded().tensors {
        let mut flat = stored.shape.clone();
        let last = flat.pop().unwrap();
        let mut longer = stored.clone();
        longer.shape = [&flat[..], &[last + 1]].concat();
        longer.data.resize(stored.data.len() / last * (last + 1), 0);
        let extra_dimension = Stored {
            shape: [&stored.shape[..], &[1]].concat(),
            ..stored.clone()
        };
        let empty = Stored {
            shape: [&flat[..], &[0]].concat(),
            data: Vec::new(),
            ..stored.clone()
        };
        for (what, spoiled) in [
            ("longer", longer),
            ("another rank", extra_dimension),
            ("empty", empty),
        ] {
            let text = error_after(|file| *file.tensor(&name) = spoiled);
            // A mis-shaped tensor that sizes are read from can make the next one look wrong.
            let is_shape = text.contains("expected shape") || text.contains("metadata");
            assert!(is_shape, "{name} {what}: {text}");
        }
    }
    let text = error_after(|file| file.tensor("blocks.2.mlp.fc1.weight").shape = vec![64, 256]);
    assert_eq!(
        text,
        "tensor `blocks.2.mlp.fc1.weight`: expected shape [256, 64], got [64, 256]"
    );
}

#[test]
fn other_number_types_are_named() {
    let text = error_after(|file| {
        let head = file.tensor("head.bias");
        (head.dtype, head.data) = (Dtype::I8, vec![0; 10]);
    });
    assert_eq!(
        text,
        "tensor `head.bias`: expected F16, BF16 or F32, got I8"
    );
}

#[test]
fn f32_and_bf16_are_read() {
    let mut file = File::embedded();
    for (dtype, bytes) in [
        (Dtype::F32, 1.5f32.to_le_bytes().to_vec()),
        (Dtype::BF16, vec![0xc0, 0x3f]),
    ] {
        let head = file.tensor("head.bias");
        (head.dtype, head.data) = (dtype, bytes.repeat(10));
        let model = Model::from_safetensors(&file.bytes()).unwrap();
        let Linear::Float(head) = &model.layers().last().unwrap().linear else {
            panic!("a float layer")
        };
        assert_eq!(head.bias(), [1.5; 10]);
    }
}

#[test]
fn numbers_that_are_not_finite_are_named() {
    let text =
        error_after(|file| file.tensor("norm.weight").data[6..8].copy_from_slice(&[0x00, 0x7c]));
    assert_eq!(
        text,
        "tensor `norm.weight`: expected finite numbers, got inf at index 3"
    );
}

#[test]
fn tensors_of_another_architecture_are_named() {
    let text = error_after(|file| {
        let norm = file.tensor("norm.weight").clone();
        file.tensors
            .insert("blocks.0.attn.q_norm.weight".into(), norm);
    });
    assert!(text.contains("`blocks.0.attn.q_norm.weight`"), "{text}");
}

#[test]
fn bad_metadata_is_named() {
    for (key, values) in [
        (
            "heads",
            vec!["0", "5", "-4", "four", "99999999999999999999"],
        ),
        ("patch_size", vec!["5", ""]),
        ("layer_norm_eps", vec!["0", "-1", "NaN", "inf", "x"]),
        ("resize", vec!["27", "-1", "x"]),
        ("interpolation", vec!["", "Bicubic", "hamming"]),
        ("mean", vec!["", "NaN", "0.1, 0.2"]),
        ("std", vec!["0", "-1", "inf", "1,1,1"]),
    ] {
        for value in values {
            let text = error_after(|file| {
                drop(
                    file.metadata
                        .insert(format!("noisyquant.{key}"), value.into()),
                )
            });
            assert!(
                text.starts_with(&format!("metadata `noisyquant.{key}`: expected"))
                    || text.starts_with(&format!("{key}: expected")),
                "{value}: {text}"
            );
        }
    }
}

#[test]
fn image_files_are_checked_too() {
    let text = Images::from_safetensors(embedded::WEIGHTS)
        .err()
        .unwrap()
        .to_string();
    assert_eq!(
        text,
        "tensor `images`: expected shape [n, height, width], got no such tensor"
    );
    assert!(matches!(
        Images::from_safetensors(&[0; 7]),
        Err(Error::File { length: 7, .. })
    ));
}
