//! Workspaces that fit a model.

use super::{
    memory::{Buffers, Workspace},
    run::RunScratch,
    transformer::Model,
};
use crate::ops::AttentionScratch;

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
