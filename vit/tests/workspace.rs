//! A workspace in memory of the host gives the bits of one of its own, whatever the memory holds.

use std::path::Path;

use noisyquant::{ActivationRange, Noise, Quantizer};
use noisyquant_vit::{Attention, Calibration, LayerPlan, Model, OpenOptions, Output, Workspace};

/// Checkpoints of `vit/golden`.
const MODELS: [&str; 3] = ["hf-vit", "hf-dinov2-registers", "hf-swin"];

/// Each float, and quantized with either attention.
fn models(name: &str) -> Vec<Model> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(name);
    let float = Model::open(&path, &OpenOptions::default()).unwrap();
    let nothing = Calibration::new(&float, 1, 0).unwrap();
    let range = ActivationRange::Fixed {
        min: -6.0,
        max: 6.0,
    };
    let plan = LayerPlan::new(8).with(Quantizer::symmetric(range), Noise::None);
    let quantized = || {
        float
            .quantize(&|_| plan.clone(), &nothing, &|_| ())
            .unwrap()
    };
    let with = |attention| quantized().0.with_attention(attention).ok();
    let attentions = [Attention::F32, Attention::Int8];
    let mut models: Vec<Model> = attentions.into_iter().filter_map(with).collect();
    models.push(float);
    models
}

fn features(model: &Model, images: &[f32], workspace: &mut Workspace<'_>) -> Vec<u32> {
    let count = images.len() / model.config().pixels();
    let mut features = vec![f32::NAN; count * model.config().features()];
    let mut output = Output::features(&mut features);
    model.forward(images, &mut output, workspace).unwrap();
    features.iter().map(|number| number.to_bits()).collect()
}

#[test]
fn memory_of_the_host_serves_as_its_own_does() {
    for name in MODELS {
        let models = models(name);
        assert_eq!(models.len(), if name == "hf-swin" { 2 } else { 3 });
        let pixel = |at: usize| (at as f32 * 0.737).sin();
        let images: Vec<f32> = (0..3 * models[0].config().pixels()).map(pixel).collect();
        let all: Vec<&Model> = models.iter().collect();
        for threads in [1, 3] {
            let bytes = Workspace::bytes_for(&all, 3, threads);
            // NaN in every buffer.
            let mut arena = vec![0xffu8; bytes + Workspace::ALIGN];
            let start = arena.as_ptr().align_offset(Workspace::ALIGN);
            let memory = &mut arena[start..][..bytes];
            let mut host = Workspace::from_slice(&all, 3, threads, memory).unwrap();
            let mut own = Workspace::shared(&all, 3, threads);
            for model in &models {
                let expected = features(model, &images, &mut own);
                assert_eq!(features(model, &images, &mut host), expected, "{name}");
            }
        }
    }
}

#[test]
fn memory_that_is_too_short_or_begins_elsewhere_is_refused() {
    let models = models("hf-vit");
    let model = &models[0];
    let bytes = Workspace::bytes_for(&[model], 1, 1);
    let mut arena = vec![0u8; bytes + 2 * Workspace::ALIGN];
    let start = arena.as_ptr().align_offset(Workspace::ALIGN);
    let mut refused = |start: usize, bytes: usize| {
        let memory = &mut arena[start..][..bytes];
        let workspace = Workspace::from_slice(&[model], 1, 1, memory);
        workspace.map(|_| ()).unwrap_err().to_string()
    };
    let short = refused(start, bytes - 1);
    let expected = format!("at least {bytes}, got {}", bytes - 1);
    assert!(short.contains(&expected), "{short}");
    let past = refused(start + 1, bytes);
    assert!(past.contains("expected 0, got 1"), "{past}");
}
