//! The memory of a forward pass, got once and used again.

use aligned_vec::{AVec, ConstAlign};
use noisyquant::Scratch;

use super::run::{RunScratch, RunSizes};
use crate::{config::Config, ops::Lines};

/// Memory of [`Model::forward`](crate::Model::forward), for batches of up to some number of images: its own,
/// or the host's.
///
/// A pass runs on rayon's current pool, whose threads take up other work while they wait: in a loop on that
/// pool, each thread has a workspace of its own, since one behind a lock could make a thread wait for itself
/// (see [`Scratch`]).
///
/// ```
/// # use noisyquant_vit::{Error, Model, Output, Workspace, embedded};
/// use rayon::prelude::*;
/// # let model = Model::from_safetensors(embedded::WEIGHTS)?;
/// # let images = embedded::test()?.normalised(model.config(), 0..4)?;
/// # let mut logits = [0.0; 4 * 10];
///
/// let rounds = images.par_chunks(model.config().pixels()).zip(logits.par_chunks_mut(10));
/// rounds.try_for_each_init(
///     || Workspace::new(&model, 1),
///     |workspace, (image, logits)| model.forward(image, &mut Output::logits(logits), workspace),
/// )?;
/// # Ok::<(), Error>(())
/// ```
pub struct Workspace<'a> {
    pub(super) config: Config,
    pub(super) max_images: usize,
    pub(super) sizes: Sizes,
    pub(super) run: RunSizes,
    pub(super) memory: Memory<'a>,
}

/// Memory that starts on a cache line.
pub(super) enum Memory<'a> {
    Owned(AVec<u8, ConstAlign<{ Scratch::ALIGN }>>),
    Borrowed(&'a mut [u8]),
}

impl Memory<'static> {
    /// # Panics
    ///
    /// If `bytes` is more than can be allocated.
    pub(super) fn owned(bytes: usize) -> Self {
        let mut memory = AVec::new(Scratch::ALIGN);
        let reserved = memory.try_reserve_exact(bytes);
        assert!(
            reserved.is_ok(),
            "workspace: expected {bytes} bytes of memory, got none"
        );
        memory.resize(bytes, 0);
        Self::Owned(memory)
    }
}

/// Intermediate results by what they are; each image's lie behind those of the image before.
pub(crate) struct Buffers<'a> {
    /// Pixels, a row for each patch.
    pub(crate) patches: &'a mut [f32],
    pub(crate) tokens: &'a mut [f32],
    /// Tokens after a norm.
    pub(crate) normal: &'a mut [f32],
    /// The same, window by window.
    pub(crate) windows: &'a mut [f32],
    pub(crate) qkv: &'a mut [f32],
    /// What attention mixed.
    pub(crate) mixed: &'a mut [f32],
    /// The hidden layer of an MLP.
    pub(crate) hidden: &'a mut [f32],
    /// What a branch adds to the tokens.
    pub(crate) update: &'a mut [f32],
    pub(crate) features: &'a mut [f32],
    /// What a head sees that does not see the features.
    pub(crate) head_input: &'a mut [f32],
    /// Logits of a second head.
    pub(crate) logits: &'a mut [f32],
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

impl Sizes {
    /// Bytes of all buffers.
    pub(super) fn bytes(&self) -> usize {
        let buffers = [
            self.patches,
            self.tokens,
            self.normal,
            self.windows,
            self.qkv,
            self.mixed,
            self.hidden,
            self.update,
            self.features,
            self.head_input,
            self.logits,
        ];
        buffers.map(Lines::of_numbers).iter().sum()
    }

    /// Cut out of `memory`.
    fn cut<'a>(&self, memory: &mut Lines<'a>) -> Buffers<'a> {
        Buffers {
            patches: memory.numbers(self.patches),
            tokens: memory.numbers(self.tokens),
            normal: memory.numbers(self.normal),
            windows: memory.numbers(self.windows),
            qkv: memory.numbers(self.qkv),
            mixed: memory.numbers(self.mixed),
            hidden: memory.numbers(self.hidden),
            update: memory.numbers(self.update),
            features: memory.numbers(self.features),
            head_input: memory.numbers(self.head_input),
            logits: memory.numbers(self.logits),
        }
    }
}

impl Workspace<'_> {
    /// The memory cut into what a pass works with.
    pub(super) fn cut(&mut self) -> (Buffers<'_>, RunScratch<'_>) {
        let mut memory = Lines(match &mut self.memory {
            Memory::Owned(memory) => memory,
            Memory::Borrowed(memory) => memory,
        });
        (self.sizes.cut(&mut memory), self.run.cut(&mut memory))
    }
}
