//! Features of whole quantized models, bit for bit as an x86-64 CPU with AVX-512 computed them once:
//! integer layers, attention, LayerNorm, softmax and GELU give the same on every CPU.
//!
//! The layers get a fixed range: a calibrated one depends on the f32 products of the float model, which a
//! gemm library computes in another order on another CPU. A change of numerics shows here. If it is
//! meant,
//!
//!     NOISYQUANT_WRITE_GOLDEN=1 cargo test -p noisyquant-vit --test same_bits
//!
//! writes `same_bits.txt` anew.

use std::{fmt::Write as _, fs, path::Path};

use noisyquant::{ActivationRange, Noise, Quantizer};
use noisyquant_vit::{Attention, Calibration, LayerPlan, Model, OpenOptions, Output, Workspace};
use safetensors::SafeTensors;

const GOLDEN: &str = include_str!("same_bits.txt");

/// Checkpoints of `vit/golden`: with a head, with two class tokens, with registers and LayerScale, with
/// windows.
const MODELS: [&str; 4] = [
    "hf-vit",
    "hf-deit-distilled",
    "hf-dinov2-registers",
    "hf-swin",
];

/// A line for each model and number of bits: the features of its first image.
fn computed() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let mut text = String::new();
    for name in MODELS {
        let float = Model::open(&folder.join(name), &OpenOptions::default()).unwrap();
        let nothing = Calibration::new(&float, 1, 0).unwrap();
        let bytes = fs::read(folder.join(name).join("golden.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let (numbers, _) = file.tensor("images").unwrap().data().as_chunks();
        let numbers = numbers.iter().take(float.config().pixels());
        let image: Vec<f32> = numbers.map(|bytes| f32::from_le_bytes(*bytes)).collect();
        for bits in [8, 6] {
            let range = ActivationRange::Fixed {
                min: -6.0,
                max: 6.0,
            };
            let noise = Noise::Uniform {
                range: 0.05,
                seed: bits.into(),
            };
            let plan = LayerPlan::new(bits).with(Quantizer::symmetric(range), noise);
            for attention in [Attention::F32, Attention::Int8] {
                let quantized = float.quantize(&|_| plan.clone(), &nothing, &|_| ());
                let (model, _) = quantized.unwrap();
                let Ok(model) = model.with_attention(attention) else {
                    assert_eq!(name, "hf-swin", "only windows cannot");
                    continue;
                };
                let mut features = vec![0.0; model.config().features()];
                let mut workspace = Workspace::new(&model, 1);
                model
                    .forward(&image, &mut Output::features(&mut features), &mut workspace)
                    .unwrap();
                write!(text, "{name} W{bits}A{bits}, attention {attention}:").unwrap();
                for value in features {
                    write!(text, " {:08x}", value.to_bits()).unwrap();
                }
                text.push('\n');
            }
        }
    }
    text
}

#[test]
fn quantized_models_give_the_same_bits_on_every_cpu() {
    let computed = computed();
    if std::env::var_os("NOISYQUANT_WRITE_GOLDEN").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/same_bits.txt");
        fs::write(path, &computed).unwrap();
        return;
    }
    assert_eq!(computed.lines().count(), GOLDEN.lines().count());
    for (got, expected) in computed.lines().zip(GOLDEN.lines()) {
        assert_eq!(got, expected);
    }
}
