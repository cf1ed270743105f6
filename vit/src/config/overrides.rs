//! What a caller says about a model instead of its checkpoint.

use super::preprocess::{Interpolation, Preprocess};
use crate::warning::Warnings;

/// Fields that replace, or stand in for, what a checkpoint states; `None` leaves it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    /// Height and width of an image, in pixels. Learnt positions are resampled to it.
    pub image_size: Option<usize>,
    /// Attention heads: one number, or one for each stage of Swin.
    pub heads: Option<Vec<usize>>,
    /// Added to the variance in every LayerNorm.
    pub layer_norm_eps: Option<f32>,
    /// See [`Preprocess::resize`].
    pub resize: Option<usize>,
    /// See [`Preprocess::interpolation`].
    pub interpolation: Option<Interpolation>,
    /// See [`Preprocess::mean`].
    pub mean: Option<Vec<f32>>,
    /// See [`Preprocess::std`].
    pub std: Option<Vec<f32>>,
}

impl Overrides {
    /// Replace what the caller asks for in how the input is made, and forget what was assumed of it.
    pub(crate) fn apply(&self, preprocess: &mut Preprocess, warnings: &mut Warnings) {
        preprocess.resize = self.resize.unwrap_or(preprocess.resize);
        preprocess.interpolation = self.interpolation.unwrap_or(preprocess.interpolation);
        preprocess.replace(&self.mean, &self.std);
        for (what, given) in [
            ("resize", self.resize.is_some()),
            ("interpolation", self.interpolation.is_some()),
            ("mean", self.mean.is_some()),
            ("std", self.std.is_some()),
        ] {
            if given {
                warnings.forget(what);
            }
        }
    }
}
