//! A quantized model next to the float model that it was made from.

use std::fmt;

use noisyquant::{Executor, Scratch};
use serde::{Deserialize, Serialize};

use super::table::Table;
use crate::{
    error::Error,
    model::{Layer, Model, Output, Workspace},
    ops::Linear,
};

/// How far a quantized model is from its float model, over some images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Comparison {
    /// How many images.
    pub images: usize,
    /// Mean over the images of the cosine similarity of the features.
    pub cosine_mean: f64,
    /// The least cosine similarity of an image.
    pub cosine_least: f64,
    /// The image with the least.
    pub least_image: String,
    /// Share of images whose largest logit is that of the same class; none without a head.
    pub top1_agreement: Option<f64>,
    /// One row per linear layer, in the order in which they run.
    pub layers: Vec<LayerError>,
}

/// `Σ(error²) / Σ(output²)` of a linear layer's outputs, over all rows and images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LayerError {
    /// Name of the layer.
    pub layer: String,
    /// Given the input that the layer has in the float model: the error that it makes itself.
    pub alone: f64,
    /// Given the input that it has in the quantized model: the error up to here.
    pub along: f64,
}

/// Compares two models image by image.
pub struct Comparer<'a> {
    float: &'a Model,
    quantized: &'a Model,
    workspace: Workspace<'static>,
    scratch: Scratch<'static>,
    sums: Vec<Sums>,
    /// Cosine similarity of each image, and its name.
    cosines: Vec<(f64, String)>,
    agreements: usize,
}

#[derive(Clone, Default)]
struct Sums {
    output: f64,
    alone: f64,
    along: f64,
}

impl<'a> Comparer<'a> {
    /// Nothing compared yet.
    ///
    /// # Errors
    ///
    /// [`Error::Pair`] if the models are not of the same architecture and sizes; [`Error::Origin`] if the
    /// quantized one was made of other tensors than the float one has.
    pub fn new(float: &'a Model, quantized: &'a Model) -> Result<Self, Error> {
        let [expected, got] = [float, quantized].map(|model| model.config().to_string());
        let same = |(a, b): (&Layer, &Layer)| {
            let sizes = |linear: &Linear| (linear.in_features(), linear.out_features());
            a.name == b.name && sizes(&a.linear) == sizes(&b.linear)
        };
        let mut pairs = float.layers().iter().zip(quantized.layers());
        let lengths = float.layers().len() == quantized.layers().len();
        if !float.config().same_sizes(quantized.config()) || !lengths || !pairs.all(same) {
            return Err(Error::Pair { expected, got });
        }
        if let Some(got) = quantized.origin() {
            let (expected, got) = (float.digest(), got.to_string());
            if got != expected {
                return Err(Error::Origin { expected, got });
            }
        }
        let threads = Executor::rayon().threads();
        let rows = float.rows_per_image();
        let layers = quantized.layers().iter();
        let bytes = layers
            .map(|layer| layer.linear.scratch_bytes(rows, threads))
            .max();
        Ok(Self {
            float,
            quantized,
            workspace: Workspace::shared(&[float, quantized], 1, threads),
            scratch: Scratch::with_bytes(bytes.unwrap_or(0)),
            sums: vec![Sums::default(); float.layers().len()],
            cosines: Vec::new(),
            agreements: 0,
        })
    }

    /// Run both models on one normalised image, `name` in the result. Holds the outputs of all
    /// layers in memory for as long.
    ///
    /// # Errors
    ///
    /// As [`Model::forward`]; [`Error::Outputs`] if an output of a model is not finite.
    pub fn add(&mut self, name: &str, image: &[f32]) -> Result<(), Error> {
        let config = self.float.config();
        let (features, classes) = (config.features(), config.classes);
        let mut results = [(); 2].map(|()| (vec![0.0; features], vec![0.0; classes]));
        let [float, quantized] = &mut results;

        let mut outputs = vec![Vec::new(); self.sums.len()];
        let (sums, scratch) = (&mut self.sums, &mut self.scratch);
        let layers = self.quantized.layers();
        let mut failed = Ok(());
        let (features, logits) = (&mut float.0[..], &mut float.1[..]);
        let mut output = Output { features, logits };
        self.float
            .forward_observed(image, &mut output, &mut self.workspace, &mut |observed| {
                let (sums, linear) = (&mut sums[observed.layer], &layers[observed.layer].linear);
                let mut alone = vec![0.0; observed.output.len()];
                let done = linear.forward(observed.input, &mut alone, scratch, Executor::rayon());
                if let (Err(source), Ok(())) = (done, &failed) {
                    let layer = layers[observed.layer].name.clone();
                    failed = Err(Error::Layer { layer, source });
                }
                sums.output += squared(observed.output.iter().copied());
                sums.alone += squared_distance(observed.output, &alone);
                outputs[observed.layer] = observed.output.to_vec();
            })?;
        failed?;

        let (features, logits) = (&mut quantized.0[..], &mut quantized.1[..]);
        let mut output = Output { features, logits };
        self.quantized.forward_observed(
            image,
            &mut output,
            &mut self.workspace,
            &mut |observed| {
                sums[observed.layer].along +=
                    squared_distance(&outputs[observed.layer], observed.output);
            },
        )?;

        let [float, quantized] = &results;
        for (model, (features, logits)) in [("float", float), ("quantized", quantized)] {
            let mut outputs = features.iter().chain(logits);
            if let Some(got) = outputs.find(|output| !output.is_finite()) {
                let (image, got) = (name.into(), *got);
                return Err(Error::Outputs { image, model, got });
            }
        }
        self.cosines
            .push((cosine(&float.0, &quantized.0), name.into()));
        self.agreements += usize::from(largest(&float.1) == largest(&quantized.1));
        Ok(())
    }

    /// The comparison over all images so far.
    ///
    /// # Errors
    ///
    /// [`Error::Size`] if there were none.
    pub fn finish(&self) -> Result<Comparison, Error> {
        let count = self.cosines.len();
        let least = self.cosines.iter().min_by(|a, b| a.0.total_cmp(&b.0));
        let Some((cosine_least, least_image)) = least.cloned() else {
            return Err(Error::Size {
                what: "images to compare on",
                expected: "at least 1".into(),
                got: 0,
            });
        };
        let relative = |error: f64, output: f64| match error == 0.0 {
            true => 0.0,
            false => error / output.max(f64::MIN_POSITIVE),
        };
        let layers = self.sums.iter().zip(self.float.layers());
        let has_head = self.float.config().classes > 0;
        Ok(Comparison {
            images: count,
            cosine_mean: self.cosines.iter().map(|(cosine, _)| cosine).sum::<f64>() / count as f64,
            cosine_least,
            least_image,
            top1_agreement: has_head.then(|| self.agreements as f64 / count as f64),
            layers: layers
                .map(|(sums, layer)| LayerError {
                    layer: layer.name.clone(),
                    alone: relative(sums.alone, sums.output),
                    along: relative(sums.along, sums.output),
                })
                .collect(),
        })
    }
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
            "cosine similarity of the features: mean {cosine_mean:.5}, least {cosine_least:.5} \
             ({least_image})"
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

/// Index of the largest number, the first of equals; 0 of none.
pub(crate) fn largest(values: &[f32]) -> usize {
    let indices = (0..values.len()).rev();
    indices
        .max_by(|&a, &b| values[a].total_cmp(&values[b]))
        .unwrap_or(0)
}

fn squared(values: impl Iterator<Item = f32>) -> f64 {
    values
        .map(|value| f64::from(value) * f64::from(value))
        .sum()
}

fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    squared(a.iter().zip(b).map(|(a, b)| a - b))
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot: f64 = a
        .iter()
        .zip(b)
        .map(|(a, b)| f64::from(*a) * f64::from(*b))
        .sum();
    let norms = (squared(a.iter().copied()) * squared(b.iter().copied())).sqrt();
    if norms > 0.0 { dot / norms } else { 0.0 }
}
