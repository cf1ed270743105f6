//! Buffers of a forward pass, made once and used again.

use crate::{Config, Model, model::RunScratch, ops::AttentionScratch};

/// Every intermediate result of [`Model::forward`] for batches of up to some number of images.
pub struct Workspace {
    pub(crate) config: Config,
    pub(crate) max_images: usize,
    pub(crate) buffers: Buffers,
    pub(crate) scratch: RunScratch,
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

impl Workspace {
    /// Buffers for `model` and up to `max_images` images at once; quantized layers use the threads of
    /// rayon's current pool.
    pub fn new(model: &Model, max_images: usize) -> Self {
        Self::shared(&[model], max_images, rayon::current_num_threads())
    }

    /// [`Workspace::new`] for quantized layers that stay on the calling thread.
    pub fn serial(model: &Model, max_images: usize) -> Self {
        Self::shared(&[model], max_images, 1)
    }

    /// Buffers for each of `models`, which are quantizations of one model and at least one, on up to
    /// `threads` threads.
    ///
    /// # Panics
    ///
    /// If there is no model.
    pub fn shared(models: &[&Model], max_images: usize, threads: usize) -> Self {
        let rows = max_images * models[0].rows_per_image();
        let bytes = |threads: usize| {
            let layers = models.iter().flat_map(|model| model.layers());
            let bytes = layers.map(|layer| layer.linear.scratch_bytes(rows, threads));
            bytes.max().unwrap_or(0)
        };
        let attention = AttentionScratch::new(models[0].attention_sizes(), threads);
        Self {
            config: models[0].config().clone(),
            max_images,
            buffers: Buffers::new(&models[0].sizes(max_images)),
            scratch: RunScratch::new(bytes, attention, models[0].rows_per_image(), threads),
        }
    }
}

impl Buffers {
    fn new(sizes: &Sizes) -> Self {
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
