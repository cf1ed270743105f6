//! The float path against logits that JAX computed from the same weights, and proof that this would
//! notice.

mod common;

use common::File;
use noisyquant_vit::{Error, Model, Output, Workspace, embedded};
use safetensors::SafeTensors;

const GOLDEN: &[u8] = include_bytes!("../assets/golden-logits.safetensors");

/// Logits by JAX of the first images of the test set.
fn golden() -> Vec<f32> {
    let file = SafeTensors::deserialize(GOLDEN).unwrap();
    let view = file.tensor("logits").unwrap();
    assert_eq!(view.shape(), [8, 10]);
    view.data()
        .as_chunks()
        .0
        .iter()
        .map(|&four| f32::from_le_bytes(four))
        .collect()
}

/// Largest difference between this model's logits and the golden ones, relative to the image's
/// largest logit.
fn error_of(model: &[u8]) -> Result<f32, Error> {
    let model = Model::from_safetensors(model)?;
    let golden = golden();
    let images = embedded::test()?.normalised(model.config(), 0..8)?;
    let mut logits = vec![0.0; golden.len()];
    let mut workspace = Workspace::new(&model, 8);
    model.forward(&images, &mut Output::logits(&mut logits), &mut workspace)?;
    let errors = logits
        .chunks(10)
        .zip(golden.chunks(10))
        .map(|(got, expected)| {
            let largest = expected
                .iter()
                .fold(0.0f32, |most, logit| most.max(logit.abs()));
            got.iter()
                .zip(expected)
                .fold(0.0f32, |most, (a, b)| most.max((a - b).abs()))
                / largest
        });
    Ok(errors.fold(0.0, f32::max))
}

#[test]
fn float_logits_are_those_of_jax() {
    let error = error_of(embedded::WEIGHTS).unwrap();
    assert!(error <= 1e-4, "relative error {error:e}");
    assert!(
        error_of(&File::embedded().bytes()).unwrap() <= 1e-4,
        "taking the file apart must not change it"
    );
}

#[test]
fn a_transposed_weight_is_noticed() {
    for block in 0..6 {
        let mut file = File::embedded();
        let name = format!("blocks.{block}.attn.proj.weight");
        file.tensor(&name).transpose();
        let error = error_of(&file.bytes()).unwrap();
        assert!(error > 1e-2, "block {block}: relative error only {error:e}");
    }
}

#[test]
fn exchanged_queries_and_keys_are_noticed() {
    let mut file = File::embedded();
    let qkv = file.tensor("blocks.3.attn.qkv.weight");
    let third = qkv.data.len() / 3;
    qkv.data[..2 * third].rotate_left(third);
    let error = error_of(&file.bytes()).unwrap();
    assert!(error > 1e-2, "relative error only {error:e}");
}

#[test]
fn a_position_off_by_one_is_noticed() {
    let mut file = File::embedded();
    let width = file.tensor("cls_token").data.len();
    file.tensor("pos_embed").data.rotate_left(width);
    let error = error_of(&file.bytes()).unwrap();
    assert!(error > 1e-2, "relative error only {error:e}");
}

#[test]
fn another_epsilon_is_noticed() {
    let mut file = File::embedded();
    file.metadata
        .insert("noisyquant.layer_norm_eps".into(), "1e-1".into());
    let error = error_of(&file.bytes()).unwrap();
    assert!(error > 1e-3, "relative error only {error:e}");
}
