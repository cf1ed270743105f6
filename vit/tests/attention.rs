//! Attention in integers, as a choice of a model.

mod common;

use std::{collections::BTreeMap, path::Path};

use common::{File, Stored};
use noisyquant::{ActivationRange, Noise, Quantizer};
use noisyquant_vit::{
    Attention, Calibration, Choice, LayerPlan, Linear, Model, OpenOptions, Output, Workspace,
};
use safetensors::Dtype;

const WIDTH: usize = 64;

/// A ViT of one block and one head, for square images of this side and patches of 4 × 4: numbers that look
/// random.
fn vit(side: usize) -> Model {
    vit_of(side, WIDTH, 1)
}

/// The same with heads of `width / heads` features.
fn vit_of(side: usize, width: usize, heads: usize) -> Model {
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
    tensor("cls_token", &[1, 1, width], 1.0, 0.0);
    tensor("pos_embed", &[1, tokens, width], 1.0, 0.0);
    tensor("patch_embed.proj.weight", &[width, 3, 4, 4], 0.3, 0.0);
    tensor("patch_embed.proj.bias", &[width], 0.1, 0.0);
    for (layer, outputs) in [
        ("attn.qkv", 3 * width),
        ("attn.proj", width),
        ("mlp.fc1", width),
        ("mlp.fc2", width),
    ] {
        tensor(
            &format!("blocks.0.{layer}.weight"),
            &[outputs, width],
            0.2,
            0.0,
        );
        tensor(&format!("blocks.0.{layer}.bias"), &[outputs], 0.1, 0.0);
    }
    for norm in ["blocks.0.norm1", "blocks.0.norm2", "norm"] {
        tensor(&format!("{norm}.weight"), &[width], 0.1, 1.0);
        tensor(&format!("{norm}.bias"), &[width], 0.1, 0.0);
    }
    let metadata = [("heads".into(), heads.to_string())].into();
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
    quantized_by(float, &|_| plan.clone())
}

/// With each layer by a plan of its own.
fn quantized_by(float: &Model, plan: &dyn Fn(&str) -> LayerPlan) -> Model {
    let mut calibration = Calibration::new(float, 100, 0).unwrap();
    let mut workspace = Workspace::new(float, 1);
    let images = image(float);
    calibration.observe(float, &images, &mut workspace).unwrap();
    let quantized = float.quantize(plan, &calibration, &|_| ());
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

/// Attention hands codes to a projection that takes them, and numbers where the pass is observed.
#[test]
fn codes_for_the_projection_give_the_bits_of_numbers() {
    // Heads of whole lines of codes, on which threads divide heads or queries, and of less than a line.
    let sizes = [(128, 2), (192, 1), (96, 3)];
    let mut takes = Vec::new();
    for ((width, heads), twin) in sizes.into_iter().flat_map(|size| {
        let twins = [None, Some((8, -6.0)), Some((6, -2.0)), Some((8, -0.1))];
        twins.map(|twin| (size, twin))
    }) {
        let float = vit_of(32, width, heads);
        let plan = |name: &str| match twin {
            Some((bits, min)) if name.ends_with("attn.proj") => {
                let range = ActivationRange::Fixed { min, max: 6.0 };
                LayerPlan::new(bits).with(Quantizer::twin(range), Noise::None)
            }
            _ => LayerPlan::new(8),
        };
        let model = quantized_by(&float, &plan);
        let model = model.with_attention(Attention::Int8).unwrap();
        let projection = model
            .layers()
            .iter()
            .find(|layer| layer.name.ends_with("attn.proj"));
        let Linear::Quantized(linear) = &projection.unwrap().linear else {
            panic!("a layer in f32");
        };
        takes.push((twin.is_some(), linear.codes(1).is_ok()));
        let pixels = (0..3 * model.config().pixels()).map(|at| (at as f32 * 0.37).sin());
        let images: Vec<f32> = pixels.collect();
        for threads in 1..=4 {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.unwrap().install(|| {
                let mut workspace = Workspace::new(&model, 3);
                let mut got = vec![f32::NAN; 3 * width];
                let mut expected = got.clone();
                let output = &mut Output::features(&mut expected);
                let mut seen = |_: noisyquant_vit::Observed<'_>| ();
                let done = model.forward_observed(&images, output, &mut workspace, &mut seen);
                done.unwrap();
                let output = &mut Output::features(&mut got);
                model.forward(&images, output, &mut workspace).unwrap();
                assert_eq!(got, expected, "{width} {heads} {twin:?} {threads}");
            });
        }
    }
    // A plain quantizer, and twin ones whose codes fit a byte and do not.
    for kind in [(false, true), (true, true), (true, false)] {
        assert!(takes.contains(&kind), "{kind:?} {takes:?}");
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
