//! What a file that is made says of what it was made from, and what it is not made from.

mod tool;

use std::fs;

use tool::{Bench, json, text};

/// A copy of the checkpoint, which may be written to.
fn copy(bench: &Bench, name: &str) -> String {
    let folder = bench.path(name);
    fs::create_dir(&folder).unwrap();
    for entry in fs::read_dir(&bench.checkpoint).unwrap() {
        let path = entry.unwrap().path();
        let to = format!("{folder}/{}", path.file_name().unwrap().to_str().unwrap());
        fs::write(to, fs::read(path).unwrap()).unwrap();
    }
    folder
}

#[test]
fn an_output_is_no_input() {
    let mut bench = Bench::new();
    bench.checkpoint = copy(&bench, "m");
    let weights = bench.path("m/model.safetensors");
    let before = fs::read(&weights).unwrap();
    fs::hard_link(&weights, bench.path("hard")).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("m/model.safetensors", bench.path("soft")).unwrap();
    let picture = bench.picture("0/a.png");
    for output in [
        "m/model.safetensors",
        "m/../m/./model.safetensors",
        "hard",
        #[cfg(unix)]
        "soft",
        "m/config.json",
        &picture,
    ] {
        let error = bench.fail(&bench.quantize_arguments(output, &["--rows", "64"]));
        let words = "expected an output that is no input";
        assert!(error.contains(words) && error.contains(output), "{error}");
    }
    assert!(fs::read(&weights).unwrap() == before);

    // Nor is it another checkpoint.
    fs::copy(&weights, bench.path("other")).unwrap();
    let error = bench.fail(&bench.quantize_arguments("other", &["--rows", "64"]));
    assert!(
        error.contains("other: expected no float checkpoint to overwrite"),
        "{error}"
    );
    for output in ["other", "m/model.safetensors"] {
        bench.quantize(output, &["--rows", "64", "--force"]);
        assert!(bench.succeed(&["inspect", output]).contains(": quantized"));
        // What was quantized is overwritten without a word.
        fs::write(&weights, &before).unwrap();
        bench.quantize("other", &["--rows", "64"]);
    }
    for output in ["other", "m/model.safetensors", &picture] {
        let images = ["--images", &bench.images, "--seconds", "0"];
        let report = ["report", &bench.checkpoint, "other", "-o", output];
        let error = bench.fail(&[&report, &images[..]].concat());
        assert!(
            error.contains("expected an output that is no input"),
            "{error}"
        );
    }
}

#[test]
fn a_quantized_model_belongs_to_its_checkpoint() {
    let mut bench = Bench::new();
    bench.quantize("int8", &["--rows", "64"]);
    bench.checkpoint = copy(&bench, "m");
    let compare = |bench: &Bench| {
        let arguments = [
            "compare",
            &bench.checkpoint,
            "int8",
            "--images",
            &bench.images,
        ];
        bench.command(&arguments).output().unwrap()
    };
    assert!(compare(&bench).status.success());
    // One weight of a tensor that is no layer.
    let weights = bench.path("m/model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let end = bytes.len() - 1;
    bytes[end] ^= 1;
    fs::write(&weights, bytes).unwrap();
    let output = compare(&bench);
    let error = text(output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains("expected a quantization of this checkpoint"),
        "{error}"
    );
}

/// The quantized file knows the flags that it was made with.
#[test]
fn inputs_are_those_of_the_quantized_file() {
    let bench = Bench::new();
    let flags = ["--mean", "0,0,0", "--std", "0.25,0.25,0.25"];
    bench.quantize("int8", &[&flags[..], &["--rows", "64"]].concat());
    let compare = |more: &[&str]| {
        let arguments = [
            "compare",
            &bench.checkpoint,
            "int8",
            "--images",
            &bench.images,
            "--json",
        ];
        json(&bench.succeed(&[&arguments, more].concat()))
    };
    assert_eq!(compare(&[]), compare(&flags));
    assert_ne!(compare(&[]), compare(&["--mean", "0.5,0.5,0.5"]));
}

/// Layers whose inputs say nothing are named and stay as they are.
#[test]
fn images_that_say_nothing() {
    let mut bench = Bench::new();
    bench.images = bench.path("black");
    fs::create_dir(&bench.images).unwrap();
    for name in ["a.png", "b.png"] {
        image::RgbImage::new(40, 40)
            .save(bench.picture(name))
            .unwrap();
    }
    for (mean, words) in [("0.5,0.5,0.5", "all the same"), ("0,0,0", "all zero")] {
        let flags = ["--rows", "64", "--bias", "none", "--mean", mean, "--json"];
        let arguments = bench.quantize_arguments("out", &flags);
        let output = bench.command(&arguments).output().unwrap();
        let (shown, warnings) = (json(&text(output.stdout)), text(output.stderr));
        let words_of_images = "calibration: expected images that differ, got 2";
        assert!(warnings.contains(words_of_images), "{warnings}");
        let line = warnings
            .lines()
            .find(|line| line.contains("`patch_embed.proj`"));
        let line = line.unwrap_or_else(|| panic!("{warnings}"));
        assert!(
            line.contains(words) && line.contains("stays in f32"),
            "{line}"
        );
        assert!(shown["layers"][0]["recipe"].is_null(), "{shown}");
        assert!(shown["layers"][1]["recipe"].is_object(), "{shown}");
        let error = bench.fail(&[&arguments[..], &["--strict"]].concat());
        assert!(error.starts_with("error: --strict: "), "{error}");
        let anyway = [&arguments[..], &["--quantize-anyway"]].concat();
        let shown = json(&text(bench.command(&anyway).output().unwrap().stdout));
        assert!(shown["layers"][0]["recipe"].is_object(), "{shown}");
    }
}

/// A head that overflows gives no answer.
#[test]
fn outputs_that_are_not_finite() {
    let mut bench = Bench::new();
    bench.quantize("int8", &["--rows", "64", "--bias", "none"]);
    bench.checkpoint = copy(&bench, "m");
    let path = bench.path("m/model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.tensors().into_iter().map(|(name, view)| {
        let large = name == "classifier.weight";
        let values = view.data().as_chunks().0.iter();
        let bytes: Vec<u8> = match (large, view.dtype()) {
            (true, safetensors::Dtype::F32) => values
                .flat_map(|_: &[u8; 4]| 3e38f32.to_le_bytes())
                .collect(),
            (true, dtype) => panic!("{dtype:?}"),
            _ => view.data().to_vec(),
        };
        (name, view.dtype(), view.shape().to_vec(), bytes)
    });
    let tensors: Vec<_> = tensors.collect();
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        let view = safetensors::tensor::TensorView::new(*dtype, shape.clone(), bytes);
        (name, view.unwrap())
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    fs::write(&path, bytes).unwrap();
    fs::create_dir_all(bench.path("classes/0")).unwrap();
    fs::copy(bench.picture("0/a.png"), bench.path("classes/0/a.png")).unwrap();
    for arguments in [
        ["run", &bench.checkpoint, &bench.picture("0/a.png")].as_slice(),
        &[
            "eval",
            &bench.checkpoint,
            "--images",
            &bench.path("classes"),
        ],
    ] {
        let error = bench.fail(arguments);
        let words = "0/a.png: expected finite outputs";
        assert!(error.contains(words), "{error}");
    }
}
