//! Working memory of a call, owned by the caller.

use crate::weights::{Aligned, aligned};

/// Working memory for [`QuantLinear::forward_into`](crate::QuantLinear::forward_into): the codes of
/// the row block at hand and a few tiles of accumulators, for each thread.
///
/// Make one per caller and reuse it; it may serve many layers if it is large enough for the largest.
/// It also bounds the threads of a call: one made for 1 thread runs on the calling thread alone.
///
/// ```
/// # use noisyquant::{QuantLinear, Quantizer, Range, Scratch};
/// # let quantizer = Quantizer::symmetric(Range::Fixed { min: -1.0, max: 1.0 });
/// # let small = QuantLinear::builder(&[1.0; 4], 2, 2).quantizer(quantizer).build()?;
/// # let large = QuantLinear::builder(&[1.0; 900], 30, 30).quantizer(quantizer).build()?;
/// let bytes = [&small, &large].map(|layer| layer.scratch_bytes(197, 1));
/// let mut scratch = Scratch::with_bytes(bytes[0].max(bytes[1]), 1);
/// # let mut y = [0.0f32; 2];
/// small.forward_into(&[0.5f32, 0.5], &mut y, &mut scratch)?;
/// # Ok::<(), noisyquant::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Scratch {
    bytes: Aligned<u8>,
    threads: usize,
}

impl Scratch {
    /// `bytes` bytes for calls on at most `threads` threads (at least one).
    ///
    /// # Panics
    ///
    /// If `bytes` is more than can be allocated.
    pub fn with_bytes(bytes: usize, threads: usize) -> Scratch {
        assert!(bytes <= isize::MAX as usize / 2, "scratch of {bytes} bytes");
        Scratch {
            bytes: aligned(bytes),
            threads: threads.max(1),
        }
    }

    /// Its size.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The most threads that a call with it uses.
    pub fn threads(&self) -> usize {
        self.threads
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}
