//! Flags that replace, or stand in for, what a checkpoint states.

use clap::Args;

use crate::{
    config::{Interpolation, Overrides},
    store::OpenOptions,
};

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "What the checkpoint does not say, or says otherwise")]
pub(super) struct OverrideFlags {
    /// Height and width of the model's input; learnt positions are resampled to it
    #[arg(long, value_name = "PIXELS")]
    image_size: Option<usize>,
    /// Attention heads; for Swin one number for each stage, with commas
    #[arg(long, value_name = "COUNT", value_delimiter = ',')]
    heads: Option<Vec<usize>>,
    /// Added to the variance in every LayerNorm
    #[arg(long, value_name = "NUMBER")]
    layer_norm_eps: Option<f32>,
    /// Length of an image's shorter side before the centre is cut out
    #[arg(long, value_name = "PIXELS")]
    resize: Option<usize>,
    /// How images are resized
    #[arg(long, value_enum)]
    interpolation: Option<InterpolationFlag>,
    /// Subtracted from each channel, with commas, such as 0.485,0.456,0.406
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    mean: Option<Vec<f32>>,
    /// What each channel is divided by after that, with commas
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    std: Option<Vec<f32>>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum InterpolationFlag {
    Nearest,
    Bilinear,
    Bicubic,
    Lanczos,
}

impl OverrideFlags {
    /// What these flags say of how images become inputs, for a quantized file, which knows the rest.
    pub(super) fn of_inputs(&self) -> OpenOptions {
        let mut options = self.options();
        options.overrides.image_size = None;
        options.overrides.heads = None;
        options.overrides.layer_norm_eps = None;
        options
    }

    pub(super) fn options(&self) -> OpenOptions {
        let interpolation = self.interpolation.map(|flag| match flag {
            InterpolationFlag::Nearest => Interpolation::Nearest,
            InterpolationFlag::Bilinear => Interpolation::Bilinear,
            InterpolationFlag::Bicubic => Interpolation::Bicubic,
            InterpolationFlag::Lanczos => Interpolation::Lanczos,
        });
        let overrides = Overrides {
            image_size: self.image_size,
            heads: self.heads.clone(),
            layer_norm_eps: self.layer_norm_eps,
            resize: self.resize,
            interpolation,
            mean: self.mean.clone(),
            std: self.std.clone(),
        };
        OpenOptions {
            overrides,
            ..OpenOptions::default()
        }
    }
}
