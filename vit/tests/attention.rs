//! Attention in integers, as a choice of a model.

mod common;

use std::{collections::BTreeMap, path::Path};

use common::{File, Stored};
use noisyquant_vit::{
    Attention, Calibration, Choice, LayerPlan, Model, OpenOptions, Output, Workspace,
};
use safetensors::Dtype;

const WIDTH: usize = 64;

/// A ViT of one block and one head, for square images of this side and patches of 4 × 4: numbers that look
/// random.
fn vit(side: usize) -> Model {
    let tokens = 1 + (side / 4).pow(2);
    let mut tensors = BTreeMap::new();
    let mut tensor = |name: &str, shape: &[usize], size: f32, offset: f32| {
        let count = shape.iter().product();
        let seed = (name.len() * 7919) as f32;
        let number = |at: usize| offset + size * ((at as f32 + seed) * 12.9898).sin();
        let numbers = (0..count).map(number);
        let stored = Stored {
            dtype: Dtype::F32,
            shape: shape.to_vec(),
            data: numbers.flat_map(f32::to_le_bytes).collect(),
        };
        tensors.insert(name.into(), stored);
    };
    tensor("cls_token", &[1, 1, WIDTH], 1.0, 0.0);
    tensor("pos_embed", &[1, tokens, WIDTH], 1.0, 0.0);
    tensor("patch_embed.proj.weight", &[WIDTH, 3, 4, 4], 0.3, 0.0);
    tensor("patch_embed.proj.bias", &[WIDTH], 0.1, 0.0);
    for (layer, outputs) in [
        ("attn.qkv", 3 * WIDTH),
        ("attn.proj", WIDTH),
        ("mlp.fc1", WIDTH),
        ("mlp.fc2", WIDTH),
    ] {
        tensor(
            &format!("blocks.0.{layer}.weight"),
            &[outputs, WIDTH],
            0.2,
            0.0,
        );
        tensor(&format!("blocks.0.{layer}.bias"), &[outputs], 0.1, 0.0);
    }
    for norm in ["blocks.0.norm1", "blocks.0.norm2", "norm"] {
        tensor(&format!("{norm}.weight"), &[WIDTH], 0.1, 1.0);
        tensor(&format!("{norm}.bias"), &[WIDTH], 0.1, 0.0);
    }
    let metadata = [("heads".into(), "1".into())].into();
    Model::from_safetensors(&File { tensors, metadata }.bytes()).unwrap()
}

fn image(model: &Model) -> Vec<f32> {
    let pixel = |at: usize| (at as f32 * 0.737).sin();
    (0..model.config().pixels()).map(pixel).collect()
}

fn features(model: &Model) -> Vec<f32> {
    let mut features = vec![0.0; model.config().features()];
    let mut workspace = Workspace::new(model, 1);
    let output = &mut Output::features(&mut features);
    model
        .forward(&image(model), output, &mut workspace)
        .unwrap();
    features
}

/// With all layers by this plan.
fn quantized(float: &Model, plan: &LayerPlan) -> Model {
    let mut calibration = Calibration::new(float, 100, 0).unwrap();
    let mut workspace = Workspace::new(float, 1);
    let images = image(float);
    calibration.observe(float, &images, &mut workspace).unwrap();
    let quantized = float.quantize(&|_| plan.clone(), &calibration, &|_| ());
    quantized.unwrap().0
}

#[test]
fn integers_are_chosen_where_they_are_faster() {
    // 65 and 50 tokens.
    for (side, expected) in [(32, Attention::Int8), (28, Attention::F32)] {
        let float = vit(side);
        assert_eq!(float.attention(), Attention::F32);
        assert_eq!(quantized(&float, &LayerPlan::new(8)).attention(), expected);
        // What was asked for stays.
        let int8 = vit(side).with_attention(Attention::Int8).unwrap();
        let int8 = quantized(&int8, &LayerPlan::new(8));
        assert_eq!(int8.attention(), Attention::Int8);
        let nothing = LayerPlan::new(8).with_choice(Choice::Float);
        let same = quantized(&float, &nothing);
        assert_eq!(same.attention(), Attention::F32, "no layer is quantized");
    }
}

#[test]
fn features_are_close_to_those_of_f32() {
    let float = vit(32);
    let expected = features(&float);
    let int8 = vit(32).with_attention(Attention::Int8).unwrap();
    assert!(int8.is_quantized() && !float.is_quantized());
    let got = features(&int8);
    assert_ne!(got, expected, "nothing was quantized");
    let size = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
    for (got, expected) in got.iter().zip(&expected) {
        assert!((got - expected).abs() < 0.02 * size, "{got} {expected}");
    }
}

#[test]
fn files_keep_the_choice() {
    for attention in [Attention::F32, Attention::Int8] {
        let model = quantized(&vit(32), &LayerPlan::new(8));
        let model = model.with_attention(attention).unwrap();
        let bytes = model.to_bytes().unwrap();
        let again = Model::from_safetensors(&bytes).unwrap();
        assert_eq!(again.attention(), attention);
        assert_eq!(features(&again), features(&model), "{attention}");

        // The first version of files had no choice.
        let mut file = File::parse(&bytes);
        let entry = file.metadata.get_mut("noisyquant_vit").unwrap();
        let stored = format!(r#""attention":"{attention}","#);
        assert!(entry.contains(&stored), "{entry}");
        *entry = entry.replace(&stored, "");
        let error = Model::from_safetensors(&file.bytes()).err().unwrap();
        assert!(error.to_string().contains("expected attention"), "{error}");
        let entry = file.metadata.get_mut("noisyquant_vit").unwrap();
        *entry = entry.replace(r#""version":3"#, r#""version":1"#);
        let first = Model::from_safetensors(&file.bytes()).unwrap();
        assert_eq!(first.attention(), Attention::F32);
    }
}

#[test]
fn windows_stay_in_f32() {
    let swin = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/hf-swin");
    let swin = Model::open(&swin, &OpenOptions::default()).unwrap();
    let swin = swin.with_attention(Attention::F32).unwrap();
    let refused = swin.with_attention(Attention::Int8).err().unwrap();
    assert_eq!(
        refused.to_string(),
        "attention: expected f32, or int8 for a ViT of at most 65536 tokens, got int8 for a Swin"
    );
}
