//! Models to start from, and how one that opened is run.

#![allow(dead_code, reason = "not every target uses all of it")]

use std::fs;
use std::path::{Path, PathBuf};

use noisyquant::Recipe;
use noisyquant_vit::{Calibration, Choice, LayerPlan, Model, OpenOptions, Output, Workspace};

/// Golden checkpoints of one file.
pub const GOLDEN: [&str; 4] = ["hf-vit", "hf-swin", "timm-vit", "timm-swin"];

pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../golden")
        .join(name)
}

/// The header of a safetensors file, and the numbers after it.
pub fn parts(file: &[u8]) -> (&[u8], &[u8]) {
    let (length, rest) = file.split_first_chunk().expect("a length");
    rest.split_at(u64::from_le_bytes(*length) as usize)
}

/// The file that these make.
pub fn file(header: &[u8], numbers: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, numbers].concat()
}

pub fn golden(name: &str) -> Vec<u8> {
    fs::read(folder(name).join("model.safetensors")).expect("a golden checkpoint")
}

/// A golden ViT on integers, as a file.
pub fn quantized() -> Vec<u8> {
    let float = Model::open(&folder("hf-vit"), &OpenOptions::default()).expect("a checkpoint");
    let mut calibration = Calibration::new(&float, 16, 0).expect("some rows");
    let image: Vec<f32> = (0..float.config().pixels())
        .map(|at| (at % 7) as f32 / 3.0 - 1.0)
        .collect();
    let mut workspace = Workspace::new(&float, 1);
    calibration
        .observe(&float, &image, &mut workspace)
        .expect("an image");
    // Both forms that weights have in files.
    let plan = |name: &str| LayerPlan {
        choice: Choice::Recipe(Recipe::default()),
        ..LayerPlan::new(if name.contains("mlp") { 6 } else { 8 })
    };
    let quantized = float.quantize(&plan, &calibration, &|_| ());
    let (model, _) = quantized.expect("a quantized model");
    model.to_bytes().expect("a file")
}

/// Runs a model that opened on a grey image, which must succeed.
pub fn run(model: &Model) {
    let config = model.config();
    let image = vec![0.25; config.pixels()];
    let mut features = vec![0.0; config.features()];
    let mut workspace = Workspace::serial(model, 1);
    let output = &mut Output::features(&mut features);
    model
        .forward(&image, output, &mut workspace)
        .expect("a whole image");
}
