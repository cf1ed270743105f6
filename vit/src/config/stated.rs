//! What a checkpoint states about itself: JSON files beside the tensors, and entries in the metadata of the
//! tensors' file.

use std::str::FromStr;

use super::{hugging_face::HuggingFace, preprocess::Interpolation, processor, timm::Timm};
use crate::{
    checkpoint::{Entries, Files, Tensors},
    error::Error,
};

/// The JSON files beside the tensors.
#[derive(Default)]
pub(crate) struct Sidecars {
    pub(super) config: Stated,
    pub(super) preprocessor: Option<Entries>,
}

/// `config.json`.
#[derive(Default)]
pub(super) enum Stated {
    #[default]
    Nothing,
    HuggingFace(HuggingFace),
    Timm(Timm),
}

impl Sidecars {
    /// Read those that are there.
    pub(crate) fn read(files: &Files) -> Result<Self, Error> {
        let config = match files.json("config.json")? {
            None => Stated::Nothing,
            Some(entries) => {
                // transformers wraps timm's models, and keeps timm's entries.
                let wrapped = entries.text("model_type")?.as_deref() == Some("timm_wrapper");
                match entries.has("architecture") && (wrapped || !entries.has("model_type")) {
                    true => Stated::Timm(Timm::new(entries)?),
                    false => Stated::HuggingFace(HuggingFace::new(entries)?),
                }
            }
        };
        Ok(Self {
            config,
            preprocessor: files.json(processor::FILE)?,
        })
    }
}

impl Sidecars {
    /// Layers that have no bias, by the ends of their names.
    pub(crate) fn without_bias(&self) -> Result<Vec<&'static str>, Error> {
        self.config.without_bias()
    }
}

impl Stated {
    pub(super) fn is_swin(&self) -> Option<bool> {
        match self {
            Self::Nothing => None,
            Self::HuggingFace(stated) => Some(stated.is_swin()),
            Self::Timm(stated) => Some(stated.is_swin()),
        }
    }

    /// Layers that it says have no bias, by the ends of their names.
    pub(super) fn without_bias(&self) -> Result<Vec<&'static str>, Error> {
        let (entries, keys) = match self {
            Self::Nothing => return Ok(Vec::new()),
            Self::HuggingFace(stated) => (stated.entries(), &["qkv_bias"][..]),
            Self::Timm(stated) => (stated.arguments(), &["qkv_bias", "proj_bias"][..]),
        };
        let mut layers = Vec::new();
        for key in keys {
            if entries.flag(key)? == Some(false) {
                layers.extend(match *key {
                    "qkv_bias" => &["attn.qkv"][..],
                    _ => &["attn.proj", "mlp.fc1", "mlp.fc2"],
                });
            }
        }
        Ok(layers)
    }
}

/// What this crate's own entries in a tensors' file begin with.
const OWN: &str = "noisyquant.";

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
