//! `config.json` of timm, as timm reads it: what images are like in `pretrained_cfg`, or in older files at
//! the top level; arguments that differ from the architecture's in `model_args`.

use super::{
    architecture::{Activation, SwinConfig, VitConfig},
    preprocess::Habit,
};
use crate::{checkpoint::Entries, error::Error};

/// What names of supported architectures begin with.
const ARCHITECTURES: [&str; 4] = ["vit_", "deit_", "deit3_", "swin_"];

/// Sizes of ViTs by name: width and heads.
const SIZES: [(&str, usize, usize); 20] = [
    ("tiny", 192, 3),
    ("wee", 256, 4),
    ("pwee", 256, 4),
    ("dwee", 256, 4),
    ("dpwee", 256, 4),
    ("xsmall", 256, 4),
    ("little", 320, 5),
    ("dlittle", 320, 5),
    ("small", 384, 6),
    ("medium", 512, 8),
    ("mediumd", 512, 8),
    ("betwixt", 640, 10),
    ("base", 768, 12),
    ("so150m2", 832, 13),
    ("so150m", 896, 14),
    ("large", 1024, 16),
    ("so400m", 1152, 16),
    ("huge", 1280, 16),
    ("giant", 1408, 16),
    ("gigantic", 1664, 16),
];

/// Arguments that do not change what inference computes.
const OF_TRAINING: [&str; 15] = [
    "attn_drop_rate",
    "device",
    "drop_path_rate",
    "drop_rate",
    "dtype",
    "dynamic_img_size",
    "fix_init",
    "patch_drop_rate",
    "pos_drop_rate",
    "pretrained",
    "proj_drop_rate",
    "scriptable",
    "exportable",
    "strict_img_size",
    "weight_init",
];

/// How a ViT of timm makes features of its tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pool {
    Token,
    Mean,
}

/// A configuration of timm.
#[derive(Clone, Debug)]
pub(super) struct Timm {
    architecture: String,
    top: Entries,
    pretrained: Entries,
    arguments: Entries,
}

/// What a few tensors tell of a ViT beside its sizes.
pub(super) struct VitFacts {
    pub(super) image_size: usize,
    pub(super) channels: usize,
    /// None without a head.
    pub(super) classes: Option<usize>,
    pub(super) qkv_bias: bool,
    pub(super) proj_bias: bool,
    /// Whether only patches have positions.
    pub(super) no_embed_class: bool,
    /// Whether the last norm follows the mean over tokens.
    pub(super) fc_norm: bool,
}

impl Timm {
    /// Refuse what is no supported architecture.
    pub(super) fn new(top: Entries) -> Result<Self, Error> {
        let architecture = top.text("architecture")?.unwrap_or_default();
        if !ARCHITECTURES
            .iter()
            .any(|known| architecture.starts_with(known))
        {
            return Err(top.refuse("architecture", "timm's vit, deit or swin"));
        }
        let pretrained = match top.has("pretrained_cfg") {
            true => top.object("pretrained_cfg")?,
            false => top.clone(),
        };
        let arguments = top.object("model_args")?;
        Ok(Self {
            architecture,
            top,
            pretrained,
            arguments,
        })
    }

    pub(super) fn pretrained(&self) -> &Entries {
        &self.pretrained
    }

    pub(super) fn arguments(&self) -> &Entries {
        &self.arguments
    }

    pub(super) fn is_swin(&self) -> bool {
        self.architecture.starts_with("swin")
    }

    pub(super) fn habit(&self) -> Habit {
        match () {
            () if self.architecture.contains("dinov2") => Habit::Dino,
            () if self.architecture.starts_with("vit") => Habit::Half,
            () => Habit::ImageNet,
        }
    }

    /// The object or list of names of classes, and what it is called.
    pub(super) fn labels(&self) -> Option<(&Entries, &'static str)> {
        let places = [
            (&self.top, "label_names"),
            (&self.pretrained, "label_names"),
            (&self.pretrained, "labels"),
        ];
        places.into_iter().find(|(entries, key)| entries.has(key))
    }

    /// The side of the images, if it is stated.
    pub(super) fn image_size(&self) -> Result<Option<usize>, Error> {
        if let Some(size) = self.arguments.square("img_size")? {
            return Ok(Some(size));
        }
        let key = "input_size";
        match self.pretrained.counts(key)?.as_deref() {
            None => Ok(None),
            Some([_, height, width]) if height == width => Ok(Some(*height)),
            Some(_) => Err(self.pretrained.refuse(key, "channels and a square")),
        }
    }

    /// Heads of a ViT of this width, if an argument or the architecture's name tells.
    pub(super) fn heads(&self, width: usize) -> Result<Option<usize>, Error> {
        if let Some(heads) = self.arguments.count("num_heads")? {
            return Ok(Some(heads));
        }
        let size = self.architecture.split('_').nth(1);
        let known = SIZES
            .iter()
            .find(|(name, of, _)| Some(*name) == size && *of == width);
        Ok(known.map(|(_, _, heads)| *heads))
    }

    pub(super) fn activation(&self) -> Result<Activation, Error> {
        let stated = self.arguments.text("act_layer")?;
        match stated.as_deref().unwrap_or_default() {
            "" if self.architecture.contains("quickgelu") => Ok(Activation::QuickGelu),
            "" | "gelu" => Ok(Activation::Gelu),
            "gelu_tanh" => Ok(Activation::GeluTanh),
            "quick_gelu" => Ok(Activation::QuickGelu),
            _ => Err(self
                .arguments
                .refuse("act_layer", "gelu, gelu_tanh or quick_gelu")),
        }
    }

    /// How features are pooled, if it is stated.
    pub(super) fn pool(&self) -> Result<Option<Pool>, Error> {
        for entries in [&self.arguments, &self.top] {
            return match entries.text("global_pool")?.as_deref() {
                None => continue,
                Some("token") => Ok(Some(Pool::Token)),
                Some("avg") => Ok(Some(Pool::Mean)),
                Some(_) => Err(entries.refuse("global_pool", "token or avg")),
            };
        }
        Ok(None)
    }

    /// Refuse what contradicts the tensors of a ViT, and arguments that are not known here.
    pub(super) fn agree_vit(&self, vit: &VitConfig, facts: &VitFacts) -> Result<(), Error> {
        self.agree_classes(facts.classes)?;
        self.agree_input(facts.image_size, facts.channels)?;
        let arguments = &self.arguments;
        for key in arguments.keys() {
            match key {
                "img_size" => self.agree_square(key, facts.image_size),
                "patch_size" => self.agree_square(key, vit.patch_size),
                "in_chans" => self.agree_count(key, facts.channels),
                "embed_dim" => self.agree_count(key, vit.width),
                "depth" => self.agree_count(key, vit.depth),
                "reg_tokens" => self.agree_count(key, vit.registers),
                "num_classes" => self.agree_count(key, facts.classes.unwrap_or(0)),
                "mlp_ratio" => self.agree_ratio(vit.width, vit.mlp_width),
                "init_values" => self.agree_flag(key, Some(true), vit.layer_scale),
                "qkv_bias" => self.agree_flag(key, arguments.flag(key)?, facts.qkv_bias),
                "proj_bias" => self.agree_flag(key, arguments.flag(key)?, facts.proj_bias),
                "no_embed_class" => {
                    self.agree_flag(key, arguments.flag(key)?, facts.no_embed_class)
                }
                "fc_norm" => self.agree_flag(key, arguments.flag(key)?, facts.fc_norm),
                "distilled" => self.agree_flag(key, arguments.flag(key)?, vit.distilled),
                "class_token" | "final_norm" => self.agree_flag(key, arguments.flag(key)?, true),
                "qk_norm"
                | "scale_attn_norm"
                | "scale_mlp_norm"
                | "pre_norm"
                | "use_naflex"
                | "pool_include_prefix"
                | "dynamic_img_pad" => self.require_off(key),
                "pos_embed" => self.require_text(key, "learn"),
                "norm_layer" => self.require_text(key, "layernorm"),
                "num_heads" | "act_layer" | "global_pool" => Ok(()),
                key => self.of_training(key),
            }?;
        }
        Ok(())
    }

    /// Refuse what contradicts the tensors of a Swin, and arguments that are not known here.
    pub(super) fn agree_swin(
        &self,
        swin: &SwinConfig,
        channels: usize,
        classes: Option<usize>,
    ) -> Result<(), Error> {
        self.agree_classes(classes)?;
        let arguments = &self.arguments;
        let each = |part: fn(&super::StageConfig) -> usize| swin.stages.iter().map(part).collect();
        for key in arguments.keys() {
            match key {
                "patch_size" => self.agree_square(key, swin.patch_size),
                "in_chans" => self.agree_count(key, channels),
                "embed_dim" => self.agree_count(key, swin.width),
                "num_classes" => self.agree_count(key, classes.unwrap_or(0)),
                "depths" => {
                    let depths: Vec<usize> = each(|stage| stage.depth);
                    arguments.agree(key, arguments.counts(key)?, depths)
                }
                "num_heads" => {
                    let heads: Vec<usize> = each(|stage| stage.heads);
                    arguments.agree(key, arguments.counts(key)?, heads)
                }
                "window_size" => self.agree_windows(&each(|stage| stage.window)),
                "mlp_ratio" => {
                    let mut stages = swin.stages.iter().enumerate();
                    stages.try_for_each(|(at, stage)| {
                        self.agree_ratio(swin.stage_width(at), stage.mlp_width)
                    })
                }
                "global_pool" => self.require_text(key, "avg"),
                "always_partition" => self.require_off(key),
                // A bias that is missing is named where it is looked for.
                "img_size" | "qkv_bias" => Ok(()),
                key => self.of_training(key),
            }?;
        }
        match self.top.text("global_pool")?.as_deref() {
            None | Some("avg") => Ok(()),
            Some(_) => Err(self.top.refuse("global_pool", "avg")),
        }
    }

    /// Refuse another size of images than the model's.
    fn agree_input(&self, image_size: usize, channels: usize) -> Result<(), Error> {
        let key = "input_size";
        let found = vec![channels, image_size, image_size];
        // timm makes a model for the argument, and leaves this as it was trained.
        match self.arguments.has("img_size") || self.arguments.has("in_chans") {
            true => Ok(()),
            false => self
                .pretrained
                .agree(key, self.pretrained.counts(key)?, found),
        }
    }

    fn agree_classes(&self, classes: Option<usize>) -> Result<(), Error> {
        let key = "num_classes";
        let entries = [&self.top, &self.pretrained];
        match (
            classes,
            entries.into_iter().find(|entries| entries.has(key)),
        ) {
            (Some(classes), Some(entries)) => entries.agree(key, entries.count(key)?, classes),
            _ => Ok(()),
        }
    }

    fn agree_count(&self, key: &str, found: usize) -> Result<(), Error> {
        self.arguments.agree(key, self.arguments.count(key)?, found)
    }

    fn agree_square(&self, key: &str, found: usize) -> Result<(), Error> {
        self.arguments
            .agree(key, self.arguments.square(key)?, found)
    }

    fn agree_flag(&self, key: &str, stated: Option<bool>, found: bool) -> Result<(), Error> {
        self.arguments.agree(key, stated, found)
    }

    /// Windows for all stages at once, which a small feature map may have made smaller, or for each.
    fn agree_windows(&self, found: &[usize]) -> Result<(), Error> {
        let key = "window_size";
        let fits = match self.arguments.counts(key)?.as_deref() {
            None => true,
            Some([one]) => found.iter().all(|window| window <= one) && found.first() == Some(one),
            Some(several) => several == found,
        };
        match fits {
            true => Ok(()),
            false => {
                let expected = format!("{found:?}, as in the tensors");
                Err(self.arguments.refuse(key, &expected))
            }
        }
    }

    fn agree_ratio(&self, width: usize, mlp_width: usize) -> Result<(), Error> {
        let key = "mlp_ratio";
        match self.arguments.number(key)? {
            Some(ratio) if (width as f64 * ratio) as usize != mlp_width => {
                let expected = format!("{mlp_width} / {width}, as in the tensors");
                Err(self.arguments.refuse(key, &expected))
            }
            _ => Ok(()),
        }
    }

    fn require_off(&self, key: &str) -> Result<(), Error> {
        match self.arguments.flag(key)? {
            Some(true) => Err(self.arguments.refuse(key, "false")),
            _ => Ok(()),
        }
    }

    fn require_text(&self, key: &str, expected: &str) -> Result<(), Error> {
        match self.arguments.text(key)? {
            Some(text) if text != expected => Err(self.arguments.refuse(key, expected)),
            _ => Ok(()),
        }
    }

    fn of_training(&self, key: &str) -> Result<(), Error> {
        match OF_TRAINING.contains(&key) {
            true => Ok(()),
            false => Err(self
                .arguments
                .refuse(key, "no argument but those that are known here")),
        }
    }
}
