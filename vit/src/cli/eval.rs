//! `noisyquant eval`: how often a model is right.

use std::{fmt, path::PathBuf, time::Instant};

use clap::Args;
use serde::Serialize;

use super::{
    classes,
    failure::Failure,
    folder::{ImageFlags, Reader},
    memory, model,
    overrides::OverrideFlags,
    print, progress,
    warner::Warner,
};
use crate::{
    model::{Output, Workspace},
    warning::Warnings,
};

/// Top-1 and top-5 accuracy on a folder of classes, and images a second
#[derive(Args)]
#[command(after_help = "\
The folder holds one folder for each class (ImageNet's layout). If the names of all are labels of the model, \
or numbers, they say the class; otherwise folders are classes 0, 1, 2 ... in sorted order, with a warning, \
and there must be one for each class. --class-map says it otherwise, with text or JSON: lines with a folder \
and the number of its class, or lines with the folders in the order of the classes.

Examples:
  noisyquant eval int8.safetensors --images imagenet/val
  noisyquant eval checkpoint/ --images imagenet/val --batch 16 --json")]
pub(super) struct Arguments {
    /// A checkpoint or quantized model
    model: PathBuf,
    /// A folder with a folder for each class
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// A file that says which folder holds which class, see below
    #[arg(long, value_name = "FILE")]
    class_map: Option<PathBuf>,
    /// Images that run at once
    #[arg(long, value_name = "COUNT", default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reading: ImageFlags,
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
    let config = model.config();
    let classes = config.classes;
    let mut warnings = Warnings::default();
    let map = arguments.class_map.as_deref();
    let (folders, images) = classes::find(&arguments.images, config, map, &mut warnings)?;
    warner.tell(&warnings)?;
    let mut reader = Reader {
        flags: &arguments.reading,
        config,
        warner,
    };
    let images = reader.check(images)?;
    let batch = usize::from(arguments.batch).min(images.len().max(1));
    memory::require_workspace(&[&model], batch)?;
    let mut workspace = Workspace::new(&model, batch);
    let (mut top1, mut top5, mut seconds) = (0usize, 0usize, 0.0);
    let started = Instant::now();
    let bar = progress::bar(images.len(), "running images");
    let count = reader.for_each_batch(&images, batch, &bar, |images, input| {
        let mut logits = vec![0.0; images.len() * classes];
        let start = Instant::now();
        model.forward(input, &mut Output::logits(&mut logits), &mut workspace)?;
        seconds += start.elapsed().as_secs_f64();
        for (image, logits) in images.iter().zip(logits.chunks_exact(classes)) {
            model::require_finite(image.as_ref(), logits)?;
            // Classes before the right one, equal logits in the order of the classes.
            let right = logits[image.class];
            let better = |(class, logit): (usize, &f32)| {
                *logit > right || *logit == right && class < image.class
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
    let percent = |right: usize| 100.0 * right as f64 / count as f64;
    let accuracy = Accuracy {
        images: count,
        classes: folders,
        top1_percent: percent(top1),
        top5_percent: percent(top5),
        images_per_second: count as f64 / seconds,
        images_per_second_with_reading: count as f64 / started.elapsed().as_secs_f64(),
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
