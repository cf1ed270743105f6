//! How each layer is to be quantized: flags for all, a TOML file for some.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use globset::{Glob, GlobMatcher};
use noisyquant::{
    ActivationRange, ChannelScale, Objective, Quantizer, Recipe, Shift, WeightQuantizer,
};
use serde::Deserialize;

use super::failure::Failure;
use crate::quantize::{Choice, LayerPlan};

#[derive(Args, Debug)]
pub(super) struct PlanFlags {
    /// Bits of the weights, 2 to 8
    #[arg(long, value_name = "BITS", default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u32).range(2..=8))]
    weight_bits: u32,
    /// Bits of the activations, 2 to 8
    #[arg(long, value_name = "BITS", default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u32).range(2..=8))]
    activation_bits: u32,
    /// How the range of the activations is found; minmax unless --bias is auto, which finds its own
    #[arg(long, value_enum)]
    quantizer: Option<QuantizerFlag>,
    /// What is added to the activations before they are rounded
    #[arg(long, value_enum, default_value_t = BiasFlag::Auto)]
    bias: BiasFlag,
    /// Where noise and the choice of calibration rows come from
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(super) seed: u64,
    /// A TOML file with other settings for some layers, see below
    #[arg(long, value_name = "FILE")]
    pub(super) layers: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
enum QuantizerFlag {
    /// From the least to the largest value
    Minmax,
    /// Up to the 99.9th percentile of the magnitudes
    Percentile,
    /// The clipped range with the least squared error of the layer's output; weights clipped too
    Mse,
    /// EasyQuant: ranges of activations and weights searched for the best cosine similarity
    Easyquant,
    /// PTQ4ViT: fine steps on the negative side, coarse steps on the positive side
    Twin,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
enum BiasFlag {
    /// Nothing
    None,
    /// NoisyQuant: random noise of the best range
    Noise,
    /// What centres each channel
    Shift,
    /// The same, and a scale for each channel
    #[value(name = "shift+scale")]
    #[serde(rename = "shift+scale")]
    ShiftScale,
    /// What does best on calibration rows that it was not fitted to, for each layer
    Auto,
}

/// Settings of a layer.
#[derive(Clone, Copy, Debug)]
struct Settings {
    weight_bits: u32,
    activation_bits: u32,
    quantizer: Option<QuantizerFlag>,
    bias: BiasFlag,
    seed: u64,
    float: bool,
}

/// The TOML file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OverrideFile {
    #[serde(default)]
    layer: Vec<LayerOverride>,
}

/// Settings that replace others for the layers whose name matches.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct LayerOverride {
    name: String,
    weight_bits: Option<u32>,
    activation_bits: Option<u32>,
    quantizer: Option<QuantizerFlag>,
    bias: Option<BiasFlag>,
    seed: Option<u64>,
    /// Keep the layer in f32.
    float: Option<bool>,
}

/// Ends the program as clap does if flags contradict each other.
pub(super) fn check_flags(flags: &PlanFlags) {
    if flags.bias == BiasFlag::Auto && flags.quantizer.is_some() {
        let message = "--quantizer has no meaning beside --bias auto, which finds its own: give --bias \
                       none, noise, shift or shift+scale";
        let kind = clap::error::ErrorKind::ArgumentConflict;
        clap::Error::raw(kind, format!("{message}\n")).exit();
    }
}

/// The plan of each of `layers`, in their order.
pub(super) fn plans(flags: &PlanFlags, layers: &[&str]) -> Result<Vec<LayerPlan>, Failure> {
    let all = Settings {
        weight_bits: flags.weight_bits,
        activation_bits: flags.activation_bits,
        quantizer: flags.quantizer,
        bias: flags.bias,
        seed: flags.seed,
        float: false,
    };
    let mut settings = vec![all; layers.len()];
    if let Some(path) = &flags.layers {
        for (layer, glob) in read(path)? {
            let mut matches = 0;
            for (name, settings) in layers.iter().zip(&mut settings) {
                if glob.is_match(name) {
                    layer.apply(settings);
                    matches += 1;
                }
            }
            if matches == 0 {
                return Err(wrong(
                    path,
                    "names or patterns of layers",
                    &format!("`{}`, which is none", layer.name),
                ));
            }
        }
    }
    let named = layers.iter().zip(&settings);
    named.map(|(name, settings)| settings.plan(name)).collect()
}

fn wrong(path: &Path, expected: &str, got: &str) -> Failure {
    format!("{}: expected {expected}, got {got}", path.display()).into()
}

/// The overrides in the file, in their order, with a matcher each.
fn read(path: &Path) -> Result<Vec<(LayerOverride, GlobMatcher)>, Failure> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| wrong(path, "a TOML file", &error.to_string()))?;
    let file: Result<OverrideFile, _> = toml::from_str(&text);
    let file = file.map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let line = 1 + text[..start].matches('\n').count();
        wrong(
            path,
            "[[layer]] tables",
            &format!("in line {line}: {}", error.message()),
        )
    })?;
    let matcher = |layer: LayerOverride| {
        let glob = Glob::new(&layer.name);
        let glob = glob.map_err(|error| wrong(path, "a name or pattern", &error.to_string()))?;
        for bits in [layer.weight_bits, layer.activation_bits]
            .into_iter()
            .flatten()
        {
            if !(2..=8).contains(&bits) {
                return Err(wrong(path, "2 to 8 bits", &bits.to_string()));
            }
        }
        Ok((layer, glob.compile_matcher()))
    };
    file.layer.into_iter().map(matcher).collect()
}

impl LayerOverride {
    fn apply(&self, settings: &mut Settings) {
        *settings = Settings {
            weight_bits: self.weight_bits.unwrap_or(settings.weight_bits),
            activation_bits: self.activation_bits.unwrap_or(settings.activation_bits),
            // One asked for of all layers has no meaning where this one is to find its own.
            quantizer: match self.bias {
                Some(BiasFlag::Auto) => self.quantizer,
                _ => self.quantizer.or(settings.quantizer),
            },
            bias: self.bias.unwrap_or(settings.bias),
            seed: self.seed.unwrap_or(settings.seed),
            float: self.float.unwrap_or(settings.float),
        };
    }
}

impl Settings {
    fn plan(&self, layer: &str) -> Result<LayerPlan, Failure> {
        let choice = match (self.float, self.bias, self.quantizer) {
            (true, ..) => Choice::Float,
            (_, BiasFlag::Auto, None) => Choice::Auto { seed: self.seed },
            (_, BiasFlag::Auto, Some(_)) => {
                let message = "expected a bias of none, noise, shift or shift+scale beside a quantizer, \
                    got auto";
                return Err(format!("layer `{layer}`: {message}").into());
            }
            (_, bias, quantizer) => {
                let quantizer = quantizer.unwrap_or(QuantizerFlag::Minmax);
                Choice::Recipe(recipe(quantizer, bias, self.seed))
            }
        };
        let plan = LayerPlan::new(self.weight_bits).with_choice(choice);
        Ok(LayerPlan {
            activation_bits: self.activation_bits,
            ..plan
        })
    }
}

fn recipe(quantizer: QuantizerFlag, bias: BiasFlag, seed: u64) -> Recipe {
    let (range, weights, objective) = match quantizer {
        QuantizerFlag::Minmax => (
            ActivationRange::MinMax,
            WeightQuantizer::MIN_MAX,
            Objective::OutputMse,
        ),
        QuantizerFlag::Percentile => (
            ActivationRange::Percentile(99.9),
            WeightQuantizer::MIN_MAX,
            Objective::OutputMse,
        ),
        QuantizerFlag::Mse | QuantizerFlag::Twin => (
            ActivationRange::Searched,
            WeightQuantizer::MSE,
            Objective::OutputMse,
        ),
        QuantizerFlag::Easyquant => (
            ActivationRange::Searched,
            WeightQuantizer::SEARCHED,
            Objective::Cosine,
        ),
    };
    let shifted = matches!(bias, BiasFlag::Shift | BiasFlag::ShiftScale);
    let plain = Recipe {
        quantizer: match quantizer {
            QuantizerFlag::Twin => Quantizer::twin(range),
            _ if shifted => Quantizer::centered(range),
            _ => Quantizer::symmetric(range),
        },
        weights,
        objective,
        ..Recipe::default()
    };
    match bias {
        BiasFlag::Noise => plain.with_noise(seed),
        BiasFlag::Shift => Recipe {
            shift: Shift::MidRange,
            ..plain
        },
        BiasFlag::ShiftScale => Recipe {
            shift: Shift::MidRange,
            channel_scale: ChannelScale::Searched,
            ..plain
        },
        BiasFlag::None | BiasFlag::Auto => plain,
    }
}
