//! Buffers of a forward pass, made once and used again.

use noisyquant::Scratch;

use crate::{Config, Vit, attention::Heads};

/// Every intermediate result of [`Vit::forward`] for batches of up to some number of images.
pub struct Workspace {
    pub(crate) config: Config,
    pub(crate) max_images: usize,
    pub(crate) patches: Vec<f32>,
    pub(crate) embedded: Vec<f32>,
    pub(crate) tokens: Vec<f32>,
    pub(crate) normal: Vec<f32>,
    pub(crate) qkv: Vec<f32>,
    pub(crate) mixed: Vec<f32>,
    pub(crate) hidden: Vec<f32>,
    pub(crate) update: Vec<f32>,
    pub(crate) scores: Vec<f32>,
    pub(crate) head: Vec<f32>,
    pub(crate) class_tokens: Vec<f32>,
    pub(crate) scratch: Scratch,
}

impl Workspace {
    /// Buffers for `vit` and up to `max_images` images at once; quantized layers use the threads of
    /// rayon's current pool.
    pub fn new(vit: &Vit, max_images: usize) -> Self {
        Self::shared(&[vit], max_images, rayon::current_num_threads())
    }

    /// [`Workspace::new`] for quantized layers that stay on the calling thread.
    pub fn serial(vit: &Vit, max_images: usize) -> Self {
        Self::shared(&[vit], max_images, 1)
    }

    /// Buffers for each of `models`, which are quantizations of one model and at least one.
    pub(crate) fn shared(models: &[&Vit], max_images: usize, threads: usize) -> Self {
        let config = models[0].config();
        let rows = max_images * config.tokens();
        let (scores, head) = Heads {
            tokens: config.tokens(),
            width: config.width,
            heads: config.heads,
        }
        .buffer_sizes();
        let layers = models.iter().flat_map(|vit| vit.linears());
        let scratch = layers.map(|layer| layer.scratch_bytes(rows, threads)).max();
        let zeros = |length: usize| vec![0.0; length];
        Self {
            config: config.clone(),
            max_images,
            patches: zeros(max_images * config.pixels()),
            embedded: zeros(max_images * config.patches() * config.width),
            tokens: zeros(rows * config.width),
            normal: zeros(rows * config.width),
            qkv: zeros(rows * 3 * config.width),
            mixed: zeros(rows * config.width),
            hidden: zeros(rows * config.mlp_width),
            update: zeros(rows * config.width),
            scores: zeros(scores),
            head: zeros(head),
            class_tokens: zeros(max_images * config.width),
            scratch: Scratch::with_bytes(scratch.unwrap_or(0), threads),
        }
    }
}
