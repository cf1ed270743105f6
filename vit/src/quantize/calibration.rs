//! The inputs that layers are quantized for.

use noisyquant::Reservoir;

use crate::{
    error::Error,
    model::{Model, Observed, Output, Workspace},
};

/// A sample of the input rows of every linear layer, taken while the float model runs on calibration
/// images; the same for the same images and seed however they are cut into batches.
pub struct Calibration {
    layers: Vec<Reservoir>,
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

    pub(super) fn check(&self, model: &Model) -> Result<(), Error> {
        let (expected, got) = (model.layers().len(), self.layers.len());
        match expected == got {
            true => Ok(()),
            false => Err(Error::Calibration { expected, got }),
        }
    }
}
