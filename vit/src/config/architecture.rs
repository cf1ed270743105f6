//! The kinds of models and their sizes.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Largest side of a window, in tokens: biases and masks grow with its fourth power.
const MAX_WINDOW: usize = 32;
/// Most features of a token or a hidden layer: what a quantized layer takes.
const MAX_WIDTH: usize = 65_536;

/// The kinds of models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Architecture {
    /// ViT, DeiT or DINOv2.
    Vit(VitConfig),
    /// Swin.
    Swin(SwinConfig),
}

/// Sizes of a vision transformer whose tokens all attend to each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
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
    /// Between the layers of an MLP.
    #[serde(default)]
    pub activation: Activation,
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

/// What is between the layers of an MLP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Activation {
    /// GELU with the error function, `x · Φ(x)`.
    #[default]
    Gelu,
    /// GELU approximated by tanh.
    GeluTanh,
    /// `x · sigmoid(1.702 x)`.
    QuickGelu,
}

impl Activation {
    /// As layers know it.
    pub(crate) fn function(self) -> noisyquant::Activation {
        match self {
            Self::Gelu => noisyquant::Activation::Gelu,
            Self::GeluTanh => noisyquant::Activation::GeluTanh,
            Self::QuickGelu => noisyquant::Activation::QuickGelu,
        }
    }
}

/// What logits are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Head {
    /// One layer on the class token.
    ClassToken,
    /// The mean of one layer on the class token and another on the distillation token.
    ClassAndDistillation,
    /// One layer on the class token and the mean of the patch tokens, side by side.
    ClassAndPatchMean,
    /// One layer on the mean of the patch tokens, each of which went through the last norm.
    PatchMean,
    /// One layer on what the last norm makes of the mean of the patch tokens.
    NormedPatchMean,
}

/// Sizes of a Swin transformer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SwinConfig {
    /// Height and width of a patch, in pixels; divides the image size.
    pub patch_size: usize,
    /// Features of a token in the first stage; each stage has twice as many as the one before.
    pub width: usize,
    /// The stages.
    pub stages: Vec<StageConfig>,
    /// Added to the variance in the LayerNorms of the blocks and the last one; 1e-5 is in the others.
    pub layer_norm_eps: f32,
    /// Between the layers of an MLP.
    #[serde(default)]
    pub activation: Activation,
    /// When a feature map is padded to whole windows.
    pub padding: Padding,
}

/// Sizes of one stage of a Swin transformer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
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
#[non_exhaustive]
pub enum Padding {
    /// Before the cyclic shift, as transformers does.
    BeforeShift,
    /// After the cyclic shift, as timm does.
    AfterShift,
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

impl VitConfig {
    pub(super) fn check(&self) -> Result<(), Error> {
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
    pub(super) fn check(&self) -> Result<(), Error> {
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

/// Refuse a setting unless what it has to be `holds`.
pub(super) fn require(
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
