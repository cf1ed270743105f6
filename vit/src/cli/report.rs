//! `noisyquant report`: a page about a quantized model.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use noisyquant::Isa;

use super::{
    bench::{usual_isas, usual_threads},
    compare,
    contest::{Entry, contestant, race},
    failure::Failure,
    folder::{self, ImageFlags, Reader},
    model,
    output::OutputFile,
    overrides::OverrideFlags,
    print, progress,
    warner::Warner,
    widths::{self, Widths},
};
use crate::{
    checkpoint::Files,
    measure::{
        bench::{Setting, Timing},
        report::{self, Choice, ReportData},
    },
    model::{Layer, LayerReport, Model},
    ops::{Linear, float_kernel},
    quantize::words,
    store::OpenOptions,
};

/// Layers whose activations are shown.
const TAILS: usize = 3;
/// Images that these activations are measured on at most.
const TAIL_IMAGES: usize = 16;

/// A page that says what quantization did to a model: one HTML file that needs nothing else
#[derive(Args)]
#[command(after_help = "\
Shows activations before and after the bias, the error of each layer, what was chosen, and latency on this \
machine. For readers who have not read the paper.

Examples:
  noisyquant report checkpoint/ int8.safetensors --images photos/ -o report.html")]
pub(super) struct Arguments {
    /// The float checkpoint
    checkpoint: PathBuf,
    /// The quantized model
    quantized: PathBuf,
    /// A folder with images, which should not be those of the calibration
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// The page to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Seconds that each of the two timings for an instruction set takes at most
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    #[arg(value_parser = super::bench::seconds)]
    seconds: f64,
    /// Print what the page is made from as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reading: ImageFlags,
    #[command(flatten)]
    overrides: OverrideFlags,
}

pub(super) fn run(arguments: &Arguments, warner: &mut Warner) -> Result<(), Failure> {
    let (float, quantized) = model::pair(
        &arguments.checkpoint,
        &arguments.quantized,
        &arguments.overrides,
        warner,
    )?;
    let mut reader = Reader {
        flags: &arguments.reading,
        config: quantized.config(),
        warner,
    };
    let images = reader.images(&arguments.images)?;
    let mut inputs = model::files(&arguments.checkpoint)?;
    inputs.push(arguments.quantized.clone());
    inputs.extend(images.iter().cloned());
    let output = OutputFile::create(&arguments.output, &inputs)?;
    let comparison = compare::compare(&float, &quantized, &images, &mut reader)?;
    let (few, input) = reader.load(&images[..images.len().min(TAIL_IMAGES)])?;
    let tails = report::tails(&float, &quantized, &input, TAILS)?;
    let latency = latency(arguments, &float, &input)?;
    let (_, input) = reader.load(&images[..images.len().min(2 * widths::IMAGES)])?;
    let widths = widths(arguments, &float, comparison.cosine_mean, &input)?;
    let numbers = |model: &Model| -> usize {
        let layers = model.layers().iter().map(|layer| &layer.linear);
        layers
            .map(|linear| (linear.in_features() + 1) * linear.out_features())
            .sum()
    };
    let data = ReportData {
        checkpoint: folder::name(&arguments.checkpoint),
        quantized: folder::name(&arguments.quantized),
        architecture: float.config().to_string(),
        float_bytes: 4 * numbers(&float) as u64,
        quantized_bytes: Files::open(&arguments.quantized)?.bytes(),
        comparison,
        choices: quantized
            .layers()
            .iter()
            .map(|layer| choice(layer, quantized.reports()))
            .collect(),
        tails,
        tail_images: few.len(),
        latency,
        widths,
        attention: quantized.attention(),
        float_kernel: float_kernel(),
        version: env!("CARGO_PKG_VERSION").into(),
    };
    output.finish(report::render(&data).as_bytes())?;
    let written = format!("{} is written\n", arguments.output.display());
    print::result(arguments.json, &data, &written, warner.told())
}

/// What was chosen for a layer, of which older files may not tell.
fn choice(layer: &Layer, reports: &[LayerReport]) -> Choice {
    let report = reports.iter().find(|report| report.name == layer.name);
    Choice {
        layer: layer.name.clone(),
        bits: match &layer.linear {
            Linear::Quantized(linear) => Some([linear.weight_bits(), linear.activation_bits()]),
            Linear::Float(_) => None,
        },
        words: report.map_or(String::new(), words::choice),
    }
}

/// Of single images, on one thread and on all, on every instruction set.
fn latency(arguments: &Arguments, float: &Model, image: &[f32]) -> Result<Vec<Timing>, Failure> {
    let settings = settings(arguments);
    let isas = usual_isas();
    let open = |isa: Isa| {
        let options = OpenOptions {
            isa: Some(isa),
            ..OpenOptions::default()
        };
        Ok(vec![contestant(model::quantized(
            &arguments.quantized,
            &options,
        )?)])
    };
    let bar = progress::bar(isas.len() * settings.len(), "");
    let (rows, _) = race(Some(float), &isas, open, image, &settings, &bar)?;
    Ok(rows)
}

/// The model that the page is about, whose features have this cosine similarity, among others of the same
/// checkpoint; on the fastest instruction set.
fn widths(
    arguments: &Arguments,
    float: &Model,
    cosine: f64,
    images: &[f32],
) -> Result<Vec<Timing>, Failure> {
    let (fitted, judged) = widths::halves(images, float.config().pixels());
    let (isas, settings) = (usual_isas(), settings(arguments));
    let isas = &isas[isas.len() - 1..];
    let bar = progress::bar(settings.len(), "quantizing");
    let widths = Widths::new(float, &fitted, &judged)?;
    let open = |isa| {
        let options = OpenOptions {
            isa: Some(isa),
            ..OpenOptions::default()
        };
        let own = contestant(model::quantized(&arguments.quantized, &options)?);
        let own = Entry {
            name: format!("{}, the model of this page", own.name),
            cosine: Some(cosine),
            ..own
        };
        Ok([own].into_iter().chain(widths.on(isa)?).collect())
    };
    let (rows, _) = race(Some(float), isas, open, images, &settings, &bar)?;
    Ok(rows)
}

/// Single images, on one thread and on all.
fn settings(arguments: &Arguments) -> Vec<Setting> {
    let setting = |threads| Setting {
        batch: 1,
        threads,
        rounds: 1000,
        limit: Duration::from_secs_f64(arguments.seconds),
    };
    usual_threads().into_iter().map(setting).collect()
}
