//! How a photo becomes the model's input: `preprocessor_config.json` of Hugging Face, `pretrained_cfg`
//! of timm, or the habits of the architecture.

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// From decoded bytes `0..=255` to the numbers that the model takes: resize, cut out the centre,
/// multiply by `rescale`, subtract `mean`, divide by `std`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preprocess {
    /// Length of the shorter side after resizing, in pixels; of both sides if `keep_aspect` is
    /// false.
    pub resize: usize,
    /// Whether resizing keeps the ratio of the sides.
    pub keep_aspect: bool,
    /// Sides of the square cut out of the centre, in pixels: the model's image size.
    pub crop: usize,
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

/// A side or two, as Hugging Face writes sizes.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
pub(super) enum Size {
    Side(usize),
    Shortest { shortest_edge: usize },
    Both { height: usize, width: usize },
}

impl Size {
    /// The shorter of two.
    fn side(self) -> usize {
        match self {
            Self::Side(side) => side,
            Self::Shortest { shortest_edge } => shortest_edge,
            Self::Both { height, width } => height.min(width),
        }
    }
}

/// `preprocessor_config.json`.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Preprocessor {
    size: Option<Size>,
    crop_size: Option<Size>,
    do_resize: Option<bool>,
    do_center_crop: Option<bool>,
    do_rescale: Option<bool>,
    do_normalize: Option<bool>,
    resample: Option<u32>,
    image_processor_type: Option<String>,
    /// What older files have instead, or as well.
    feature_extractor_type: Option<String>,
    rescale_factor: Option<f32>,
    image_mean: Option<Vec<f32>>,
    image_std: Option<Vec<f32>>,
}

impl Preprocessor {
    /// Sides of the square that is cut out, if one is.
    pub(super) fn crop(&self) -> Option<usize> {
        match self.do_center_crop {
            Some(false) => None,
            _ => self.crop_size.map(Size::side),
        }
    }
}

/// `pretrained_cfg` in timm's `config.json`.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Pretrained {
    pub(super) input_size: Option<Vec<usize>>,
    mean: Option<Vec<f32>>,
    std: Option<Vec<f32>>,
    interpolation: Option<Interpolation>,
    crop_pct: Option<f64>,
}

impl Preprocess {
    /// What the architecture's habits are for this image size.
    pub(super) fn habit(habit: Habit, image_size: usize, channels: usize) -> Self {
        let (mean, std) = match (habit, channels) {
            (Habit::ImageNet | Habit::Dino, 3) => {
                (vec![0.485, 0.456, 0.406], vec![0.229, 0.224, 0.225])
            }
            _ => (vec![0.5; channels], vec![0.5; channels]),
        };
        let resize = match habit {
            Habit::Dino => image_size.saturating_mul(256) / 224,
            _ => (image_size as f64 / 0.9) as usize,
        };
        Self {
            resize,
            keep_aspect: true,
            crop: image_size,
            interpolation: Interpolation::Bicubic,
            rescale: 1.0 / 255.0,
            mean,
            std,
        }
    }

    /// Replace what `preprocessor_config.json` states.
    pub(super) fn apply(&mut self, stated: &Preprocessor, habit: Habit) -> Result<(), Error> {
        for (key, size) in [("size", stated.size), ("crop_size", stated.crop_size)] {
            if let Some(Size::Both { height, width }) = size
                && height != width
            {
                return Err(Error::Setting {
                    what: format!("preprocessor_config.json `{key}`"),
                    expected: "a square".into(),
                    got: format!("{height} × {width}"),
                });
            }
        }
        if let Some(size) = stated.size {
            self.keep_aspect = match size {
                Size::Shortest { .. } => true,
                Size::Both { .. } => false,
                Size::Side(_) => habit == Habit::Dino,
            };
            // In proportion, if the model runs at another size than stated.
            let crop = stated.crop().unwrap_or(size.side()).max(1);
            self.resize = size.side().saturating_mul(self.crop).div_ceil(crop);
        }
        // Images that have the model's size already stay as they are; others have to be resized.
        if stated.do_resize == Some(false) {
            self.resize = self.crop;
        }
        // `ViTImageProcessor`, Swin's too, resizes bilinearly where it does not say otherwise; DeiT's and
        // DINOv2's (`BitImageProcessor`) bicubically.
        let names = [&stated.image_processor_type, &stated.feature_extractor_type];
        let processor = names.into_iter().flatten().next();
        if processor.is_some_and(|name| name.starts_with("ViT")) {
            self.interpolation = Interpolation::Bilinear;
        }
        if let Some(resample) = stated.resample {
            self.interpolation = match resample {
                0 => Interpolation::Nearest,
                1 => Interpolation::Lanczos,
                2 => Interpolation::Bilinear,
                3 => Interpolation::Bicubic,
                other => {
                    return Err(Error::Setting {
                        what: "preprocessor_config.json `resample`".into(),
                        expected: "0 (nearest), 1 (Lanczos), 2 (bilinear) or 3 (bicubic)".into(),
                        got: other.to_string(),
                    });
                }
            };
        }
        if let Some(rescale) = stated.rescale_factor {
            self.rescale = rescale;
        }
        if stated.do_rescale == Some(false) {
            self.rescale = 1.0;
        }
        self.replace(&stated.image_mean, &stated.image_std);
        if stated.do_normalize == Some(false) {
            self.mean.fill(0.0);
            self.std.fill(1.0);
        }
        Ok(())
    }

    /// Replace what timm's `pretrained_cfg` states.
    pub(super) fn apply_timm(&mut self, stated: &Pretrained) {
        if let Some(share) = stated.crop_pct
            && share > 0.0
        {
            self.resize = (self.crop as f64 / share) as usize;
        }
        self.interpolation = stated.interpolation.unwrap_or(self.interpolation);
        self.replace(&stated.mean, &stated.std);
    }

    pub(super) fn replace(&mut self, mean: &Option<Vec<f32>>, std: &Option<Vec<f32>>) {
        for (to, from) in [(&mut self.mean, mean), (&mut self.std, std)] {
            if let Some(from) = from {
                to.clone_from(from);
            }
        }
    }
}
