//! Decoding and resizing an image file: an error, or a model's input.
//!
//! The first three bytes of the input say how it is prepared; the rest is the file.

#![no_main]

mod models;

use std::fs;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use noisyquant_vit::{Model, OpenOptions, Preprocess, photo};
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a folder"));
static PREPROCESS: LazyLock<Preprocess> = LazyLock::new(|| {
    let model = Model::open(&models::folder("hf-vit"), &OpenOptions::default());
    model.expect("a checkpoint").config().preprocess.clone()
});

fuzz_target!(|input: &[u8]| {
    let Some(([resize, crop, keep], file)) = input.split_first_chunk() else {
        return;
    };
    let path = FOLDER.path().join("image");
    fs::write(&path, file).expect("room");
    let preprocess = Preprocess {
        resize: usize::from(*resize),
        crop: usize::from(*crop),
        keep_aspect: keep % 2 == 0,
        ..PREPROCESS.clone()
    };
    if let Ok(values) = photo::load(&path, &preprocess, 3, &photo::Options::default()) {
        assert_eq!(values.len(), 3 * preprocess.crop * preprocess.crop);
        assert!(values.iter().all(|value| value.is_finite()));
    }
});
