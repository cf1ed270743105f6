//! Buffers of a forward pass, made once and used again.

use super::run::RunScratch;
use crate::config::Config;

/// Buffers of [`Model::forward`](crate::Model::forward), for batches of up to some number of images.
pub struct Workspace {
    pub(super) config: Config,
    pub(super) max_images: usize,
    pub(super) buffers: Buffers,
    pub(super) scratch: RunScratch,
}

/// Intermediate results by what they are; each image's lie behind those of the image before.
pub(crate) struct Buffers {
    /// Pixels, a row for each patch.
    pub(crate) patches: Vec<f32>,
    pub(crate) tokens: Vec<f32>,
    /// Tokens after a norm.
    pub(crate) normal: Vec<f32>,
    /// The same, window by window.
    pub(crate) windows: Vec<f32>,
    pub(crate) qkv: Vec<f32>,
    /// What attention mixed.
    pub(crate) mixed: Vec<f32>,
    /// The hidden layer of an MLP.
    pub(crate) hidden: Vec<f32>,
    /// What a branch adds to the tokens.
    pub(crate) update: Vec<f32>,
    pub(crate) features: Vec<f32>,
    /// What a head sees that does not see the features.
    pub(crate) head_input: Vec<f32>,
    /// Logits of a second head.
    pub(crate) logits: Vec<f32>,
}

/// Lengths of [`Buffers`].
pub(crate) struct Sizes {
    pub(crate) patches: usize,
    pub(crate) tokens: usize,
    pub(crate) normal: usize,
    pub(crate) windows: usize,
    pub(crate) qkv: usize,
    pub(crate) mixed: usize,
    pub(crate) hidden: usize,
    pub(crate) update: usize,
    pub(crate) features: usize,
    pub(crate) head_input: usize,
    pub(crate) logits: usize,
}

impl Buffers {
    pub(super) fn new(sizes: &Sizes) -> Self {
        let zeros = |length: usize| vec![0.0; length];
        Self {
            patches: zeros(sizes.patches),
            tokens: zeros(sizes.tokens),
            normal: zeros(sizes.normal),
            windows: zeros(sizes.windows),
            qkv: zeros(sizes.qkv),
            mixed: zeros(sizes.mixed),
            hidden: zeros(sizes.hidden),
            update: zeros(sizes.update),
            features: zeros(sizes.features),
            head_input: zeros(sizes.head_input),
            logits: zeros(sizes.logits),
        }
    }
}
