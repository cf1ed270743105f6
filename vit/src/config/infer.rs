//! Sizes out of the shapes of a few tensors, and the rest out of what the checkpoint states, what
//! the caller asks for, or the habits of the architecture.

use std::fmt::Debug;

use super::{
    architecture::{Architecture, Head, Padding, StageConfig, SwinConfig, VitConfig},
    description::Config,
    overrides::Overrides,
    preprocess::{Habit, Preprocess},
    stated::{Metadata, Sidecars, Sizes, Stated},
};
use crate::{
    checkpoint::{Names, Tensors},
    error::Error,
    warning::Warnings,
};

impl Config {
    /// Work out the sizes from the shapes of a few tensors; all shapes are checked against them when
    /// the tensors are taken. What is assumed is added to
    /// `warnings`.
    pub(crate) fn read(
        tensors: &Tensors<'_>,
        names: &Names,
        sidecars: &Sidecars,
        overrides: &Overrides,
        warnings: &mut Warnings,
    ) -> Result<Self, Error> {
        let none = Stated::default();
        let reader = Reader {
            tensors,
            names,
            stated: sidecars.config.as_ref().unwrap_or(&none),
            overrides,
        };
        if let Some(stated) = &sidecars.config
            && stated.is_swin() != names.is_swin()
        {
            return Err(Error::Setting {
                what: "config.json `model_type`".into(),
                expected: match names.is_swin() {
                    true => "swin, as the tensors are".into(),
                    false => "vit, deit or dinov2, as the tensors are".into(),
                },
                got: match names.is_swin() {
                    true => "another".into(),
                    false => "swin".into(),
                },
            });
        }
        let (architecture, trained_size) = match names.is_swin() {
            true => reader.swin(warnings)?,
            false => reader.vit(warnings)?,
        };
        let habit = match (&sidecars.config, &architecture) {
            (Some(stated), _) => stated.habit(),
            (None, Architecture::Vit(vit)) if vit.layer_scale => Habit::Dino,
            (None, Architecture::Vit(vit)) if !vit.distilled => Habit::Half,
            _ => Habit::ImageNet,
        };
        let preprocessor = sidecars.preprocessor.as_ref();
        // DINOv2 is trained at 518 pixels and run at what its preprocessor cuts out.
        let usual = match habit {
            Habit::Dino => preprocessor.and_then(|stated| stated.crop()),
            _ => None,
        };
        let image_size = overrides.image_size.or(usual).unwrap_or(trained_size);
        let [_, channels, ..] = reader.patch_weight()?;
        let mut preprocess = Preprocess::habit(habit, image_size, channels);
        if let Some(stated) = &reader.stated.pretrained_cfg {
            preprocess.apply_timm(stated);
        }
        if let Some(stated) = preprocessor {
            preprocess.apply(stated, habit)?;
        }
        let unstated = preprocessor.is_none() && reader.stated.pretrained_cfg.is_none();
        if unstated {
            reader.own_or_assumed(&mut preprocess, warnings)?;
        }
        overrides.apply(&mut preprocess, warnings);
        let classes = reader.classes()?;
        let labels = reader.stated.labels();
        let config = Self {
            architecture,
            image_size,
            channels,
            classes,
            labels: match labels.len() == classes {
                true => labels,
                false => Vec::new(),
            },
            preprocess,
        };
        config.check()?;
        Ok(config)
    }
}

struct Reader<'a> {
    tensors: &'a Tensors<'a>,
    names: &'a Names,
    stated: &'a Stated,
    overrides: &'a Overrides,
}

impl Reader<'_> {
    /// Replace the habits of preprocessing by what this crate's own metadata states; the others are
    /// assumptions.
    fn own_or_assumed(
        &self,
        preprocess: &mut Preprocess,
        warnings: &mut Warnings,
    ) -> Result<(), Error> {
        let metadata = Metadata(self.tensors);
        let (mean, std) = (metadata.numbers("mean")?, metadata.numbers("std")?);
        preprocess.replace(&mean, &std);
        let resize = metadata.number("resize", "a number of pixels")?;
        preprocess.resize = resize.unwrap_or(preprocess.resize);
        let interpolation = metadata.interpolation()?;
        preprocess.interpolation = interpolation.unwrap_or(preprocess.interpolation);
        let numbers = |numbers: &[f32]| {
            let numbers: Vec<String> = numbers.iter().map(f32::to_string).collect();
            numbers.join(",")
        };
        if mean.is_none() {
            warnings.assume("mean", numbers(&preprocess.mean), "--mean");
        }
        if std.is_none() {
            warnings.assume("std", numbers(&preprocess.std), "--std");
        }
        if resize.is_none() {
            warnings.assume("resize", preprocess.resize, "--resize");
        }
        if interpolation.is_none() {
            let name = preprocess.interpolation.name();
            warnings.assume("interpolation", name, "--interpolation");
        }
        Ok(())
    }

    /// A ViT, and the image size that its positions were trained at.
    fn vit(&self, warnings: &mut Warnings) -> Result<(Architecture, usize), Error> {
        let [width, channels, patch_size, _] = self.patch_weight()?;
        let distilled = self.has("dist_token");
        let registers = match self.has("reg_token") {
            true => self.shape::<3>("reg_token", "", "[1, registers, width]")?[1],
            false => 0,
        };
        let [_, placed, _] = self.shape("pos_embed", "", "[1, tokens, width]")?;
        let prefix = 1 + usize::from(distilled) + registers;
        let Some((_, grid)) = self.names.position_grid(placed, prefix, registers) else {
            return Err(Error::Shape {
                name: self.names.tensor("pos_embed"),
                expected: format!("[1, {prefix} + a square number, {width}]"),
                got: vec![1, placed, width],
            });
        };
        let depth = self.count(&self.names.block_prefix(None));
        let [mlp_width, _] = self.shape("blocks.0.mlp.fc1", ".weight", "[MLP width, width]")?;
        let trained_size = grid * patch_size;
        let stated = self.stated;
        agree("hidden_size", stated.hidden_size, width)?;
        agree("num_hidden_layers", stated.num_hidden_layers, depth)?;
        agree("intermediate_size", stated.intermediate_size, mlp_width)?;
        agree("num_register_tokens", stated.num_register_tokens, registers)?;
        agree("num_channels", stated.num_channels, channels)?;
        agree(
            "patch_size",
            square("patch_size", &stated.patch_size)?,
            patch_size,
        )?;
        agree(
            "image_size",
            square("image_size", &stated.image_size)?,
            trained_size,
        )?;
        let vit = VitConfig {
            patch_size,
            width,
            depth,
            heads: self.vit_heads(width, warnings)?,
            mlp_width,
            layer_norm_eps: self.layer_norm_eps()?,
            distilled,
            registers,
            layer_scale: self.has("blocks.0.ls1.gamma"),
            head: self.head(width)?,
        };
        Ok((Architecture::Vit(vit), trained_size))
    }

    /// Heads, which no shape tells.
    fn vit_heads(&self, width: usize, warnings: &mut Warnings) -> Result<usize, Error> {
        let expected = "a divisor of the width";
        let metadata = Metadata(self.tensors).number("heads", expected)?;
        let asked = match self.overrides.heads.as_deref() {
            None => None,
            Some([heads]) => Some(*heads),
            Some(several) => {
                return Err(Error::Setting {
                    what: "heads".into(),
                    expected: "one number for a ViT".into(),
                    got: format!("{several:?}"),
                });
            }
        };
        // timm's habit: 64 features a head, but 16 heads from ViT-H to ViT-G.
        let usual = match width {
            1280 | 1408 | 1664 => 16,
            _ => (width / 64).max(1),
        };
        let stated = self.stated.num_attention_heads;
        let stated = stated.or(same(&self.stated.model_args.num_heads));
        Ok(asked.or(stated).or(metadata).unwrap_or_else(|| {
            warnings.assume("heads", usual, "--heads");
            usual
        }))
    }

    fn head(&self, width: usize) -> Result<Head, Error> {
        if !self.has("head.weight") {
            return Ok(Head::ClassToken);
        }
        let [_, inputs] = self.shape("head", ".weight", "[classes, width]")?;
        Ok(match self.has("head_dist.weight") {
            true => Head::ClassAndDistillation,
            false if inputs == 2 * width => Head::ClassAndPatchMean,
            false => Head::ClassToken,
        })
    }

    /// A Swin, and its usual image size.
    fn swin(&self, warnings: &mut Warnings) -> Result<(Architecture, usize), Error> {
        let [width, channels, patch_size, _] = self.patch_weight()?;
        let stage = |at: usize| {
            let block = format!("layers.{at}.blocks.0");
            let table = format!("{block}.attn.relative_position_bias_table");
            let [offsets, heads] = self.shape(&table, "", "[(2 · window − 1)², heads]")?;
            let side = offsets.isqrt();
            if side * side != offsets || side.is_multiple_of(2) {
                return Err(Error::Shape {
                    name: self.names.tensor(&table),
                    expected: format!("[(2 · window − 1)², {heads}]"),
                    got: vec![offsets, heads],
                });
            }
            let fc1 = format!("{block}.mlp.fc1");
            let [mlp_width, _] = self.shape(&fc1, ".weight", "[MLP width, width]")?;
            let window = side.div_ceil(2);
            Ok(StageConfig {
                depth: self.count(&self.names.block_prefix(Some(at))),
                heads,
                window,
                shift: window / 2,
                mlp_width,
            })
        };
        let stages = self.count(&self.names.stage_prefix());
        let stages: Vec<StageConfig> = (0..stages).map(stage).collect::<Result<_, Error>>()?;
        let each = |part: fn(&StageConfig) -> usize| stages.iter().map(part).collect::<Vec<_>>();
        let stated = self.stated;
        agree("embed_dim", stated.embed_dim, width)?;
        agree("depths", stated.depths.clone(), each(|stage| stage.depth))?;
        let heads = each(|stage| stage.heads);
        agree("num_heads", stated.num_heads.clone(), heads.clone())?;
        agree("num_channels", stated.num_channels, channels)?;
        agree(
            "patch_size",
            square("patch_size", &stated.patch_size)?,
            patch_size,
        )?;
        if let Some(asked) = &self.overrides.heads
            && *asked != heads
        {
            return Err(Error::Setting {
                what: "heads".into(),
                expected: format!("{heads:?}, as in the tensors"),
                got: format!("{asked:?}"),
            });
        }
        let timm = stated.pretrained_cfg.as_ref();
        let timm = timm.and_then(|timm| timm.input_size.as_ref()?.get(1..));
        let timm = timm.map(|sides| Sizes::Several(sides.to_vec()));
        let image_size = square("image_size", &stated.image_size)?
            .or(square("img_size", &stated.model_args.img_size)?)
            .or(square("input_size", &timm)?)
            .or(self.overrides.image_size);
        // What Swin is published at.
        let image_size = match (image_size, stages.first().map(|stage| stage.window)) {
            (Some(size), _) => size,
            (None, Some(window @ (7 | 12))) => {
                let size = 32 * window;
                warnings.assume("image size", size, "--image-size");
                size
            }
            _ => {
                return Err(Error::Setting {
                    what: "image size".into(),
                    expected: "it in config.json or given, for no tensor tells".into(),
                    got: "none".into(),
                });
            }
        };
        let swin = SwinConfig {
            patch_size,
            width,
            stages,
            layer_norm_eps: self.layer_norm_eps()?,
            padding: match self.names.is_hugging_face() {
                true => Padding::BeforeShift,
                false => Padding::AfterShift,
            },
        };
        Ok((Architecture::Swin(swin), image_size))
    }

    fn layer_norm_eps(&self) -> Result<f32, Error> {
        let metadata = Metadata(self.tensors).number("layer_norm_eps", "a positive number")?;
        let asked = self.overrides.layer_norm_eps;
        let stated = asked.or(self.stated.layer_norm_eps).or(metadata);
        Ok(stated.unwrap_or(self.names.usual_layer_norm_eps()))
    }

    /// Shape of the patch embedding.
    fn patch_weight(&self) -> Result<[usize; 4], Error> {
        let pattern = "[width, channels, patch, patch]";
        let shape = self.shape("patch_embed.proj", ".weight", pattern)?;
        let [width, channels, patch, patch_width] = shape;
        let stated: Option<usize> = Metadata(self.tensors).number("patch_size", "a number")?;
        if patch_width != patch {
            return Err(Error::Shape {
                name: self.names.tensor("patch_embed.proj") + ".weight",
                expected: format!("[{width}, {channels}, {patch}, {patch}]"),
                got: shape.to_vec(),
            });
        }
        match stated {
            Some(stated) if stated != patch => Err(Error::Setting {
                what: "metadata `noisyquant.patch_size`".into(),
                expected: format!("{patch}, as in the tensors"),
                got: stated.to_string(),
            }),
            _ => Ok(shape),
        }
    }

    fn classes(&self) -> Result<usize, Error> {
        match self.has("head.weight") || self.has("head.bias") {
            true => Ok(self.shape::<2>("head", ".weight", "[classes, width]")?[0]),
            false => Ok(0),
        }
    }

    fn has(&self, name: &str) -> bool {
        let (layer, part) = match name.rsplit_once('.') {
            Some((layer, part @ ("weight" | "bias"))) => (layer, format!(".{part}")),
            _ => (name, String::new()),
        };
        self.tensors.contains(&(self.names.tensor(layer) + &part))
    }

    fn shape<const RANK: usize>(
        &self,
        name: &str,
        part: &str,
        pattern: &str,
    ) -> Result<[usize; RANK], Error> {
        self.tensors
            .shape(&(self.names.tensor(name) + part), pattern)
    }

    /// One more than the largest number that follows `prefix` in a name, and at least one: what is
    /// missing is named when it is taken.
    fn count(&self, prefix: &str) -> usize {
        let numbers = self.tensors.names().filter_map(|name| {
            let (number, _) = name.strip_prefix(prefix)?.split_once('.')?;
            number.parse::<usize>().ok()
        });
        numbers.max().unwrap_or(0).saturating_add(1)
    }
}

fn same(sizes: &Option<Sizes>) -> Option<usize> {
    sizes.as_ref().and_then(Sizes::same)
}

/// A side that `config.json` states; refuses two that differ.
fn square(key: &str, sizes: &Option<Sizes>) -> Result<Option<usize>, Error> {
    match (sizes, same(sizes)) {
        (Some(Sizes::Several(sides)), None) => Err(Error::Setting {
            what: format!("config.json `{key}`"),
            expected: "a square".into(),
            got: format!("{sides:?}"),
        }),
        (_, side) => Ok(side),
    }
}

/// Refuse a `config.json` that contradicts the tensors.
fn agree<T: PartialEq + Debug>(key: &str, stated: Option<T>, found: T) -> Result<(), Error> {
    match stated {
        Some(stated) if stated != found => Err(Error::Setting {
            what: format!("config.json `{key}`"),
            expected: format!("{found:?}, as in the tensors"),
            got: format!("{stated:?}"),
        }),
        _ => Ok(()),
    }
}
