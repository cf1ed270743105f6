//! How a photo becomes the model's input: `pretrained_cfg` of timm, or the habits of the architecture.

use serde::{Deserialize, Serialize};

use crate::{checkpoint::Entries, error::Error};

const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// From decoded bytes `0..=255` to the numbers that the model takes: resize, cut out the centre,
/// multiply by `rescale`, subtract `mean`, divide by `std`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preprocess {
    /// Length of the shorter side after resizing, in pixels; of the longer side if there is a `border`; of
    /// both sides if `keep_aspect` is false.
    pub resize: usize,
    /// Whether resizing keeps the ratio of the sides.
    pub keep_aspect: bool,
    /// Whether images that are smaller than the crop when resized get a border of the `mean` around them.
    #[serde(default)]
    pub border: bool,
    /// Sides of the square cut out of the centre, in pixels: the model's image size.
    pub crop: usize,
    /// Whether the crop is cut at the even pixel where the centre lies between two, as torchvision does;
    /// else at the upper and left one, as transformers does.
    #[serde(default)]
    pub half_to_even: bool,
    /// How pixels between pixels are found.
    pub interpolation: Interpolation,
    /// What bytes are multiplied by, usually 1/255.
    pub rescale: f32,
    /// Subtracted from each channel after that. One per channel.
    pub mean: Vec<f32>,
    /// What each channel is divided by at last. One per channel, positive.
    pub std: Vec<f32>,
}

/// How resizing finds pixels between pixels, in the sense of Pillow's filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum Interpolation {
    Nearest,
    Bilinear,
    Bicubic,
    Lanczos,
}

impl Interpolation {
    /// What its name is in configurations.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nearest => "nearest",
            Self::Bilinear => "bilinear",
            Self::Bicubic => "bicubic",
            Self::Lanczos => "lanczos",
        }
    }

    /// That of this name.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        let all = [Self::Nearest, Self::Bilinear, Self::Bicubic, Self::Lanczos];
        all.into_iter()
            .find(|interpolation| interpolation.name() == name)
    }
}

/// Which statistics and sizes an architecture was trained with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// ViT as in "How to train your ViT": mean and standard deviation 0.5.
    Half,
    /// ImageNet's mean and standard deviation.
    ImageNet,
    /// The same, and a crop of 224 out of 256.
    Dino,
}

impl Preprocess {
    /// What the architecture's habits are for this image size.
    pub(super) fn habit(habit: Habit, image_size: usize, channels: usize) -> Self {
        let (mean, std) = match (habit, channels) {
            (Habit::ImageNet | Habit::Dino, 3) => (IMAGENET_MEAN.to_vec(), IMAGENET_STD.to_vec()),
            _ => (vec![0.5; channels], vec![0.5; channels]),
        };
        let resize = match habit {
            Habit::Dino => image_size.saturating_mul(256) / 224,
            _ => (image_size as f64 / 0.9) as usize,
        };
        Self {
            resize,
            keep_aspect: true,
            border: false,
            crop: image_size,
            half_to_even: false,
            interpolation: Interpolation::Bicubic,
            rescale: 1.0 / 255.0,
            mean,
            std,
        }
    }

    /// What timm does with this `pretrained_cfg`: what it leaves out has timm's defaults.
    pub(super) fn timm(
        stated: &Entries,
        image_size: usize,
        channels: usize,
    ) -> Result<Self, Error> {
        let of = |key: &str, usual: [f32; 3]| -> Result<Vec<f32>, Error> {
            let numbers = stated.numbers(key)?.filter(|numbers| !numbers.is_empty());
            Ok(match numbers {
                Some(one) if one.len() == 1 => vec![one[0]; channels],
                Some(several) => several,
                None => usual.to_vec(),
            })
        };
        // timm takes 0 for none, too.
        let share = stated.number("crop_pct")?.filter(|share| *share != 0.0);
        let share = share.unwrap_or(0.875);
        if !(share > 0.0 && share <= 1.0) {
            return Err(stated.refuse("crop_pct", "a share of at most 1"));
        }
        let mode = stated.text("crop_mode")?;
        let (keep_aspect, border) = match mode.as_deref() {
            None | Some("" | "center") => (true, false),
            Some("squash") => (false, false),
            Some("border") => (true, true),
            Some(_) => return Err(stated.refuse("crop_mode", "center, squash or border")),
        };
        let interpolation = stated.text("interpolation")?;
        Ok(Self {
            resize: (image_size as f64 / share) as usize,
            keep_aspect,
            border,
            crop: image_size,
            half_to_even: true,
            interpolation: match interpolation.as_deref() {
                None | Some("") => Interpolation::Bicubic,
                Some(name) => Interpolation::from_name(name).ok_or_else(|| {
                    let names = "nearest, bilinear, bicubic or lanczos";
                    stated.refuse("interpolation", names)
                })?,
            },
            rescale: 1.0 / 255.0,
            mean: of("mean", IMAGENET_MEAN)?,
            std: of("std", IMAGENET_STD)?,
        })
    }

    /// The first pixel of the crop along a side of so many, counted from one crop before the image, so that
    /// a border before it needs no sign.
    pub(crate) fn start(&self, size: usize) -> usize {
        let crop = self.crop;
        match size.checked_sub(crop) {
            // A border of an odd number of pixels has one more behind than before.
            None => crop - (crop - size) / 2,
            Some(rest) if self.half_to_even && rest % 4 == 3 => crop + rest / 2 + 1,
            Some(rest) => crop + rest / 2,
        }
    }

    pub(super) fn replace(&mut self, mean: &Option<Vec<f32>>, std: &Option<Vec<f32>>) {
        for (to, from) in [(&mut self.mean, mean), (&mut self.std, std)] {
            if let Some(from) = from {
                to.clone_from(from);
            }
        }
    }
}
