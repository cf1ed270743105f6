//! What a checkpoint states about itself: `config.json` of Hugging Face or timm, and entries in the
//! metadata of the tensors' file.

use std::{collections::BTreeMap, str::FromStr};

use serde::Deserialize;

use super::preprocess::{Habit, Interpolation, Preprocessor, Pretrained};
use crate::{
    checkpoint::{Files, Tensors},
    error::Error,
};

/// The JSON files beside the tensors.
#[derive(Default)]
pub(crate) struct Sidecars {
    pub(super) config: Option<Stated>,
    pub(super) preprocessor: Option<Preprocessor>,
}

impl Sidecars {
    /// Read those that are there.
    pub(crate) fn read(files: &Files) -> Result<Self, Error> {
        let config: Option<Stated> = files.json("config.json")?;
        if let Some(config) = &config {
            config.check()?;
        }
        Ok(Self {
            config,
            preprocessor: files.json("preprocessor_config.json")?,
        })
    }
}

/// A number, or one for each axis or stage.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Sizes {
    One(usize),
    Several(Vec<usize>),
}

impl Sizes {
    /// All as one, if they are the same.
    pub(super) fn same(&self) -> Option<usize> {
        match self {
            Self::One(size) => Some(*size),
            Self::Several(sizes) => {
                let first = *sizes.first()?;
                sizes.iter().all(|size| *size == first).then_some(first)
            }
        }
    }
}

/// `config.json`, all of it optional, for older ones leave out defaults.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Stated {
    // Hugging Face.
    model_type: Option<String>,
    hidden_act: Option<String>,
    use_swiglu_ffn: bool,
    use_absolute_embeddings: bool,
    pub(super) layer_norm_eps: Option<f32>,
    pub(super) image_size: Option<Sizes>,
    pub(super) patch_size: Option<Sizes>,
    pub(super) num_channels: Option<usize>,
    pub(super) hidden_size: Option<usize>,
    pub(super) num_hidden_layers: Option<usize>,
    pub(super) num_attention_heads: Option<usize>,
    pub(super) intermediate_size: Option<usize>,
    pub(super) num_register_tokens: Option<usize>,
    pub(super) embed_dim: Option<usize>,
    pub(super) depths: Option<Vec<usize>>,
    pub(super) num_heads: Option<Vec<usize>>,
    id2label: Option<BTreeMap<usize, String>>,
    // timm.
    architecture: Option<String>,
    pub(super) pretrained_cfg: Option<Pretrained>,
    pub(super) model_args: ModelArgs,
    label_names: Option<Vec<String>>,
}

/// Arguments of timm's `create_model` that differ from the architecture's defaults.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct ModelArgs {
    pub(super) img_size: Option<Sizes>,
    pub(super) num_heads: Option<Sizes>,
}

/// What this crate's own entries in a tensors' file begin with.
const OWN: &str = "noisyquant.";

const MODEL_TYPES: [&str; 5] = ["vit", "deit", "dinov2", "dinov2_with_registers", "swin"];
const TIMM: [&str; 4] = ["vit_", "deit_", "deit3_", "swin_"];

impl Stated {
    /// The architecture's name.
    fn kind(&self) -> &str {
        let kind = self.model_type.as_ref().or(self.architecture.as_ref());
        kind.map_or("", String::as_str)
    }

    pub(super) fn is_swin(&self) -> bool {
        self.kind().starts_with("swin")
    }

    /// How the architecture's images are made.
    pub(super) fn habit(&self) -> Habit {
        let kind = self.kind();
        match () {
            () if kind.contains("dinov2") => Habit::Dino,
            () if kind.starts_with("vit") => Habit::Half,
            () => Habit::ImageNet,
        }
    }

    /// Names of the classes, unless they are placeholders.
    pub(super) fn labels(&self) -> Vec<String> {
        match (&self.id2label, &self.label_names) {
            (Some(names), _) if !names.values().all(|name| name.starts_with("LABEL_")) => {
                names.values().cloned().collect()
            }
            (None, Some(names)) => names.clone(),
            _ => Vec::new(),
        }
    }

    /// Refuse what is no supported architecture.
    fn check(&self) -> Result<(), Error> {
        let wrong = |key: &str, expected: &str, got: &str| {
            Err(Error::Setting {
                what: format!("config.json `{key}`"),
                expected: expected.into(),
                got: got.into(),
            })
        };
        let kind = self.kind();
        let types = MODEL_TYPES.join(" or ");
        match (&self.model_type, &self.architecture) {
            (None, None) => return wrong("model_type", &types, "no such entry"),
            (Some(_), _) if !MODEL_TYPES.contains(&kind) => {
                return wrong("model_type", &types, &format!("`{kind}`"));
            }
            (None, Some(_)) if !TIMM.iter().any(|known| kind.starts_with(known)) => {
                return wrong(
                    "architecture",
                    "timm's vit, deit or swin",
                    &format!("`{kind}`"),
                );
            }
            _ => {}
        }
        if let Some(act) = &self.hidden_act
            && act != "gelu"
        {
            return wrong("hidden_act", "gelu", &format!("`{act}`"));
        }
        for (key, set) in [
            ("use_swiglu_ffn", self.use_swiglu_ffn),
            ("use_absolute_embeddings", self.use_absolute_embeddings),
        ] {
            if set {
                return wrong(key, "false", "true");
            }
        }
        Ok(())
    }
}

/// Entries in the metadata of the tensors' file whose names begin with [`OWN`], as the embedded model has
/// them. Others are of another program's making.
pub(super) struct Metadata<'a>(pub(super) &'a Tensors<'a>);

impl Metadata<'_> {
    pub(super) fn number<T: FromStr>(&self, key: &str, expected: &str) -> Result<Option<T>, Error> {
        self.parse(key, expected, |text| text.trim().parse().ok())
    }

    /// Numbers with commas between.
    pub(super) fn numbers(&self, key: &str) -> Result<Option<Vec<f32>>, Error> {
        self.parse(key, "numbers with commas between", |text| {
            text.split(',')
                .map(|part| part.trim().parse().ok())
                .collect()
        })
    }

    /// How pixels between pixels are found.
    pub(super) fn interpolation(&self) -> Result<Option<Interpolation>, Error> {
        let expected = "nearest, bilinear, bicubic or lanczos";
        self.parse("interpolation", expected, Interpolation::from_name)
    }

    fn parse<T>(
        &self,
        key: &str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let key = &format!("{OWN}{key}");
        let Some(text) = self.0.metadata(key) else {
            return Ok(None);
        };
        match parse(text) {
            Some(value) => Ok(Some(value)),
            None => Err(Error::Setting {
                what: format!("metadata `{key}`"),
                expected: expected.into(),
                got: format!("`{text}`"),
            }),
        }
    }
}
