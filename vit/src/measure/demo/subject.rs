//! What the demo measures.

use indicatif::ProgressBar;

use super::options::Options;
use crate::{
    error::Error,
    model::Model,
    quantize::{Calibration, LayerPlan},
};

/// What every measurement works on.
pub(super) struct Subject<'a> {
    pub(super) float: &'a Model,
    pub(super) calibration: &'a Calibration,
    pub(super) options: &'a Options,
    pub(super) progress: &'a ProgressBar,
}

impl Subject<'_> {
    /// The model with every layer quantized in the same way.
    pub(super) fn quantize(&self, plan: &LayerPlan) -> Result<Model, Error> {
        let quantized = self
            .float
            .quantize(&|_| plan.clone(), self.calibration, &|_| ());
        quantized.map(|(model, _)| model)
    }
}
