//! Right answers, and the distance of the logits from f32's.

use noisyquant::Noise;
use rayon::prelude::*;
use serde::Serialize;

use super::{options::Options, subject::Subject};
use crate::{
    error::Error,
    input::Images,
    model::{Model, Output, Workspace},
    quantize::LayerPlan,
};

/// Bits of weights and activations that are tried.
const BITS: [u32; 3] = [8, 6, 4];
/// Images that one thread runs at once.
const BATCH: usize = 10;

/// One row of the accuracy table.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct AccuracyRow {
    /// `f32`, or bits of weights and activations such as `W6A6`.
    pub bits: String,
    /// Form of the activation quantizer; none for f32.
    pub quantizer: Option<String>,
    /// Without noise.
    pub plain: Score,
    /// With noise, once for each seed; none for f32.
    pub noisy: Vec<Score>,
}

/// How good a model is.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Score {
    /// Images whose largest logit is that of the right class, in percent.
    pub top1_percent: f64,
    /// Images whose largest logit is that of the same class as in f32, in percent.
    pub agreement_percent: f64,
    /// Mean over images and classes of `|logit − f32 logit|`.
    pub mean_logit_error: f64,
    /// `mean_logit_error` as a percentage of the mean `|f32 logit|`.
    pub relative_error_percent: f64,
}

/// Models that are judged, which are the steps of the progress bar.
pub(super) fn steps(options: &Options) -> usize {
    1 + BITS.len() * options.quantizers().len() * (1 + usize::from(options.seeds))
}

impl Subject<'_> {
    /// One row for f32, and one for each number of bits and quantizer.
    pub(super) fn accuracy(&self, test: &Images) -> Result<Vec<AccuracyRow>, Error> {
        self.progress.set_message("running the test images in f32");
        let inputs = test.normalised(self.float.config(), 0..test.len())?;
        let reference = logits(self.float, &inputs)?;
        let judge = Judge {
            labels: test.labels(),
            reference: &reference,
            classes: self.float.config().classes,
        };
        let mut rows = vec![AccuracyRow {
            bits: "f32".into(),
            quantizer: None,
            plain: judge.score(&reference),
            noisy: Vec::new(),
        }];
        self.progress.inc(1);
        for bits in BITS {
            for (quantizer, form) in self.options.quantizers() {
                let name = format!("W{bits}A{bits}");
                let score = |noise: Noise| {
                    let how = if noise == Noise::None {
                        ""
                    } else {
                        " with noise"
                    };
                    let message = format!("judging {name}, {quantizer}{how}");
                    self.progress.set_message(message);
                    let plan = LayerPlan::new(bits).with(form, noise);
                    let quantized = self.quantize(&plan)?;
                    let score = judge.score(&logits(&quantized, &inputs)?);
                    self.progress.inc(1);
                    Ok(score)
                };
                let plain = score(Noise::None)?;
                let seeds = self.options.noise_seeds();
                let noisy = seeds.map(|seed| score(Noise::Searched { seed }));
                let noisy = noisy.collect::<Result<_, Error>>()?;
                rows.push(AccuracyRow {
                    bits: name.clone(),
                    quantizer: Some(quantizer.into()),
                    plain,
                    noisy,
                });
            }
        }
        Ok(rows)
    }
}

/// Logits `[n, classes]` of normalised images, on all threads.
fn logits(model: &Model, images: &[f32]) -> Result<Vec<f32>, Error> {
    let (pixels, classes) = (model.config().pixels(), model.config().classes);
    let mut logits = vec![0.0; images.len() / pixels * classes];
    let images = images.par_chunks(BATCH * pixels);
    let batches = images.zip(logits.par_chunks_mut(BATCH * classes));
    batches.try_for_each_init(
        || Workspace::serial(model, BATCH),
        |workspace, (images, logits)| model.forward(images, &mut Output::logits(logits), workspace),
    )?;
    Ok(logits)
}

/// Compares logits with the labels and with f32's.
struct Judge<'a> {
    labels: &'a [u8],
    reference: &'a [f32],
    classes: usize,
}

impl Judge<'_> {
    fn score(&self, logits: &[f32]) -> Score {
        let ours = self.answers(logits);
        let reference = self.answers(self.reference);
        let pairs = || logits.iter().zip(self.reference);
        let error = mean(pairs().map(|(a, b)| f64::from((a - b).abs())));
        let size = mean(pairs().map(|(_, b)| f64::from(b.abs())));
        let right = |(answer, label): (&usize, &u8)| f64::from(*answer == usize::from(*label));
        let same = |(answer, reference): (&usize, &usize)| f64::from(answer == reference);
        Score {
            top1_percent: 100.0 * mean(ours.iter().zip(self.labels).map(right)),
            agreement_percent: 100.0 * mean(ours.iter().zip(&reference).map(same)),
            mean_logit_error: error,
            relative_error_percent: 100.0 * error / size,
        }
    }

    /// The class of the largest logit of each image.
    fn answers(&self, logits: &[f32]) -> Vec<usize> {
        let images = logits.chunks_exact(self.classes);
        let largest = |row: &[f32]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]));
        images.map(|row| largest(row).unwrap_or(0)).collect()
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let add = |(sum, count), value| (sum + value, count + 1.0);
    let (sum, count) = values.fold((0.0, 0.0), add);
    sum / count
}
