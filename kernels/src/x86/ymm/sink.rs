//! Where the accumulators of a tile on 256-bit registers go.

use core::arch::x86_64::*;

use crate::leaf::Accumulators;

/// Rows of the tallest tile.
pub(in crate::arch) const MR: usize = 6;
/// Output channels of a panel.
pub(in crate::arch) const NR: usize = 16;

/// What becomes of the accumulators of a tile. They go there from the registers, and while one tile's do,
/// the products of the next have begun.
pub(in crate::arch) trait Sink {
    /// Takes the accumulators of a row.
    ///
    /// # Safety
    ///
    /// The CPU has AVX2, FMA and F16C; the sink has the row.
    unsafe fn row(&self, row: usize, acc: [__m256i; 2]);
}

impl Sink for Accumulators {
    #[inline(always)]
    unsafe fn row(&self, row: usize, acc: [__m256i; 2]) {
        // SAFETY: the caller promises AVX2 and the row.
        unsafe { self.store(row, acc, false) }
    }
}

impl Accumulators {
    /// Stores the accumulators of a row, or adds them to those that are there.
    ///
    /// # Safety
    ///
    /// As [`Sink::row`].
    #[inline(always)]
    pub(in crate::arch) unsafe fn store(&self, row: usize, acc: [__m256i; 2], add: bool) {
        // SAFETY: the caller promises the row.
        unsafe {
            let c = self.0.add(row * NR).cast::<__m256i>();
            for (half, mut v) in acc.into_iter().enumerate() {
                if add {
                    v = _mm256_add_epi32(v, _mm256_load_si256(c.add(half)));
                }
                _mm256_store_si256(c.add(half), v);
            }
        }
    }
}
