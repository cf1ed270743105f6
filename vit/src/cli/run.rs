//! `noisyquant run`: what is in an image.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{
    failure::Failure,
    folder::{ImageFlags, Reader},
    memory, model,
    overrides::OverrideFlags,
    print,
    warner::Warner,
};
use crate::{
    model::{Model, Output, Workspace},
    warning::Warnings,
};

/// The likeliest classes of images, or their features if the model has no head
#[derive(Args)]
#[command(after_help = "\
Examples:
  noisyquant run int8.safetensors cat.jpg dog.png
  noisyquant run checkpoint/ cat.jpg --top 3 --json")]
pub(super) struct Arguments {
    /// A checkpoint or quantized model
    model: PathBuf,
    /// Image files
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// How many classes to name
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    top: u16,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reading: ImageFlags,
    #[command(flatten)]
    overrides: OverrideFlags,
}

#[derive(Serialize)]
struct Answer<'a> {
    image: String,
    /// The likeliest first; none without a head.
    top: Vec<Class>,
    features: Vec<f32>,
    warnings: &'a Warnings,
}

#[derive(Serialize)]
struct Class {
    class: usize,
    label: String,
    probability: f64,
    logit: f32,
}

pub(super) fn run(arguments: &Arguments, warner: &mut Warner) -> Result<(), Failure> {
    let model = model::open(&arguments.model, &arguments.overrides.options(), warner)?;
    let config = model.config();
    memory::require_workspace(&[&model], 1)?;
    let mut workspace = Workspace::new(&model, 1);
    let mut answers = Vec::new();
    let mut reader = Reader {
        flags: &arguments.reading,
        config,
        warner,
    };
    // All are read before any is printed: an unreadable one must not be found halfway. Nor after the work on
    // others; one alone is found out as it is read.
    let images = match arguments.images.len() {
        1 => arguments.images.clone(),
        _ => reader.check(arguments.images.clone())?,
    };
    for path in &images {
        let (_, input) = reader.load(std::slice::from_ref(path))?;
        if input.is_empty() {
            continue;
        }
        let mut features = vec![0.0; config.features()];
        let mut logits = vec![0.0; config.classes];
        let mut output = Output {
            features: &mut features,
            logits: &mut logits,
        };
        model.forward(&input, &mut output, &mut workspace)?;
        model::require_finite(path, features.iter().chain(&logits))?;
        answers.push(Answer {
            image: path.display().to_string(),
            top: top(&model, &logits, arguments.top.into()),
            features,
            warnings: model.warnings(),
        });
    }
    if answers.is_empty() {
        return Err("images: expected at least one that can be used, got none".into());
    }
    match arguments.json {
        true => print::json_document(&answers),
        false => print::whole(&text(&answers)),
    }
}

/// The `count` likeliest classes.
fn top(model: &Model, logits: &[f32], count: usize) -> Vec<Class> {
    let probabilities = model.config().judgement.probabilities(logits);
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    let class = |class: usize| Class {
        class,
        label: model::label(model, class),
        probability: probabilities[class],
        logit: logits[class],
    };
    order.into_iter().take(count).map(class).collect()
}

fn text(answers: &[Answer<'_>]) -> String {
    let mut text = String::new();
    for Answer {
        image,
        top,
        features,
        ..
    } in answers
    {
        text += &format!("{image}\n");
        for Class {
            label, probability, ..
        } in top
        {
            text += &format!("  {:5.1} %  {label}\n", 100.0 * probability);
        }
        if top.is_empty() {
            let norm = features
                .iter()
                .map(|x| f64::from(*x).powi(2))
                .sum::<f64>()
                .sqrt();
            let first: Vec<String> = features.iter().take(4).map(|x| format!("{x:.4}")).collect();
            let count = features.len();
            text += &format!(
                "  {count} features of norm {norm:.3}: {} ...\n",
                first.join(" ")
            );
        }
    }
    text
}
