//! The sizes of a model and how its input is made: everything but the weights.

mod infer;
mod preprocess;
mod stated;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Error;
pub(crate) use infer::position_grid;
pub use preprocess::{Interpolation, Preprocess};
pub(crate) use stated::Sidecars;

/// Largest side of an image, in pixels.
const MAX_IMAGE: usize = 4096;
/// Largest length to which an image's shorter side is resized.
const MAX_RESIZE: usize = 4 * MAX_IMAGE;
/// Largest side of a window, in tokens: biases and masks grow with its fourth power.
const MAX_WINDOW: usize = 32;
/// Most features of a token or a hidden layer: what a quantized layer takes.
const MAX_WIDTH: usize = 65_536;

/// Everything that a forward pass and its caller need to know about a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The kind of model and its sizes.
    pub architecture: Architecture,
    /// Height and width of an image, in pixels.
    pub image_size: usize,
    /// Colour channels of an image.
    pub channels: usize,
    /// Number of logits; 0 for a model without a head.
    pub classes: usize,
    /// Names of the classes; none if the checkpoint has none.
    pub labels: Vec<String>,
    /// How a photo becomes the model's input.
    pub preprocess: Preprocess,
}

/// The kinds of models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// ViT, DeiT or DINOv2.
    Vit(VitConfig),
    /// Swin.
    Swin(SwinConfig),
}

/// Sizes of a vision transformer whose tokens all attend to each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VitConfig {
    /// Height and width of a patch, in pixels; divides the image size.
    pub patch_size: usize,
    /// Features of a token.
    pub width: usize,
    /// Number of transformer blocks.
    pub depth: usize,
    /// Attention heads; divides `width`.
    pub heads: usize,
    /// Features of the hidden layer of a block's MLP.
    pub mlp_width: usize,
    /// Added to the variance in every LayerNorm.
    pub layer_norm_eps: f32,
    /// Whether a distillation token follows the class token.
    pub distilled: bool,
    /// Register tokens after these.
    pub registers: usize,
    /// Whether the checkpoint scales the output of each branch per channel (LayerScale). The scales
    /// are multiplied into the weights of the branch's last layer when a model is loaded.
    pub layer_scale: bool,
    /// What the logits are made of.
    pub head: Head,
}

/// What logits are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    /// One layer on the class token.
    ClassToken,
    /// The mean of one layer on the class token and another on the distillation token.
    ClassAndDistillation,
    /// One layer on the class token and the mean of the patch tokens, side by side.
    ClassAndPatchMean,
}

/// Sizes of a Swin transformer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SwinConfig {
    /// Height and width of a patch, in pixels; divides the image size.
    pub patch_size: usize,
    /// Features of a token in the first stage; each stage has twice as many as the one before.
    pub width: usize,
    /// The stages.
    pub stages: Vec<StageConfig>,
    /// Added to the variance in the LayerNorms of the blocks and the last one; 1e-5 is in the others.
    pub layer_norm_eps: f32,
    /// When a feature map is padded to whole windows.
    pub padding: Padding,
}

/// Sizes of one stage of a Swin transformer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageConfig {
    /// Number of blocks; every second one shifts its windows.
    pub depth: usize,
    /// Attention heads; divides the features of a token.
    pub heads: usize,
    /// Height and width of a window, in tokens.
    pub window: usize,
    /// How far every second block's windows are shifted, in tokens, where there are several.
    pub shift: usize,
    /// Features of the hidden layer of a block's MLP.
    pub mlp_width: usize,
}

/// When Swin pads a feature map that windows do not divide. It matters: zeros shifted into the map
/// lie elsewhere than zeros added to the shifted map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Padding {
    /// Before the cyclic shift, as transformers does.
    BeforeShift,
    /// After the cyclic shift, as timm does.
    AfterShift,
}

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

impl VitConfig {
    /// Tokens before the patches: class, distillation and register tokens.
    pub fn prefix_tokens(&self) -> usize {
        1 + usize::from(self.distilled) + self.registers
    }
}

impl SwinConfig {
    /// Features of a token in stage `stage`, counted from 0.
    pub fn stage_width(&self, stage: usize) -> usize {
        self.width << stage
    }
}

impl Config {
    /// Features of an image: the length of what the head sees of a class token or pooled map.
    pub fn features(&self) -> usize {
        match &self.architecture {
            Architecture::Vit(vit) => vit.width,
            Architecture::Swin(swin) => swin.stage_width(swin.stages.len() - 1),
        }
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

impl VitConfig {
    fn check(&self) -> Result<(), Error> {
        let Self { width, heads, .. } = *self;
        for (what, value, most) in [
            ("width", width, MAX_WIDTH / 3),
            ("MLP width", self.mlp_width, MAX_WIDTH),
            ("depth", self.depth, 1024),
        ] {
            require(
                what,
                (1..=most).contains(&value),
                || format!("1 to {most}"),
                &value,
            )?;
        }
        check_heads(heads, width)?;
        let registers = self.registers <= 1024;
        require(
            "registers",
            registers,
            || "at most 1024".into(),
            &self.registers,
        )?;
        let possible = self.distilled || self.head != Head::ClassAndDistillation;
        require(
            "head",
            possible,
            || "a distillation token for its head".into(),
            &"none",
        )
    }
}

impl SwinConfig {
    fn check(&self) -> Result<(), Error> {
        let stages = self.stages.len();
        require(
            "stages",
            (1..=8).contains(&stages),
            || "1 to 8".into(),
            &stages,
        )?;
        let most = MAX_WIDTH >> (stages + 2);
        require(
            "width",
            (1..=most).contains(&self.width),
            || format!("1 to {most}"),
            &self.width,
        )?;
        for (at, stage) in self.stages.iter().enumerate() {
            check_heads(stage.heads, self.stage_width(at))?;
            for (what, value, most) in [
                ("depth", stage.depth, 1024),
                ("window", stage.window, MAX_WINDOW),
                ("shift + 1", stage.shift.saturating_add(1), stage.window),
                ("MLP width", stage.mlp_width, MAX_WIDTH),
            ] {
                require(
                    what,
                    (1..=most).contains(&value),
                    || format!("1 to {most}"),
                    &value,
                )?;
            }
        }
        Ok(())
    }
}

fn check_heads(heads: usize, width: usize) -> Result<(), Error> {
    let divides = heads > 0 && width.is_multiple_of(heads);
    require(
        "heads",
        divides,
        || format!("a divisor of the width {width}"),
        &heads,
    )
}

fn require(
    what: &str,
    holds: bool,
    expected: impl Fn() -> String,
    got: &dyn fmt::Display,
) -> Result<(), Error> {
    match holds {
        true => Ok(()),
        false => Err(Error::Setting {
            what: what.into(),
            expected: expected(),
            got: got.to_string(),
        }),
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
