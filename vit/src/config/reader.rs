//! What the tensors of a checkpoint tell, one shape at a time, and what else it says.

use super::{
    architecture::{Activation, Architecture},
    labels::{self, Judgement},
    overrides::Overrides,
    preprocess::{Habit, Preprocess},
    stated::{Metadata, Stated},
};
use crate::{
    checkpoint::{Entries, Names, Tensors},
    error::Error,
    warning::Warnings,
};

/// A checkpoint whose configuration is being worked out.
pub(super) struct Reader<'a> {
    pub(super) tensors: &'a Tensors<'a>,
    pub(super) names: &'a Names,
    pub(super) stated: &'a Stated,
    pub(super) overrides: &'a Overrides,
}

impl Reader<'_> {
    /// Refuse a `config.json` of another architecture.
    pub(super) fn agree_kind(&self) -> Result<(), Error> {
        let key = match self.stated {
            Stated::Timm(_) => "architecture",
            _ => "model_type",
        };
        let (expected, got) = match (self.stated.is_swin(), self.names.is_swin()) {
            (Some(false), true) => ("swin", "another"),
            (Some(true), false) => ("vit, deit or dinov2", "swin"),
            _ => return Ok(()),
        };
        Err(Error::Setting {
            what: format!("config.json `{key}`"),
            expected: format!("{expected}, as the tensors are"),
            got: got.into(),
        })
    }

    /// How the architecture's images are usually made.
    pub(super) fn habit(&self, architecture: &Architecture) -> Habit {
        match (self.stated, architecture) {
            (Stated::HuggingFace(stated), _) => stated.habit(),
            (Stated::Timm(stated), _) => stated.habit(),
            (Stated::Nothing, Architecture::Vit(vit)) if vit.layer_scale => Habit::Dino,
            (Stated::Nothing, Architecture::Vit(vit)) if !vit.distilled => Habit::Half,
            _ => Habit::ImageNet,
        }
    }

    pub(super) fn labels(
        &self,
        classes: usize,
        warnings: &mut Warnings,
    ) -> Result<Vec<Option<String>>, Error> {
        let (entries, key) = match self.stated {
            Stated::Nothing => return Ok(Vec::new()),
            Stated::HuggingFace(stated) => (stated.entries(), "id2label"),
            Stated::Timm(stated) => match stated.labels() {
                Some(labels) => labels,
                None => return Ok(Vec::new()),
            },
        };
        labels::read(entries, key, classes, warnings)
    }

    pub(super) fn judgement(&self, classes: usize) -> Result<Judgement, Error> {
        let several = match self.stated {
            Stated::HuggingFace(stated) => stated.several_labels()?,
            _ => None,
        };
        Ok(match several {
            Some(true) => Judgement::EachAlone,
            _ => Judgement::usual(classes),
        })
    }

    pub(super) fn activation(&self) -> Result<Activation, Error> {
        match self.stated {
            Stated::Nothing => Ok(Activation::Gelu),
            Stated::HuggingFace(stated) => stated.activation(),
            Stated::Timm(stated) => stated.activation(),
        }
    }

    /// Replace the habits of preprocessing by what this crate's own metadata states; the others are
    /// assumptions.
    pub(super) fn own_or_guessed(
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
            warnings.guess("mean", numbers(&preprocess.mean), "--mean");
        }
        if std.is_none() {
            warnings.guess("std", numbers(&preprocess.std), "--std");
        }
        if resize.is_none() {
            warnings.guess("resize", preprocess.resize, "--resize");
        }
        if interpolation.is_none() {
            let name = preprocess.interpolation.name();
            warnings.guess("interpolation", name, "--interpolation");
        }
        Ok(())
    }

    pub(super) fn layer_norm_eps(&self, warnings: &mut Warnings) -> Result<f32, Error> {
        if let Some(asked) = self.overrides.layer_norm_eps {
            return Ok(asked);
        }
        if let Stated::HuggingFace(stated) = self.stated {
            return stated.layer_norm_eps();
        }
        let own = Metadata(self.tensors).number("layer_norm_eps", "a positive number")?;
        Ok(own.unwrap_or_else(|| {
            let usual = self.names.usual_layer_norm_eps();
            // timm's configurations never state it.
            if self.names.is_hugging_face() {
                warnings.guess("layer_norm_eps", format!("{usual:e}"), "--layer-norm-eps");
            }
            usual
        }))
    }

    /// Shape of the patch embedding.
    pub(super) fn patch_weight(&self) -> Result<[usize; 4], Error> {
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

    pub(super) fn classes(&self) -> Result<usize, Error> {
        match self.has("head.weight") || self.has("head.bias") {
            true => Ok(self.shape::<2>("head", ".weight", "[classes, width]")?[0]),
            false => Ok(0),
        }
    }

    /// Classes of the head, if there is one.
    pub(super) fn head_classes(&self) -> Result<Option<usize>, Error> {
        Ok(Some(self.classes()?).filter(|classes| *classes > 0))
    }

    /// Whether layer `name`, or a part of it that is stored by itself, has a bias.
    pub(super) fn has_bias(&self, name: &str) -> bool {
        let layers = self.names.layers(name).into_iter();
        let apart = self.names.qv_biases(name).into_iter().flatten();
        let mut biases = layers.map(|layer| format!("{layer}.bias")).chain(apart);
        biases.any(|bias| self.tensors.contains(&bias))
    }

    /// Refuse a statement on the biases of queries, keys and values that contradicts the tensors.
    pub(super) fn agree_qkv_bias(&self, entries: &Entries, name: &str) -> Result<(), Error> {
        let key = "qkv_bias";
        entries.agree(key, entries.flag(key)?, self.has_bias(name))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        let (layer, part) = match name.rsplit_once('.') {
            Some((layer, part @ ("weight" | "bias"))) => (layer, format!(".{part}")),
            _ => (name, String::new()),
        };
        self.tensors.contains(&(self.names.tensor(layer) + &part))
    }

    pub(super) fn shape<const RANK: usize>(
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
    pub(super) fn count(&self, prefix: &str) -> usize {
        let numbers = self.tensors.names().filter_map(|name| {
            let (number, _) = name.strip_prefix(prefix)?.split_once('.')?;
            number.parse::<usize>().ok()
        });
        numbers.max().unwrap_or(0).saturating_add(1)
    }
}
