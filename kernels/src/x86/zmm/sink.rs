//! Where the accumulators of a tile on 512-bit registers go.

use core::arch::x86_64::*;

use crate::leaf::Accumulators;

/// Output channels of a panel.
pub(in crate::arch) const NR: usize = 32;

/// What becomes of the accumulators of a tile. They go there from the registers, and while one tile's do,
/// the products of the next have begun.
pub(in crate::arch) trait Sink {
    /// Takes the accumulators of a row.
    ///
    /// # Safety
    ///
    /// The CPU has AVX-512 F, BW and VL; the sink has the row.
    unsafe fn row(&self, row: usize, acc: [__m512i; 2]);
}

impl Sink for Accumulators {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    #[inline]
    unsafe fn row(&self, row: usize, acc: [__m512i; 2]) {
        // SAFETY: the caller promises the row.
        unsafe {
            let c = self.0.add(row * NR);
            _mm512_store_si512(c.cast(), acc[0]);
            _mm512_store_si512(c.add(16).cast(), acc[1]);
        }
    }
}
