//! How a model's attention runs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How the two products of attention run, that of queries and keys and that of weights and values; softmax
/// between them is in f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Attention {
    /// In f32.
    #[default]
    F32,
    /// On 8-bit integers that are quantized at run time, with a noisy bias on the weights (docs/math.md,
    /// eq. 30–34).
    Int8,
}

impl fmt::Display for Attention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Attention::F32 => "f32",
            Attention::Int8 => "int8",
        })
    }
}
