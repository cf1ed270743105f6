//! After `fork()`, the child of a process that ran models has none of rayon's threads, and answers as the
//! parent did: layers in f32, too. A binary of its own: it forks.

#![cfg(unix)]

#[path = "../../tests/forked/mod.rs"]
mod forked;

use forked::assert_in_child;
use noisyquant_vit::{Calibration, LayerPlan, Model, Output, Workspace, compare, embedded};

fn logits(model: &Model, images: &[f32], workspace: &mut Workspace<'_>) -> Vec<u32> {
    let count = images.len() / model.config().pixels();
    let mut logits = vec![f32::NAN; count * model.config().classes];
    let mut output = Output::logits(&mut logits);
    model.forward(images, &mut output, workspace).unwrap();
    logits.iter().map(|logit| logit.to_bits()).collect()
}

#[test]
fn a_forked_child_runs_models_as_its_parent() {
    let float = Model::from_safetensors(embedded::WEIGHTS).unwrap();
    let images = embedded::calibration().unwrap();
    let images = images.normalised(float.config(), 0..16).unwrap();
    let calibrated = || {
        let mut calibration = Calibration::new(&float, 64, 0).unwrap();
        let mut workspace = Workspace::new(&float, 16);
        let observed = calibration.observe(&float, &images, &mut workspace);
        observed.unwrap();
        let plan = |_: &_| LayerPlan::new(8);
        float.quantize(&plan, &calibration, &|_| ()).unwrap().0
    };
    let quantized = calibrated();
    for model in [&float, &quantized] {
        let mut before = Workspace::shared(&[model], 16, 4);
        let expected = logits(model, &images, &mut before);
        // In memory of the parent, and in its own.
        assert_in_child(|| logits(model, &images, &mut before) == expected);
        assert_in_child(|| logits(model, &images, &mut Workspace::new(model, 16)) == expected);
        assert_in_child(|| logits(model, &images, &mut Workspace::serial(model, 16)) == expected);
    }
    let bytes = quantized.to_bytes().unwrap();
    assert_in_child(|| calibrated().to_bytes().unwrap() == bytes);
    let image = &images[..float.config().pixels()];
    assert_in_child(|| {
        let mut pair = compare::Comparer::new(&float, &quantized).unwrap();
        pair.add("image", image).is_ok()
    });
}
