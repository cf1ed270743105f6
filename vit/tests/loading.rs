//! A quantized model out of a file takes little more memory than it keeps. One test in this binary: the
//! counter is global.

mod common;
#[path = "../../tests/peak/mod.rs"]
mod peak;

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
};

use common::{File, Stored};
use noisyquant::{ActivationRange, Noise, Quantizer};
use noisyquant_vit::{Calibration, LayerPlan, Linear, Model, OpenOptions};
use safetensors::Dtype;

const WIDTH: usize = 192;
const BLOCKS: usize = 12;

/// A ViT of timm's names, whose numbers are made up.
fn checkpoint() -> Vec<u8> {
    let mut shapes = vec![
        ("cls_token".into(), vec![1, 1, WIDTH]),
        ("pos_embed".into(), vec![1, 5, WIDTH]),
        ("patch_embed.proj.weight".into(), vec![WIDTH, 3, 8, 8]),
        ("patch_embed.proj.bias".into(), vec![WIDTH]),
        ("norm.weight".into(), vec![WIDTH]),
        ("norm.bias".into(), vec![WIDTH]),
    ];
    for block in 0..BLOCKS {
        let mut layer = |name: &str, shape: &[usize]| {
            let name = format!("blocks.{block}.{name}");
            shapes.push((format!("{name}.weight"), shape.to_vec()));
            shapes.push((format!("{name}.bias"), vec![shape[0]]));
        };
        layer("norm1", &[WIDTH]);
        layer("attn.qkv", &[3 * WIDTH, WIDTH]);
        layer("attn.proj", &[WIDTH, WIDTH]);
        layer("norm2", &[WIDTH]);
        layer("mlp.fc1", &[4 * WIDTH, WIDTH]);
        layer("mlp.fc2", &[WIDTH, 4 * WIDTH]);
    }
    let tensor = |shape: Vec<usize>| {
        let number = |at: usize| (at % 251) as f32 / 250.0 - 0.5;
        let numbers = (0..shape.iter().product()).map(number);
        Stored {
            dtype: Dtype::F32,
            data: numbers.flat_map(f32::to_le_bytes).collect(),
            shape,
        }
    };
    let tensors = shapes
        .into_iter()
        .map(|(name, shape)| (name, tensor(shape)));
    let tensors: BTreeMap<_, _> = tensors.collect();
    let metadata = HashMap::from([("noisyquant.heads".into(), "3".into())]);
    File { tensors, metadata }.bytes()
}

/// Layers of 8, 6 and 4 bits.
fn write_quantized(path: &Path) {
    let float = Model::from_safetensors(&checkpoint()).unwrap();
    let nothing = Calibration::new(&float, 1, 0).unwrap();
    let (min, max) = (-6.0, 6.0);
    let range = Quantizer::symmetric(ActivationRange::Fixed { min, max });
    let plan = |name: &str| {
        let bits = match name {
            name if name.ends_with("fc1") => 6,
            name if name.ends_with("fc2") => 4,
            _ => 8,
        };
        LayerPlan::new(bits).with(range, Noise::None)
    };
    let (quantized, _) = float.quantize(&plan, &nothing, &|_| ()).unwrap();
    fs::write(path, quantized.to_bytes().unwrap()).unwrap();
}

#[test]
fn a_model_is_opened_in_half_as_much_again_as_its_packed_weights() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mixed.safetensors");
    write_quantized(&path);
    for threads in [1, 8] {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let open = || Model::open(&path, &OpenOptions::default()).unwrap();
        let (model, most) = pool.install(|| peak::of(open));
        let packed = model.packed_bytes();
        let of_layer = |linear: &Linear| match linear {
            Linear::Quantized(linear) => linear.packed_bytes(),
            _ => panic!("an integer layer"),
        };
        let layers = model.layers().iter().map(|layer| of_layer(&layer.linear));
        assert_eq!(packed, layers.sum::<usize>());
        println!("{threads} threads: {packed} packed, {most} at most");
        assert!(
            most > packed && most <= packed + packed / 2,
            "{most} for {packed}"
        );
    }
}
