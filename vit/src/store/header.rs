//! What a file of this crate says about itself, in the metadata entry `noisyquant_vit`: the
//! configuration, and what was chosen for each layer.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{
    config::Config,
    model::{Attention, LayerReport},
    warning::Warnings,
};

/// The metadata entry.
pub(super) const KEY: &str = "noisyquant_vit";

/// Version of the entry and of the tensors' names. A reader refuses later ones. The first had no `attention`,
/// the first two were of one way to judge logits, one activation, one way to crop. How weights lie in the
/// file has a version of its own, that of [`noisyquant::io`].
pub(super) const VERSION: u32 = 3;

#[derive(Serialize, Deserialize)]
pub(super) struct Header<'a> {
    pub(super) version: u32,
    pub(super) config: Cow<'a, Config>,
    pub(super) attention: Option<Attention>,
    pub(super) reports: Cow<'a, [LayerReport]>,
    /// What was guessed when the float checkpoint was read.
    #[serde(default)]
    pub(super) warnings: Cow<'a, Warnings>,
    /// Digest of the float checkpoint.
    #[serde(default)]
    pub(super) origin: Option<Cow<'a, str>>,
}

/// Read before the rest, whose form depends on it.
#[derive(Deserialize)]
pub(super) struct Version {
    pub(super) version: u32,
}
