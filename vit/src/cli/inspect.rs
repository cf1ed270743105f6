//! `noisyquant inspect`: what is in a file.

use std::{fmt, path::PathBuf};

use clap::Args;
use serde::Serialize;

use super::{failure::Failure, model, overrides::OverrideFlags, print, warner::Warner};
use crate::{
    config::Config,
    measure::table::Table,
    model::{Attention, Layer, LayerReport, Model},
    ops::Linear,
    quantize::words,
    warning::Warnings,
};

/// Architecture, layers and sizes of a checkpoint or quantized model
#[derive(Args)]
#[command(after_help = "\
Examples:
  noisyquant inspect model.safetensors
  noisyquant inspect checkpoint-folder/ --json")]
pub(super) struct Arguments {
    /// A safetensors file, an index of shards, or a folder with one of these
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    overrides: OverrideFlags,
}

#[derive(Serialize)]
struct Inspection<'a> {
    file: String,
    quantized: bool,
    features: usize,
    attention: Attention,
    config: &'a Config,
    /// Weights and biases of the linear layers.
    parameters: usize,
    /// What they take in memory: a byte for a quantized weight, four for any other number.
    bytes: usize,
    layers: Vec<LayerFacts>,
    #[serde(skip)]
    warnings: &'a Warnings,
}

#[derive(Serialize)]
struct LayerFacts {
    name: String,
    inputs: usize,
    outputs: usize,
    /// Such as `W8A6`, or `f32`.
    bits: String,
    bytes: usize,
    /// What was chosen, in words.
    choice: Option<String>,
    report: Option<LayerReport>,
}

pub(super) fn run(arguments: &Arguments, warner: &mut Warner) -> Result<(), Failure> {
    let model = model::open(&arguments.file, &arguments.overrides.options(), warner)?;
    let layers: Vec<LayerFacts> = model
        .layers()
        .iter()
        .map(|layer| facts(layer, &model))
        .collect();
    let parameters = |layer: &LayerFacts| (layer.inputs + 1) * layer.outputs;
    let inspection = Inspection {
        file: arguments.file.display().to_string(),
        quantized: model.is_quantized(),
        features: model.config().features(),
        attention: model.attention(),
        config: model.config(),
        parameters: layers.iter().map(parameters).sum(),
        bytes: layers.iter().map(|layer| layer.bytes).sum(),
        layers,
        warnings: model.warnings(),
    };
    print::result(arguments.json, &inspection, &inspection, warner.told())
}

fn facts(layer: &Layer, model: &Model) -> LayerFacts {
    let (inputs, outputs) = (layer.linear.in_features(), layer.linear.out_features());
    let report = model
        .reports()
        .iter()
        .find(|report| report.name == layer.name);
    let (bits, weight_bytes) = match &layer.linear {
        Linear::Float(_) => ("f32".into(), 4),
        Linear::Quantized(linear) => (
            format!("W{}A{}", linear.weight_bits(), linear.activation_bits()),
            1,
        ),
    };
    LayerFacts {
        name: layer.name.clone(),
        inputs,
        outputs,
        bits,
        bytes: outputs * (inputs * weight_bytes + 4),
        choice: report.map(words::choice),
        report: report.cloned(),
    }
}

impl fmt::Display for Inspection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { config, .. } = self;
        let preprocess = &config.preprocess;
        let kind = if self.quantized { "quantized" } else { "float" };
        let classes = match config.classes {
            0 => "no head".into(),
            classes => format!("{classes} classes"),
        };
        let sides = if preprocess.keep_aspect {
            "shorter side"
        } else {
            "both sides"
        };
        writeln!(f, "{}: {kind}", self.file)?;
        writeln!(f, "{config}, {} features, {classes}", self.features)?;
        writeln!(
            f,
            "images: {sides} resized to {} ({:?}), centre of {} cut out, mean {:?}, std {:?}",
            preprocess.resize,
            preprocess.interpolation,
            preprocess.crop,
            preprocess.mean,
            preprocess.std
        )?;
        writeln!(
            f,
            "{} linear layers with {:.1} million numbers in {:.1} MB; attention in {}",
            self.layers.len(),
            self.parameters as f64 / 1e6,
            self.bytes as f64 / 1e6,
            self.attention
        )?;
        for warning in self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        writeln!(f)?;
        let mut table = Table::new(&[["layer", "inputs", "outputs", "bits", "choice"]]);
        for layer in &self.layers {
            table.push(vec![
                layer.name.clone(),
                layer.inputs.to_string(),
                layer.outputs.to_string(),
                layer.bits.clone(),
                layer.choice.clone().unwrap_or_default(),
            ]);
        }
        write!(f, "{table}")
    }
}
