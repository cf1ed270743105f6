//! The inputs that layers are quantized for.

use std::fmt;

use noisyquant::Reservoir;

use crate::{
    error::Error,
    model::{Model, Observed, Output, Workspace},
};

/// Share of a layer's inputs that are its least or its largest if it is saturated.
const SATURATED: f64 = 0.99;

/// What inputs of a layer are from which no range can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Uninformative {
    /// All are 0.
    Zero,
    /// All are the same, or all rows are.
    Constant,
    /// Nearly all are the least or the largest of them.
    Saturated,
}

impl fmt::Display for Uninformative {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Zero => "all zero",
            Self::Constant => "all the same",
            Self::Saturated => "nearly all the least or the largest",
        })
    }
}

/// A sample of the input rows of every linear layer, taken while the float model runs on calibration
/// images; the same for the same images and seed however they are cut into batches.
pub struct Calibration {
    layers: Vec<Reservoir>,
    /// Input features of each layer.
    widths: Vec<usize>,
    logits: Vec<f32>,
}

impl Calibration {
    /// Room for at most `rows` input rows of each layer of `model`.
    ///
    /// # Errors
    ///
    /// [`Error::Layer`] if `rows` is zero.
    pub fn new(model: &Model, rows: usize, seed: u64) -> Result<Self, Error> {
        let layers = model.layers().iter().map(|layer| {
            Reservoir::new(layer.linear.in_features(), rows, seed)
                .map_err(Error::layer(&layer.name))
        });
        Ok(Self {
            layers: layers.collect::<Result<_, _>>()?,
            widths: model
                .layers()
                .iter()
                .map(|layer| layer.linear.in_features())
                .collect(),
            logits: Vec::new(),
        })
    }

    /// Run `model` on normalised images `[n, channels, height, width]`, up to as many as the
    /// workspace holds, and sample the inputs of its layers.
    ///
    /// # Errors
    ///
    /// As [`Model::forward`]; [`Error::Calibration`] if this was made for another model;
    /// [`Error::Layer`] if a layer's inputs are not finite.
    pub fn observe(
        &mut self,
        model: &Model,
        images: &[f32],
        workspace: &mut Workspace<'_>,
    ) -> Result<(), Error> {
        self.check(model)?;
        let config = model.config();
        let count = images.len() / config.pixels();
        self.logits.resize(count * config.classes, 0.0);
        let mut failed = None;
        let layers = &mut self.layers;
        let mut observe = |seen: Observed<'_>| {
            if let Err(source) = layers[seen.layer].observe(seen.input) {
                failed.get_or_insert((seen.layer, source));
            }
        };
        let output = &mut Output::logits(&mut self.logits);
        model.forward_observed(images, output, workspace, &mut observe)?;
        match failed {
            Some((layer, source)) => Err(Error::layer(&model.layers()[layer].name)(source)),
            None => Ok(()),
        }
    }

    /// The sampled input rows of linear layer number `layer`, row-major, in the order in which they
    /// came; none if there is no such layer.
    pub fn rows(&self, layer: usize) -> Vec<f32> {
        self.layers.get(layer).map_or(Vec::new(), Reservoir::rows)
    }

    /// Why the sampled inputs of linear layer number `layer` do not tell what range the inputs of other
    /// images will have; none if they do, or there is no such layer.
    pub fn uninformative(&self, layer: usize) -> Option<Uninformative> {
        let rows = self.rows(layer);
        let width = *self.widths.get(layer)?;
        let first = rows.get(..width)?;
        let [least, largest] = [f32::min, f32::max].map(|of| rows.iter().copied().reduce(of));
        let (least, largest) = (least?, largest?);
        let extreme = rows
            .iter()
            .filter(|value| **value == least || **value == largest);
        let several = rows.len() > width;
        match () {
            () if least == 0.0 && largest == 0.0 => Some(Uninformative::Zero),
            () if least == largest => Some(Uninformative::Constant),
            () if several && rows.chunks_exact(width).all(|row| row == first) => {
                Some(Uninformative::Constant)
            }
            () if several && extreme.count() as f64 >= SATURATED * rows.len() as f64 => {
                Some(Uninformative::Saturated)
            }
            () => None,
        }
    }

    pub(super) fn check(&self, model: &Model) -> Result<(), Error> {
        let (expected, got) = (model.layers().len(), self.layers.len());
        match expected == got {
            true => Ok(()),
            false => Err(Error::Calibration { expected, got }),
        }
    }
}
