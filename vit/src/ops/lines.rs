//! Memory that buffers are cut from, each on whole cache lines.

use noisyquant::Scratch;

/// What is left of the memory. It starts on a multiple of [`Scratch::ALIGN`] bytes, as all that is cut from
/// it does.
pub(crate) struct Lines<'a>(pub(crate) &'a mut [u8]);

impl<'a> Lines<'a> {
    /// Bytes that `bytes` bytes use.
    pub(crate) fn bytes(bytes: usize) -> usize {
        bytes.next_multiple_of(Scratch::ALIGN)
    }

    /// Bytes that so many numbers use.
    pub(crate) fn of_numbers(numbers: usize) -> usize {
        Self::bytes(numbers * size_of::<f32>())
    }

    /// The next numbers, whatever they are.
    ///
    /// # Panics
    ///
    /// If there is not as much memory, here and below.
    pub(crate) fn numbers(&mut self, numbers: usize) -> &'a mut [f32] {
        let bytes = self.cut(numbers * size_of::<f32>());
        &mut bytemuck::cast_slice_mut(bytes)[..numbers]
    }

    /// The next `bytes` bytes, or a few more.
    pub(crate) fn cut(&mut self, bytes: usize) -> &'a mut [u8] {
        let (first, rest) = std::mem::take(&mut self.0).split_at_mut(Self::bytes(bytes));
        self.0 = rest;
        first
    }

    /// The same as scratch.
    pub(crate) fn scratch(&mut self, bytes: usize) -> Scratch<'a> {
        scratch(self.cut(bytes))
    }
}

/// Lines as scratch.
pub(crate) fn scratch(lines: &mut [u8]) -> Scratch<'_> {
    Scratch::from_slice(lines).expect("memory that starts on a cache line")
}
