//! `noisyquant quantize`: from a checkpoint to a file of integer layers.

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    time::Instant,
};

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{
    failure::Failure,
    folder::{ImageFlags, Reader},
    memory, model,
    output::OutputFile,
    overrides::OverrideFlags,
    plan::{self, PlanFlags},
    platform::is_same_file,
    print, progress, threads,
    warner::Warner,
};
use crate::{
    measure::table::Table,
    model::{Attention, Layer, LayerReport, Model, Workspace},
    quantize::{Calibration, Choice, LayerPlan, words},
    store::is_float_checkpoint,
    warning::Warnings,
};

/// Images that run at once while their activations are sampled.
const BATCH: usize = 8;

/// Make an integer model of a checkpoint, calibrated on a folder of images
#[derive(Args)]
#[command(after_help = "\
Settings for some layers stand in a TOML file. `name` is a layer's name as `inspect` shows it, or a pattern \
with * and ?; where several match, later ones win over earlier ones:

  [[layer]]
  name = \"blocks.*.mlp.fc2\"
  activation-bits = 8
  bias = \"noise\"           # none, noise, shift, shift+scale, auto
  quantizer = \"mse\"        # minmax, percentile, mse, easyquant, twin

  [[layer]]
  name = \"head\"
  float = true             # stays in f32; also: weight-bits, seed

Examples:
  noisyquant quantize checkpoint/ --images photos/ -o int8.safetensors
  noisyquant quantize checkpoint/ --images photos/ --weight-bits 6 --activation-bits 6 -o int6.safetensors
  noisyquant quantize checkpoint/ --images photos/ --quantizer minmax --bias noise -o paper.safetensors
  noisyquant quantize checkpoint/ --images photos/ --layers layers.toml -o mixed.safetensors")]
pub(super) struct Arguments {
    /// The float checkpoint: a safetensors file, an index of shards, or a folder
    checkpoint: PathBuf,
    /// A folder with images like those that the model is for; a few dozen do
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// The file to write: quantized layers and all else that the model needs
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// How the products of attention run; unless given, int8 with heads of at least 64 features and as many
    /// tokens
    #[arg(long, value_enum)]
    attention: Option<AttentionFlag>,
    /// Rows of activations kept of each layer
    #[arg(long, value_name = "COUNT", default_value_t = 2048)]
    #[arg(value_parser = clap::value_parser!(u32).range(2..))]
    rows: u32,
    #[command(flatten)]
    plan: PlanFlags,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Overwrite a float checkpoint
    #[arg(long)]
    force: bool,
    /// Quantize also layers whose calibration inputs were all the same, zero or saturated, which otherwise
    /// stay in f32
    #[arg(long)]
    quantize_anyway: bool,
    #[command(flatten)]
    reading: ImageFlags,
    #[command(flatten)]
    overrides: OverrideFlags,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AttentionFlag {
    /// In f32
    F32,
    /// On 8-bit integers that are quantized at run time
    Int8,
}

#[derive(Serialize)]
struct Summary {
    output: String,
    bytes: usize,
    images: usize,
    seconds: f64,
    layers: Vec<LayerReport>,
}

pub(super) fn run(arguments: &Arguments, warner: &mut Warner) -> Result<(), Failure> {
    let started = Instant::now();
    plan::check_flags(&arguments.plan);
    let float = model::float(&arguments.checkpoint, &arguments.overrides, warner)?;
    let attention = arguments.attention.map(|flag| match flag {
        AttentionFlag::F32 => Attention::F32,
        AttentionFlag::Int8 => Attention::Int8,
    });
    if let Some(attention) = attention {
        float.check_attention(attention)?;
    }
    let names: Vec<&str> = float
        .layers()
        .iter()
        .map(|layer| layer.name.as_str())
        .collect();
    let plans = plan::plans(&arguments.plan, &names)?;
    let mut plans: HashMap<&str, LayerPlan> = names.into_iter().zip(plans).collect();
    let mut reader = Reader {
        flags: &arguments.reading,
        config: float.config(),
        warner,
    };
    let images = reader.images(&arguments.images)?;
    require_images(&arguments.images, images.len(), &plans)?;
    let output = OutputFile::create(&arguments.output, &inputs(arguments, &images)?)?;

    let rows = arguments.rows as usize;
    memory::require(bytes(&float, rows), "calibration and quantization")?;
    let (calibration, count) = sample(&float, &images, rows, arguments.plan.seed, &mut reader)?;
    if !arguments.quantize_anyway {
        let mut warnings = Warnings::default();
        keep_in_float(&float, &calibration, &mut plans, &mut warnings);
        warner.tell(&warnings)?;
    }
    let bar = progress::bar(float.layers().len(), "quantizing layers");
    let done = |report: &LayerReport| {
        bar.set_message(format!("quantized {}", report.name));
        bar.inc(1);
    };
    let (quantized, layers) = float.quantize(&|name| plans[name].clone(), &calibration, &done)?;
    drop(bar);
    let quantized = match attention {
        Some(attention) => quantized.with_attention(attention)?,
        None => quantized,
    };
    let mut warnings = warner.told().clone();
    warnings.forget(threads::WHAT); // of this run, and not of the model
    let bytes = quantized.with_warnings(warnings).to_bytes()?;
    // What does not open again replaces nothing.
    Model::from_safetensors(&bytes).map_err(|error| {
        let output = arguments.output.display();
        format!("{output}: expected a model that opens again, got: {error}")
    })?;
    output.finish(&bytes)?;
    let summary = Summary {
        output: arguments.output.display().to_string(),
        bytes: bytes.len(),
        images: count,
        seconds: started.elapsed().as_secs_f64(),
        layers,
    };
    print::result(arguments.json, &summary, &summary, warner.told())
}

/// A failure before the long work if a head, which sees one row of each image, has too few to choose by.
fn require_images(
    folder: &Path,
    count: usize,
    plans: &HashMap<&str, LayerPlan>,
) -> Result<(), Failure> {
    let chosen = |(name, plan): (&&str, &LayerPlan)| {
        name.starts_with("head") && matches!(plan.choice, Choice::Auto { .. })
    };
    match count < 2 && plans.iter().any(chosen) {
        true => Err(format!(
            "{}: expected at least 2 images for the automatic choice for the head, got {count}",
            folder.display()
        )
        .into()),
        false => Ok(()),
    }
}

/// The files that are read; but for a checkpoint that may be overwritten.
fn inputs(arguments: &Arguments, images: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut inputs = images.to_vec();
    inputs.extend(arguments.plan.layers.clone());
    if !arguments.force {
        inputs.extend(model::files(&arguments.checkpoint)?);
        if is_float_checkpoint(&arguments.output) {
            let output = arguments.output.display();
            let text = "expected no float checkpoint to overwrite (--force does it), got one";
            // The one that is read is told better below.
            if !inputs
                .iter()
                .any(|input| is_same_file(input, &arguments.output))
            {
                return Err(format!("{output}: {text}").into());
            }
        }
    }
    Ok(inputs)
}

/// Bytes of the images that run at once, of the rows that are kept, and of a quantized model and its file.
fn bytes(float: &Model, rows: usize) -> usize {
    let layer = |layer: &Layer| {
        let (inputs, outputs) = (layer.linear.in_features(), layer.linear.out_features());
        size_of::<f32>() * rows * inputs + 2 * inputs * outputs
    };
    memory::workspace(&[float], BATCH) + float.layers().iter().map(layer).sum::<usize>()
}

/// Leave layers in f32 whose calibration inputs say nothing of the inputs that are to come.
fn keep_in_float(
    float: &Model,
    calibration: &Calibration,
    plans: &mut HashMap<&str, LayerPlan>,
    warnings: &mut Warnings,
) {
    for (at, layer) in float.layers().iter().enumerate() {
        let Some(plan) = plans.get_mut(layer.name.as_str()) else {
            continue;
        };
        if let (Some(reason), false) = (calibration.uninformative(at), plan.choice == Choice::Float)
        {
            plan.choice = Choice::Float;
            let text = "expected calibration inputs that differ, got ones that are";
            let end = "it stays in f32 (--quantize-anyway says otherwise)";
            warnings.add(
                &format!("layer `{}`", layer.name),
                format!("{text} {reason}; {end}"),
            );
        }
    }
}

/// Activations of every layer on these images, and how many there were.
fn sample(
    float: &Model,
    images: &[PathBuf],
    rows: usize,
    seed: u64,
    reader: &mut Reader<'_>,
) -> Result<(Calibration, usize), Failure> {
    let mut calibration = Calibration::new(float, rows, seed)?;
    let mut workspace = Workspace::new(float, BATCH);
    let bar = progress::bar(images.len(), "running the float model");
    let (mut first, mut alike) = (Vec::new(), true);
    let count = reader.for_each_batch(images, BATCH, &bar, |_, input| {
        let mut inputs = input.chunks_exact(float.config().pixels());
        if let (true, Some(image)) = (first.is_empty(), inputs.next()) {
            first = image.to_vec();
        }
        alike &= inputs.all(|image| image == first);
        Ok(calibration.observe(float, input, &mut workspace)?)
    })?;
    if alike && count > 1 {
        let mut warnings = Warnings::default();
        let text =
            format!("expected images that differ, got {count} that are the same to the model");
        warnings.add("calibration", text);
        reader.warner.tell(&warnings)?;
    }
    Ok((calibration, count))
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(&[["layer", "bits", "choice", "error", "worst token"]]);
        for report in &self.layers {
            let mut cells = vec![
                report.name.clone(),
                words::bits(report),
                words::choice(report),
            ];
            if let Some(after) = &report.after {
                cells.push(match &report.before {
                    Some(before) if before.mse > 0.0 => {
                        format!("{:.2} × plain", after.mse / before.mse)
                    }
                    _ => format!("{:.2e}", after.mse),
                });
                cells.push(format!("{:.1} %", 100.0 * after.worst_token));
            }
            table.push(cells);
        }
        writeln!(f, "{table}")?;
        writeln!(
            f,
            "error: mean squared error of the layer's output, as a multiple of that of a plain symmetric \
             min-max\n\
             layer where it was chosen automatically; worst token: the largest relative error of a row.\n"
        )?;
        let megabytes = self.bytes as f64 / 1e6;
        writeln!(
            f,
            "{}: {megabytes:.1} MB, from {} images in {:.0} s",
            self.output, self.images, self.seconds
        )
    }
}
