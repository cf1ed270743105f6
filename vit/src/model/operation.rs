//! What a forward pass does, by name.

use std::fmt;

/// A part of a forward pass, for who wants to know where its time goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Operation {
    /// The linear layers before attention, `qkv`; with their norm, where they are quantized.
    Qkv,
    /// The linear layers after attention.
    Projection,
    /// The first linear layers of the MLPs.
    Fc1,
    /// The second linear layers of the MLPs.
    Fc2,
    /// Norm, both layers and residual of the MLPs, where they run as one.
    Mlp,
    /// All other linear layers: patch embedding, patch merging, head.
    OtherLinear,
    /// Scores, softmax and mixing.
    Attention,
    /// LayerNorm and adding a branch to the tokens, where no layer does it on its way.
    Norm,
    /// GELU.
    Gelu,
    /// Cutting images into patches and maps into windows, waiting for other threads, and everything else.
    Other,
}

impl Operation {
    /// What a linear layer of this name is.
    pub(super) fn linear(name: &str) -> Self {
        match name.rsplit_once('.') {
            Some((_, "qkv")) => Self::Qkv,
            Some((before, "proj")) if before.ends_with("attn") => Self::Projection,
            Some((_, "fc1")) => Self::Fc1,
            Some((_, "fc2")) => Self::Fc2,
            _ => Self::OtherLinear,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Qkv => "linear: qkv",
            Self::Projection => "linear: attention's projection",
            Self::Fc1 => "linear: fc1",
            Self::Fc2 => "linear: fc2",
            Self::Mlp => "linear: norm, fc1, activation, fc2",
            Self::OtherLinear => "linear: others",
            Self::Attention => "attention",
            Self::Norm => "LayerNorm and residuals apart",
            Self::Gelu => "GELU",
            Self::Other => "everything else",
        })
    }
}
