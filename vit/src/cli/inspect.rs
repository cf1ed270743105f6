//! `noisyquant inspect`: what is in a file.

use std::{
    fmt,
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args;
use serde::Serialize;

use super::{failure::Failure, memory, model, overrides::OverrideFlags, print, warner::Warner};
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
  noisyquant inspect int8.safetensors --timing
  noisyquant inspect checkpoint-folder/ --json")]
pub(super) struct Arguments {
    /// A safetensors file, an index of shards, or a folder with one of these
    file: PathBuf,
    /// Say how long it took to open the model, and what memory
    #[arg(long)]
    timing: bool,
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
    /// What they take in memory.
    bytes: usize,
    /// What the packed weights of quantized layers take of it.
    packed_bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    timing: Option<Timing>,
    layers: Vec<LayerFacts>,
    #[serde(skip)]
    warnings: &'a Warnings,
}

/// How the model was opened.
#[derive(Serialize)]
struct Timing {
    /// Milliseconds until it was there, but for those of packing.
    open_ms: f64,
    /// Milliseconds in which numbers of quantized layers became layers.
    pack_ms: f64,
    /// The most bytes of memory that the program had until then; none where the system does not say.
    peak_bytes: Option<u64>,
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
    let (started, mut packing) = (Instant::now(), Duration::default());
    let options = arguments.overrides.options();
    let model = model::open_timed(&arguments.file, &options, warner, &mut packing)?;
    let timing = Timing {
        open_ms: milliseconds(started.elapsed() - packing),
        pack_ms: milliseconds(packing),
        peak_bytes: memory::peak(),
    };
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
        packed_bytes: model.packed_bytes(),
        timing: arguments.timing.then_some(timing),
        layers,
        warnings: model.warnings(),
    };
    print::result(arguments.json, &inspection, &inspection, warner.told())
}

fn milliseconds(time: Duration) -> f64 {
    1e3 * time.as_secs_f64()
}

fn facts(layer: &Layer, model: &Model) -> LayerFacts {
    let (inputs, outputs) = (layer.linear.in_features(), layer.linear.out_features());
    let report = model
        .reports()
        .iter()
        .find(|report| report.name == layer.name);
    let (bits, bytes) = match &layer.linear {
        Linear::Float(_) => ("f32".into(), 4 * (inputs + 1) * outputs),
        Linear::Quantized(linear) => (
            format!("W{}A{}", linear.weight_bits(), linear.activation_bits()),
            linear.memory_bytes(),
        ),
    };
    LayerFacts {
        name: layer.name.clone(),
        inputs,
        outputs,
        bits,
        bytes,
        choice: report.map(words::choice),
        report: report.cloned(),
    }
}

impl fmt::Display for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            open_ms, pack_ms, ..
        } = self;
        write!(
            f,
            "opened in {open_ms:.1} ms, packed in {pack_ms:.1} ms; peak memory "
        )?;
        match self.peak_bytes {
            Some(bytes) => write!(f, "{:.1} MB", bytes as f64 / 1e6),
            None => f.write_str("unknown"),
        }
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
        let (sides, border) = match (preprocess.keep_aspect, preprocess.border) {
            (true, true) => ("longer side", " within a border of the mean"),
            (true, false) => ("shorter side", ""),
            (false, _) => ("both sides", ""),
        };
        writeln!(f, "{}: {kind}", self.file)?;
        writeln!(f, "{config}, {} features, {classes}", self.features)?;
        writeln!(
            f,
            "images: {sides} resized to {} ({:?}), centre of {} cut out{border}, mean {:?}, std {:?}",
            preprocess.resize,
            preprocess.interpolation,
            preprocess.crop,
            preprocess.mean,
            preprocess.std
        )?;
        write!(
            f,
            "{} linear layers with {:.1} million numbers in {:.1} MB",
            self.layers.len(),
            self.parameters as f64 / 1e6,
            self.bytes as f64 / 1e6,
        )?;
        if self.packed_bytes > 0 {
            write!(
                f,
                ", packed weights in {:.1}",
                self.packed_bytes as f64 / 1e6
            )?;
        }
        writeln!(f, "; attention in {}", self.attention)?;
        if let Some(timing) = &self.timing {
            writeln!(f, "{timing}")?;
        }
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
