//! The JSON files beside a checkpoint: an error, or a model that runs.
//!
//! The first byte of the input chooses a golden checkpoint. The rest is its `config.json` and, after a zero
//! byte, its `preprocessor_config.json`.

#![no_main]

mod models;

use std::fs;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use models::GOLDEN;
use noisyquant_vit::{Model, OpenOptions};
use tempfile::TempDir;

static FOLDERS: LazyLock<Vec<TempDir>> = LazyLock::new(|| {
    let copy = |name| {
        let folder = tempfile::tempdir().expect("a folder");
        let checkpoint = folder.path().join("model.safetensors");
        fs::write(checkpoint, models::golden(name)).expect("room");
        folder
    };
    GOLDEN.map(copy).into()
});

fuzz_target!(|input: &[u8]| {
    let Some((which, texts)) = input.split_first() else {
        return;
    };
    let folder = FOLDERS[usize::from(*which) % FOLDERS.len()].path();
    let mut texts = texts.splitn(2, |byte| *byte == 0);
    for name in ["config.json", "preprocessor_config.json"] {
        let path = folder.join(name);
        match texts.next() {
            Some(text) => fs::write(path, text).expect("room"),
            None => drop(fs::remove_file(path)),
        }
    }
    if let Ok(model) = Model::open(folder, &OpenOptions::default()) {
        models::run(&model);
    }
});
