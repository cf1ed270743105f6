//! Memory that starts on a cache line, and the working memory of a call, owned by the caller.

use aligned_vec::{AVec, ConstAlign};
use noisyquant_kernels::layout::ALIGN;

use crate::error::Error;

/// A vector that starts on a cache line.
pub(crate) type Aligned<T> = AVec<T, ConstAlign<ALIGN>>;

/// `len` default values, aligned.
pub(crate) fn aligned<T: Default + Clone>(len: usize) -> Aligned<T> {
    let mut values = AVec::with_capacity(ALIGN, len);
    values.resize(len, T::default());
    values
}

/// Working memory of a call such as
/// [`QuantLinear::forward_into`](crate::QuantLinear::forward_into): the codes of the row block at hand
/// and a few tiles of accumulators, for each task.
///
/// Make one per caller and reuse it; it may serve many layers if it is large enough for the largest.
/// It is made here, or of memory that the host owns.
///
/// ```
/// # use noisyquant::{Executor, Numbers, QuantLinear, Scratch};
/// # let layer = |n: usize, k: usize| QuantLinear::from_numbers(
/// #     Numbers::new(vec![1; n * k], vec![0.5; n], 0.1, 128.0), None);
/// # let (small, large) = (layer(2, 2)?, layer(30, 30)?);
/// let bytes = [&small, &large].map(|layer| layer.scratch_bytes(197, 1));
/// let mut scratch = Scratch::with_bytes(bytes[0].max(bytes[1]));
/// # let mut y = [0.0f32; 2];
/// small.forward_into(&[0.5f32, 0.5], &mut y, &mut scratch, Executor::serial())?;
///
/// // The host's memory must start on a multiple of `Scratch::ALIGN` bytes.
/// # let mut arena = vec![0u8; large.scratch_bytes(197, 1) + Scratch::ALIGN];
/// # let start = arena.as_ptr().align_offset(Scratch::ALIGN);
/// let mut scratch = Scratch::from_slice(&mut arena[start..])?;
/// small.forward_into(&[0.5f32, 0.5], &mut y, &mut scratch, Executor::serial())?;
/// # Ok::<(), noisyquant::Error>(())
/// ```
///
/// # In a loop on rayon's pool
///
/// A thread of the pool that waits for tasks of its call takes up other work of the pool, which may be
/// another round of the caller's loop. If that wants a lock that the first round holds, as that of a scratch
/// which all rounds share, the thread waits for itself for ever. So give each thread a scratch of its own:
///
/// ```
/// use noisyquant::Executor;
/// use rayon::prelude::*;
/// # use noisyquant::{Numbers, QuantLinear, Scratch};
/// # let layer = QuantLinear::from_numbers(Numbers::new(vec![1; 4], vec![0.5; 2], 0.1, 128.0), None)?;
///
/// # let (images, mut outputs) = ([0.5f32; 6 * 2], [0f32; 6 * 2]);
/// let rounds = images.par_chunks(2).zip(outputs.par_chunks_mut(2));
/// rounds.try_for_each_init(
///     || Scratch::with_bytes(layer.scratch_bytes(1, 1)),
///     |scratch, (x, y)| layer.forward_into(x, y, scratch, Executor::serial()),
/// )?;
/// # assert_eq!(outputs, [0.5; 12]);
/// # Ok::<(), noisyquant::Error>(())
/// ```
///
/// Behind a lock, calls must stay on their thread: [`Executor::serial`](crate::Executor::serial), or a
/// scratch that holds one task, `layer.scratch_bytes(rows, 1)`.
#[derive(Debug)]
pub struct Scratch<'a> {
    memory: Memory<'a>,
}

#[derive(Debug)]
enum Memory<'a> {
    Owned(Aligned<u8>),
    Borrowed(&'a mut [u8]),
}

impl Scratch<'static> {
    /// `bytes` bytes.
    ///
    /// # Panics
    ///
    /// If `bytes` is more than can be allocated.
    pub fn with_bytes(bytes: usize) -> Self {
        Scratch::try_with_bytes(bytes).unwrap_or_else(|error| panic!("{error}"))
    }

    /// `bytes` bytes, if there are so many.
    ///
    /// # Errors
    ///
    /// [`Error::Memory`] if `bytes` is more than can be allocated.
    pub fn try_with_bytes(bytes: usize) -> Result<Self, Error> {
        let mut memory = AVec::new(ALIGN);
        // Half of the address space: rounded up to whole lines, it still does not overflow.
        let fits = bytes <= isize::MAX as usize / 2 && memory.try_reserve_exact(bytes).is_ok();
        if !fits {
            let what = "scratch";
            return Err(Error::Memory { what, bytes });
        }
        memory.resize(bytes, 0);
        let memory = Memory::Owned(memory);
        Ok(Scratch { memory })
    }
}

impl<'a> Scratch<'a> {
    /// What the address of a scratch is a multiple of: a cache line.
    pub const ALIGN: usize = ALIGN;

    /// All of `bytes`.
    ///
    /// # Errors
    ///
    /// [`Error::Alignment`] if they do not start on a multiple of [`ALIGN`](Self::ALIGN).
    pub fn from_slice(bytes: &'a mut [u8]) -> Result<Self, Error> {
        let past = bytes.as_ptr().addr() % ALIGN;
        if past != 0 && !bytes.is_empty() {
            let (what, expected) = ("scratch", ALIGN);
            return Err(Error::Alignment {
                what,
                expected,
                past,
            });
        }
        let memory = Memory::Borrowed(bytes);
        Ok(Scratch { memory })
    }

    /// Its size.
    pub fn bytes(&self) -> usize {
        match &self.memory {
            Memory::Owned(bytes) => bytes.len(),
            Memory::Borrowed(bytes) => bytes.len(),
        }
    }

    /// The first `needed` bytes of scratch, for a call of `rows` rows.
    pub(crate) fn first(&mut self, needed: usize, rows: usize) -> Result<&mut [u8], Error> {
        self.first_of("scratch", needed, rows)
    }

    /// The same of other memory.
    pub(crate) fn first_of(
        &mut self,
        what: &'static str,
        needed: usize,
        rows: usize,
    ) -> Result<&mut [u8], Error> {
        let got = self.bytes();
        let expected = needed;
        let bytes = self.as_mut_slice().get_mut(..needed);
        bytes.ok_or(Error::ScratchTooSmall {
            what,
            expected,
            got,
            rows,
        })
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        match &self.memory {
            Memory::Owned(bytes) => bytes,
            Memory::Borrowed(bytes) => bytes,
        }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        match &mut self.memory {
            Memory::Owned(bytes) => bytes,
            Memory::Borrowed(bytes) => bytes,
        }
    }
}

/// Memory that vectors are cut from, each on whole cache lines.
pub(crate) struct Lines<'a>(pub(crate) &'a mut [u8]);

impl<'a> Lines<'a> {
    /// Bytes that [`take`](Self::take) uses for `len` values of `T`.
    pub(crate) fn bytes<T>(len: usize) -> usize {
        len.saturating_mul(size_of::<T>())
            .checked_next_multiple_of(ALIGN)
            .unwrap_or(usize::MAX)
    }

    /// The next `len` values, whatever they are.
    ///
    /// # Panics
    ///
    /// If there are fewer, or the memory does not start on a cache line.
    pub(crate) fn take<T: bytemuck::Pod>(&mut self, len: usize) -> &'a mut [T] {
        let (lines, rest) = core::mem::take(&mut self.0).split_at_mut(Self::bytes::<T>(len));
        self.0 = rest;
        &mut bytemuck::cast_slice_mut(lines)[..len]
    }
}
