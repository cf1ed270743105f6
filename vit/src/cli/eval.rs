//! `noisyquant eval`: how often a model is right.

use std::{fmt, path::PathBuf, time::Instant};

use clap::Args;
use serde::Serialize;

use super::{
    failure::Failure, folder, model, overrides::OverrideFlags, print, progress, warner::Warner,
};
use crate::model::{Output, Workspace};

/// Top-1 and top-5 accuracy on a folder of classes, and images a second
#[derive(Args)]
#[command(after_help = "\
The folder holds one folder for each class (ImageNet's layout); in sorted order they are classes 0, 1, 2 ...

Examples:
  noisyquant eval int8.safetensors --images imagenet/val
  noisyquant eval checkpoint/ --images imagenet/val --batch 16 --json")]
pub(super) struct Arguments {
    /// A checkpoint or quantized model
    model: PathBuf,
    /// A folder with a folder for each class
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// Images that run at once
    #[arg(long, value_name = "COUNT", default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    overrides: OverrideFlags,
}

#[derive(Serialize)]
struct Accuracy {
    images: usize,
    /// Folders, at most as many as the model has classes.
    classes: usize,
    /// Percent of images whose class has the largest logit.
    top1_percent: f64,
    /// Percent of images whose class is among the five largest logits.
    top5_percent: f64,
    /// Of the model alone.
    images_per_second: f64,
    /// With reading and resizing the files.
    images_per_second_with_reading: f64,
}

pub(super) fn run(arguments: &Arguments, warner: &mut Warner) -> Result<(), Failure> {
    let model = model::open(&arguments.model, &arguments.overrides.options(), warner)?;
    model::require_head(&model, &arguments.model)?;
    let (names, images) = folder::classes(&arguments.images)?;
    let classes = model.config().classes;
    if names.len() > classes {
        let (folder, got) = (arguments.images.display(), names.len());
        return Err(format!(
            "{folder}: expected at most {classes} folders, one for each class of the model, got {got}"
        )
        .into());
    }
    let batch = usize::from(arguments.batch).min(images.len().max(1));
    let mut workspace = Workspace::new(&model, batch);
    let (mut top1, mut top5, mut seconds) = (0usize, 0usize, 0.0);
    let started = Instant::now();
    let bar = progress::bar(images.len(), "running images");
    folder::for_each_batch(&images, batch, model.config(), &bar, |images, input| {
        let mut logits = vec![0.0; images.len() * classes];
        let start = Instant::now();
        model.forward(input, &mut Output::logits(&mut logits), &mut workspace)?;
        seconds += start.elapsed().as_secs_f64();
        for (image, logits) in images.iter().zip(logits.chunks_exact(classes)) {
            // Classes before the right one, equal logits in the order of the classes.
            let right = logits[image.class];
            let better = |(class, logit): (usize, &f32)| {
                // NaN is right of nothing.
                !(*logit < right || *logit == right && class >= image.class)
            };
            let rank = logits
                .iter()
                .enumerate()
                .filter(|pair| pair.0 != image.class && better(*pair))
                .count();
            top1 += usize::from(rank < 1);
            top5 += usize::from(rank < 5);
        }
        Ok(())
    })?;
    let percent = |count: usize| 100.0 * count as f64 / images.len() as f64;
    let accuracy = Accuracy {
        images: images.len(),
        classes: names.len(),
        top1_percent: percent(top1),
        top5_percent: percent(top5),
        images_per_second: images.len() as f64 / seconds,
        images_per_second_with_reading: images.len() as f64 / started.elapsed().as_secs_f64(),
    };
    drop(bar);
    print::result(arguments.json, &accuracy, &accuracy, warner.told())
}

impl fmt::Display for Accuracy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} images of {} classes", self.images, self.classes)?;
        writeln!(f, "top-1  {:.2} %", self.top1_percent)?;
        writeln!(f, "top-5  {:.2} %", self.top5_percent)?;
        let (alone, reading) = (self.images_per_second, self.images_per_second_with_reading);
        writeln!(
            f,
            "{alone:.1} images a second; {reading:.1} with reading the files"
        )
    }
}
