//! A quantized file: an error, or a model that runs.
//!
//! The first byte of the input says how many groups of eight bytes follow: each a place among the numbers,
//! and the four bytes that are put there. The rest is the header.

#![no_main]

mod models;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use noisyquant_vit::Model;

static FILE: LazyLock<Vec<u8>> = LazyLock::new(models::quantized);

fuzz_target!(|input: &[u8]| {
    let Some((changes, rest)) = input.split_first() else {
        return;
    };
    let (changes, header) = rest.split_at(rest.len().min(usize::from(*changes % 8) * 8));
    let mut numbers = models::parts(&FILE).1.to_vec();
    for change in changes.as_chunks::<8>().0 {
        let (at, value) = change.split_at(4);
        let at = u32::from_le_bytes(at.try_into().expect("four bytes")) as usize;
        let at = at % (numbers.len() / 4) * 4;
        numbers[at..at + 4].copy_from_slice(value);
    }
    if let Ok(model) = Model::from_safetensors(&models::file(header, &numbers)) {
        models::run(&model);
    }
});
