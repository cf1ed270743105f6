//! A pass computes only the tokens that are needed after the last attention; an observed one computes all,
//! and gives the same bits.

mod common;

use std::path::Path;

use common::reconfigured;
use noisyquant::{ActivationRange, Noise, Quantizer};
use noisyquant_vit::{
    Architecture, Attention, Calibration, Head, LayerPlan, Model, OpenOptions, Output, Overrides,
    Workspace,
};

/// Each kind of head: a checkpoint of `vit/golden`, and its head if not the checkpoint's own.
const HEADS: [(Head, &str, Option<&str>); 5] = [
    (Head::ClassToken, "hf-vit", None),
    (Head::ClassAndDistillation, "hf-deit-distilled", None),
    (Head::ClassAndPatchMean, "hf-dinov2-registers-head", None),
    (Head::PatchMean, "hf-vit", Some("patch_mean")),
    (Head::NormedPatchMean, "hf-vit", Some("normed_patch_mean")),
];

/// The float model, and quantized ones with either attention.
fn models(head: Head, name: &str, other: Option<&str>) -> Vec<Model> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let options = OpenOptions {
        overrides: Overrides {
            image_size: Some(112),
            ..Overrides::default()
        },
        ..OpenOptions::default()
    };
    let mut float = Model::open(&path.join(name), &options).unwrap();
    if let Some(other) = other {
        let stored = |head: &str| format!(r#""head":"{head}""#);
        float = reconfigured(&float, &stored("class_token"), &stored(other));
    }
    let Architecture::Vit(vit) = &float.config().architecture else {
        panic!("{name} is no ViT");
    };
    assert_eq!(vit.head, head);
    let nothing = Calibration::new(&float, 1, 0).unwrap();
    let range = ActivationRange::Fixed {
        min: -6.0,
        max: 6.0,
    };
    let plan = LayerPlan::new(8).with(Quantizer::symmetric(range), Noise::None);
    let quantized = |attention| {
        let model = float.quantize(&|_| plan.clone(), &nothing, &|_| ());
        model.unwrap().0.with_attention(attention).unwrap()
    };
    let [f32, int8] = [Attention::F32, Attention::Int8].map(quantized);
    vec![float, f32, int8]
}

/// Features and logits to be written.
struct Outputs {
    features: Vec<f32>,
    logits: Vec<f32>,
}

impl Outputs {
    fn new(model: &Model, count: usize) -> Self {
        let config = model.config();
        Self {
            features: vec![f32::NAN; count * config.features()],
            logits: vec![f32::NAN; count * config.classes],
        }
    }

    fn bits(&self) -> [Vec<u32>; 2] {
        [&self.features, &self.logits].map(|numbers| numbers.iter().map(|x| x.to_bits()).collect())
    }
}

/// Of an observed pass, which has to show all rows of all tokens.
fn observed(model: &Model, images: &[f32], workspace: &mut Workspace<'_>) -> [Vec<u32>; 2] {
    let count = images.len() / model.config().pixels();
    let mut outputs = Outputs::new(model, count);
    let output = &mut Output {
        features: &mut outputs.features,
        logits: &mut outputs.logits,
    };
    let mut rows = Vec::new();
    let mut see = |seen: noisyquant_vit::Observed<'_>| {
        let layer = &model.layers()[seen.layer];
        if layer.name.starts_with("blocks.") {
            rows.push(seen.input.len() / layer.linear.in_features());
        }
    };
    let done = model.forward_observed(images, output, workspace, &mut see);
    done.unwrap();
    assert!(rows[0] > 8 * count);
    assert!(rows.iter().all(|row| *row == rows[0]), "{rows:?}");
    outputs.bits()
}

#[test]
fn what_is_not_needed_changes_no_bit() {
    for (head, name, other) in HEADS {
        for (at, model) in models(head, name, other).iter().enumerate() {
            let pixel = |at: usize| (at as f32 * 0.737).sin();
            let images: Vec<f32> = (0..3 * model.config().pixels()).map(pixel).collect();
            for (count, threads) in [(1, 1), (1, 2), (3, 1), (3, 2)] {
                let images = &images[..count * model.config().pixels()];
                let what = format!("{head:?}, model {at}, {count} images on {threads} threads");
                let check = || {
                    let workspace = &mut Workspace::shared(&[model], count, threads);
                    let expected = observed(model, images, workspace);

                    let mut both = Outputs::new(model, count);
                    let output = &mut Output {
                        features: &mut both.features,
                        logits: &mut both.logits,
                    };
                    model.forward(images, output, workspace).unwrap();
                    assert_eq!(both.bits(), expected, "{what}");

                    let mut alone = Outputs::new(model, count);
                    let output = &mut Output::features(&mut alone.features);
                    model.forward(images, output, workspace).unwrap();
                    let output = &mut Output::logits(&mut alone.logits);
                    model.forward(images, output, workspace).unwrap();
                    assert_eq!(alone.bits(), expected, "{what}, one after the other");
                };
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                pool.unwrap().install(check);
            }
        }
    }
}
