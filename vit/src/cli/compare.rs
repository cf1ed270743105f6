//! `noisyquant compare`: a quantized model next to its float model.

use std::path::PathBuf;

use clap::Args;

use super::{
    failure::Failure,
    folder::{self, ImageFlags, Reader},
    memory, model,
    overrides::OverrideFlags,
    print, progress,
    warner::Warner,
};
use crate::{
    measure::compare::{Comparer, Comparison},
    model::Model,
};

/// Features, answers and the error of each layer of a quantized model next to its float model
#[derive(Args)]
#[command(after_help = "\
A layer's error is the sum of squared differences of its outputs divided by the sum of squared outputs. \
`alone` gives each layer the input that it has in the float model, `along` the one that it has in the \
quantized model, with the errors of the layers before it. Images are made into inputs as the quantized file \
says, which knows the flags that it was made with.

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
    let comparison = compare(&float, &quantized, &images, &mut reader)?;
    print::result(arguments.json, &comparison, &comparison, warner.told())
}

/// Compare on the images of these paths.
pub(super) fn compare(
    float: &Model,
    quantized: &Model,
    images: &[PathBuf],
    reader: &mut Reader<'_>,
) -> Result<Comparison, Failure> {
    memory::require_workspace(&[float, quantized], 1)?;
    let mut comparer = Comparer::new(float, quantized)?;
    let bar = progress::bar(images.len(), "running both models");
    reader.for_each_batch(images, 1, &bar, |paths, input| {
        let mut names = paths.iter().map(|path| folder::name(path));
        names.try_for_each(|name| Ok(comparer.add(&name, input)?))
    })?;
    Ok(comparer.finish()?)
}
