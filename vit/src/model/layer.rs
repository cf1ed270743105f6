//! A linear layer of a model, and what became of it when the model was quantized.

use noisyquant::{Errors, Recipe};
use serde::{Deserialize, Serialize};

use crate::ops::Linear;

/// A linear layer of a model.
#[non_exhaustive]
pub struct Layer {
    /// Its name in timm's style, such as `blocks.3.attn.qkv`, without `.weight`.
    pub name: String,
    /// The layer.
    pub linear: Linear,
}

/// What became of a layer. Whoever reads one as JSON passes over fields that a later version adds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LayerReport {
    /// The layer's name.
    pub name: String,
    /// Bits of a weight; 32 for a layer that stayed in f32.
    pub weight_bits: u32,
    /// Bits of an activation code; 32 for a layer that stayed in f32.
    pub activation_bits: u32,
    /// Whether the recipe was chosen automatically.
    pub auto: bool,
    /// How the layer was quantized; none if it stayed in f32.
    pub recipe: Option<Recipe>,
    /// Errors of the plain symmetric min-max layer of as many bits, on rows that it was not fitted
    /// to; none unless the choice was automatic.
    pub before: Option<Errors>,
    /// Errors of what was built: on rows that it was not fitted to if the choice was automatic, else
    /// on the calibration rows. None for a layer that stayed in f32.
    pub after: Option<Errors>,
}
