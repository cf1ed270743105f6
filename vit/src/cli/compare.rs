//! `noisyquant compare`: a quantized model next to its float model.

use std::{fmt, path::PathBuf};

use clap::Args;

use super::{Failure, folder, model, overrides::OverrideFlags, print, progress};
use crate::{
    Model, OpenOptions,
    compare::{Comparer, Comparison},
    table::Table,
};

/// Features, answers and the error of each layer of a quantized model next to its float model
#[derive(Args)]
#[command(after_help = "\
A layer's error is the sum of squared differences of its outputs divided by the sum of squared outputs. \
`alone` gives each layer the input that it has in the float model, `along` the one that it has in the \
quantized model, with the errors of the layers before it.

Examples:
  noisyquant compare checkpoint/ int8.safetensors --images photos/")]
pub(super) struct Arguments {
    /// The float checkpoint
    checkpoint: PathBuf,
    /// The quantized model
    quantized: PathBuf,
    /// A folder with images, which should not be those of the calibration
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    overrides: OverrideFlags,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let float = model::float(&arguments.checkpoint, &arguments.overrides)?;
    let quantized = model::quantized(&arguments.quantized, &OpenOptions::default())?;
    let images = folder::images(&arguments.images)?;
    let comparison = compare(&float, &quantized, &images)?;
    print::result(arguments.json, &comparison, &comparison)
}

/// Compare on the images of these paths.
pub(super) fn compare(
    float: &Model,
    quantized: &Model,
    images: &[PathBuf],
) -> Result<Comparison, Failure> {
    let mut comparer = Comparer::new(float, quantized)?;
    let bar = progress::bar(images.len(), "running both models");
    folder::for_each_batch(images, 1, float.config(), &bar, |paths, input| {
        let mut names = paths.iter().map(|path| folder::name(path));
        names.try_for_each(|name| Ok(comparer.add(&name, input)?))
    })?;
    Ok(comparer.finish()?)
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cosine_mean,
            cosine_least,
            least_image,
            ..
        } = self;
        writeln!(f, "{} images", self.images)?;
        writeln!(
            f,
            "cosine similarity of the features: mean {cosine_mean:.5}, least {cosine_least:.5} ({least_image})"
        )?;
        if let Some(agreement) = self.top1_agreement {
            writeln!(f, "same answer: {:.2} % of the images", 100.0 * agreement)?;
        }
        writeln!(
            f,
            "\nRelative squared error of each layer's output, given the float model's input (alone)\n\
             and given that of the quantized layers before it (along):\n"
        )?;
        let mut table = Table::new(&[["layer", "alone", "along"]]);
        for layer in &self.layers {
            let [alone, along] = [layer.alone, layer.along].map(|error| format!("{error:.2e}"));
            table.push(vec![layer.layer.clone(), alone, along]);
        }
        write!(f, "{table}")
    }
}
