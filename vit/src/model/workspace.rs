//! Workspaces that fit a model.

use noisyquant::{Executor, Scratch};

use super::{
    memory::{Memory, Workspace},
    run::RunSizes,
    transformer::Model,
};
use crate::{error::Error, ops::AttentionSizes};

impl Workspace<'static> {
    /// Memory for `model` and up to `max_images` images at once; quantized layers use the threads of
    /// rayon's current pool.
    ///
    /// # Panics
    ///
    /// If there are so many images that their memory cannot be allocated.
    pub fn new(model: &Model, max_images: usize) -> Self {
        Self::shared(&[model], max_images, Executor::rayon().threads())
    }

    /// [`Workspace::new`] for quantized layers that stay on the calling thread. Float layers always run on
    /// rayon's current pool.
    ///
    /// # Panics
    ///
    /// As [`Workspace::new`].
    pub fn serial(model: &Model, max_images: usize) -> Self {
        Self::shared(&[model], max_images, 1)
    }

    /// Memory for each of `models`, which are quantizations of one model and at least one, on up to
    /// `threads` threads.
    ///
    /// # Panics
    ///
    /// If there is no model, or as [`Workspace::new`].
    pub fn shared(models: &[&Model], max_images: usize, threads: usize) -> Self {
        let layout = Workspace::layout(models, max_images, threads);
        let memory = Memory::owned(layout.bytes());
        Workspace { memory, ..layout }
    }
}

impl<'a> Workspace<'a> {
    /// What the address of a workspace's memory is a multiple of: a cache line.
    pub const ALIGN: usize = Scratch::ALIGN;

    /// Bytes that [`Workspace::from_slice`] needs.
    ///
    /// # Panics
    ///
    /// If there is no model, or so many images that their buffers exceed the address space.
    pub fn bytes_for(models: &[&Model], max_images: usize, threads: usize) -> usize {
        Workspace::layout(models, max_images, threads).bytes()
    }

    /// A workspace in memory of the host, otherwise as [`Workspace::shared`]. What the memory holds does not
    /// matter.
    ///
    /// ```
    /// # use noisyquant_vit::{Model, Output, Workspace, embedded};
    /// # let model = Model::from_safetensors(embedded::WEIGHTS)?;
    /// let bytes = Workspace::bytes_for(&[&model], 1, 1);
    /// # let mut arena = vec![0u8; bytes + Workspace::ALIGN];
    /// # let start = arena.as_ptr().align_offset(Workspace::ALIGN);
    /// # let memory = &mut arena[start..];
    /// let mut workspace = Workspace::from_slice(&[&model], 1, 1, memory)?;
    /// # let image = embedded::test()?.normalised(model.config(), 0..1)?;
    /// # let mut logits = [0.0; 10];
    /// model.forward(&image, &mut Output::logits(&mut logits), &mut workspace)?;
    /// # Ok::<(), noisyquant_vit::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Size`] if `memory` is shorter than [`Workspace::bytes_for`] says, or does not start on a
    /// multiple of [`Workspace::ALIGN`] bytes.
    ///
    /// # Panics
    ///
    /// If there is no model, or so many images that their buffers exceed the address space.
    pub fn from_slice(
        models: &[&Model],
        max_images: usize,
        threads: usize,
        memory: &'a mut [u8],
    ) -> Result<Self, Error> {
        let layout = Workspace::layout(models, max_images, threads);
        let require = |holds: bool, what, expected: String, got| match holds {
            true => Ok(()),
            false => Err(Error::Size {
                what,
                expected,
                got,
            }),
        };
        let (what, length) = ("bytes of a workspace", memory.len());
        let expected = format!("at least {}", layout.bytes());
        require(length >= layout.bytes(), what, expected, length)?;
        let past = memory.as_ptr().addr() % Self::ALIGN;
        let what = "bytes past a multiple of the alignment";
        require(past == 0, what, "0".to_string(), past)?;
        let memory = Memory::Borrowed(memory);
        Ok(Workspace { memory, ..layout })
    }

    /// A workspace that has no memory yet.
    fn layout(models: &[&Model], max_images: usize, threads: usize) -> Self {
        let (rows, pixels) = (models[0].rows_per_image(), models[0].config().pixels());
        // No buffer has more than a few hundred bytes for each number of the images and of their rows.
        let most = isize::MAX as usize >> 16;
        let numbers = max_images.checked_mul(rows.max(pixels));
        assert!(
            numbers.is_some_and(|n| n < most),
            "a workspace of {max_images} images"
        );
        let rows = max_images * rows;
        let bytes = |threads: usize| {
            let layers = models.iter().flat_map(|model| model.layers());
            let layers = layers.map(|layer| layer.linear.scratch_bytes(rows, threads));
            let mlps = models.iter().flat_map(|model| model.mlps.values());
            let mlps = mlps.map(|mlp| mlp.scratch_bytes(rows, threads));
            layers.chain(mlps).max().unwrap_or(0)
        };
        // An instruction set that is not there is an error of the pass.
        let arithmetics = models.iter().filter_map(|model| model.arithmetic().ok());
        let attention = AttentionSizes::new(models[0].attention_sizes(), arithmetics, threads);
        Self {
            config: models[0].config().clone(),
            max_images,
            sizes: models[0].sizes(max_images),
            run: RunSizes::new(bytes, attention, models[0].rows_per_image(), threads),
            memory: Memory::owned(0),
        }
    }

    fn bytes(&self) -> usize {
        self.sizes.bytes() + self.run.bytes()
    }
}
