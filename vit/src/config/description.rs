//! All of a model but its weights: sizes, classes, and how its input is made.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    architecture::{Architecture, require},
    labels::Judgement,
    preprocess::Preprocess,
};
use crate::error::Error;

/// Largest side of an image, in pixels.
const MAX_IMAGE: usize = 4096;
/// Largest length to which an image's shorter side is resized.
const MAX_RESIZE: usize = 4 * MAX_IMAGE;

/// Everything that a forward pass and its caller need to know about a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Config {
    /// The kind of model and its sizes.
    pub architecture: Architecture,
    /// Height and width of an image, in pixels.
    pub image_size: usize,
    /// Colour channels of an image.
    pub channels: usize,
    /// Number of logits; 0 for a model without a head.
    pub classes: usize,
    /// Names of the classes, where they have one; empty if the checkpoint names none.
    pub labels: Vec<Option<String>>,
    /// What logits say of the classes.
    #[serde(default)]
    pub judgement: Judgement,
    /// How a photo becomes the model's input.
    pub preprocess: Preprocess,
}

impl Config {
    /// Features of an image: the length of what the head sees of a class token or pooled map.
    pub fn features(&self) -> usize {
        match &self.architecture {
            Architecture::Vit(vit) => vit.width,
            Architecture::Swin(swin) => swin.stage_width(swin.stages.len() - 1),
        }
    }

    /// What class `class` is called, if it has a name.
    pub fn label(&self, class: usize) -> Option<&str> {
        self.labels.get(class)?.as_deref()
    }

    /// Numbers in an image.
    pub fn pixels(&self) -> usize {
        self.channels * self.image_size * self.image_size
    }

    /// Height and width of a patch, in pixels.
    pub fn patch_size(&self) -> usize {
        match &self.architecture {
            Architecture::Vit(vit) => vit.patch_size,
            Architecture::Swin(swin) => swin.patch_size,
        }
    }

    /// Patches along a side of an image.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size()
    }

    /// Patches of an image.
    pub fn patches(&self) -> usize {
        self.grid().pow(2)
    }

    /// Numbers in a patch: the input features of the patch embedding.
    pub fn patch_features(&self) -> usize {
        self.channels * self.patch_size().pow(2)
    }

    /// Turn stored bytes `[n, channels, height, width]` into the model's input.
    ///
    /// # Errors
    ///
    /// [`Error::Size`] if `bytes` is not a whole number of images.
    pub fn normalise(&self, bytes: &[u8]) -> Result<Vec<f32>, Error> {
        let pixels = self.pixels();
        if !bytes.len().is_multiple_of(pixels) {
            let expected = format!("a multiple of {pixels}");
            return Err(Error::Size {
                what: "bytes of images",
                expected,
                got: bytes.len(),
            });
        }
        let Preprocess {
            rescale, mean, std, ..
        } = &self.preprocess;
        let plane = self.image_size * self.image_size;
        let planes = bytes.chunks_exact(plane).enumerate();
        let values = planes.flat_map(|(at, plane)| {
            let (mean, std) = (mean[at % self.channels], std[at % self.channels]);
            plane
                .iter()
                .map(move |&byte| (f32::from(byte) * rescale - mean) / std)
        });
        Ok(values.collect())
    }

    /// Whether buffers made for `other` serve this model too.
    pub(crate) fn same_sizes(&self, other: &Self) -> bool {
        let sizes = |config: &Self| (config.image_size, config.channels, config.classes);
        sizes(self) == sizes(other) && self.architecture == other.architecture
    }

    /// The architecture's name.
    pub(crate) fn family(&self) -> &'static str {
        match &self.architecture {
            Architecture::Vit(vit) if vit.distilled => "distilled DeiT",
            Architecture::Vit(vit) if vit.layer_scale => "DINOv2 ViT",
            Architecture::Vit(_) => "ViT",
            Architecture::Swin(_) => "Swin",
        }
    }

    /// Refuse sizes that no model has, wherever they come from.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let within = |what: &str, value: usize, most: usize| {
            require(
                what,
                (1..=most).contains(&value),
                || format!("1 to {most}"),
                &value,
            )
        };
        within("image size", self.image_size, MAX_IMAGE)?;
        within("channels", self.channels, 1024)?;
        within("patch size", self.patch_size(), self.image_size)?;
        let patch = self.patch_size();
        require(
            "image size",
            self.image_size.is_multiple_of(patch),
            || format!("a multiple of the patch size {patch}"),
            &self.image_size,
        )?;
        let eps = match &self.architecture {
            Architecture::Vit(vit) => {
                vit.check()?;
                vit.layer_norm_eps
            }
            Architecture::Swin(swin) => {
                swin.check()?;
                swin.layer_norm_eps
            }
        };
        let positive = |value: &f32| value.is_finite() && *value > 0.0;
        require(
            "layer_norm_eps",
            positive(&eps),
            || "a positive number".into(),
            &eps,
        )?;
        let Preprocess {
            resize,
            crop,
            rescale,
            mean,
            std,
            ..
        } = &self.preprocess;
        require(
            "crop",
            *crop == self.image_size,
            || self.image_size.to_string(),
            crop,
        )?;
        require(
            "resize",
            (*crop..=MAX_RESIZE).contains(resize),
            || format!("from the crop {crop} to {MAX_RESIZE}"),
            resize,
        )?;
        require(
            "rescale",
            positive(rescale),
            || "a positive number".into(),
            rescale,
        )?;
        let all = |values: &[f32], fits: &dyn Fn(&f32) -> bool| {
            values.len() == self.channels && values.iter().all(fits)
        };
        let numbers = |kind: &str| format!("{} {kind} numbers", self.channels);
        let finite = all(mean, &|value| value.is_finite());
        require("mean", finite, || numbers("finite"), &format!("{mean:?}"))?;
        let positive = all(std, &positive);
        require("std", positive, || numbers("positive"), &format!("{std:?}"))?;
        let named = self.labels.is_empty() || self.labels.len() == self.classes;
        require(
            "labels",
            named,
            || format!("{} names", self.classes),
            &self.labels.len(),
        )
    }
}

/// In a few words.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (size, patch) = (self.image_size, self.patch_size());
        write!(
            f,
            "{}, {size}×{size} pixels, patches of {patch}×{patch}, ",
            self.family()
        )?;
        match &self.architecture {
            Architecture::Vit(vit) => {
                write!(
                    f,
                    "{} blocks, width {}, {} heads",
                    vit.depth, vit.width, vit.heads
                )?;
                match vit.registers {
                    0 => Ok(()),
                    registers => write!(f, ", {registers} registers"),
                }
            }
            Architecture::Swin(swin) => {
                let depths: Vec<String> = swin
                    .stages
                    .iter()
                    .map(|stage| stage.depth.to_string())
                    .collect();
                let window = swin.stages[0].window;
                write!(f, "{} blocks, width {}, ", depths.join("+"), swin.width)?;
                write!(f, "windows of {window}×{window}")
            }
        }
    }
}
