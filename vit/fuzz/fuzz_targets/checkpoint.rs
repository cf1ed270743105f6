//! The header of a checkpoint, which names its tensors and says their shapes: an error, or a model that runs.
//!
//! The input's first byte chooses the golden checkpoint whose numbers follow; the rest is the header.

#![no_main]

mod models;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use models::GOLDEN;
use noisyquant_vit::Model;

static FILES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| GOLDEN.map(models::golden).into());

fuzz_target!(|input: &[u8]| {
    let Some((which, header)) = input.split_first() else {
        return;
    };
    let (_, numbers) = models::parts(&FILES[usize::from(*which) % FILES.len()]);
    if let Ok(model) = Model::from_safetensors(&models::file(header, numbers)) {
        models::run(&model);
    }
});
