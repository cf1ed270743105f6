//! The tiles of Strassen's algorithm on 512-bit registers: those of [`tile`](super::tile), whose accumulators
//! stay in registers from product to product.

use core::arch::x86_64::*;

use super::sink::{NR, Sink};
use super::tile::{MR, multiply};
use crate::strassen::{self, Factors, Registers, TilesArgs, TilesFn};

/// `tiles()[r - 1]` has `r` rows.
pub(in crate::arch) const fn tiles<K: Sink>() -> [TilesFn<K>; MR] {
    [
        four_tiles::<K, 1>,
        four_tiles::<K, 2>,
        four_tiles::<K, 3>,
        four_tiles::<K, 4>,
        four_tiles::<K, 5>,
        four_tiles::<K, 6>,
        four_tiles::<K, 7>,
        four_tiles::<K, 8>,
        four_tiles::<K, 9>,
        four_tiles::<K, 10>,
        four_tiles::<K, 11>,
        four_tiles::<K, 12>,
    ]
}

/// # Safety
///
/// The CPU has the features below; `args` and `outputs` keep the promises of [`strassen::tiles`] for tiles of
/// `R` rows, `NR = 32`, `KR = 4`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn four_tiles<K: Sink, const R: usize>(args: &TilesArgs<'_>, outputs: &[K; 4]) {
    // SAFETY: the caller promises operands and outputs; the function has the features.
    unsafe { strassen::tiles::<Tile<R>, K>(args, outputs) }
}

/// One set of `R` rows.
struct Tile<const R: usize>([[[__m512i; 2]; R]; 1]);

impl<K: Sink, const R: usize> Registers<K> for Tile<R> {
    #[inline(always)]
    fn zero() -> Self {
        // SAFETY: whoever has such registers has AVX-512.
        Tile([[[unsafe { _mm512_setzero_si512() }; 2]; R]])
    }

    #[inline(always)]
    unsafe fn load(c: *const i32) -> Self {
        let mut acc = <Self as Registers<K>>::zero();
        for (r, acc) in acc.0[0].iter_mut().enumerate() {
            for (half, acc) in acc.iter_mut().enumerate() {
                // SAFETY: the caller promises `R` rows.
                *acc = unsafe { _mm512_load_si512(c.add(r * NR + 16 * half).cast()) };
            }
        }
        acc
    }

    #[inline(always)]
    unsafe fn store(&self, c: *mut i32) {
        for (r, acc) in self.0[0].iter().enumerate() {
            // SAFETY: the caller promises room for `R` rows.
            unsafe {
                _mm512_store_si512(c.add(r * NR).cast(), acc[0]);
                _mm512_store_si512(c.add(r * NR + 16).cast(), acc[1]);
            }
        }
    }

    #[inline(always)]
    unsafe fn multiply(&mut self, factors: &Factors, row: usize, k: usize) {
        let stride = factors.a_stride;
        // SAFETY: the caller promises the rows and the weights; `k` is a multiple of 64.
        unsafe {
            let a = factors.a.add(row * stride);
            let (b, next) = (factors.b, factors.next.after(row));
            // Two loops, of which most tiles take the second.
            match factors.make(row) {
                Some(make) => multiply(&mut self.0, a, stride, b, k, next, Some(make)),
                None => multiply(&mut self.0, a, stride, b, k, next, None),
            }
        }
    }

    #[inline(always)]
    unsafe fn give(&self, plus: Option<*const i32>, to: usize, sink: &K) {
        for r in 0..R {
            let mut acc = self.0[0][r];
            // SAFETY: the caller promises `R` rows there and in the sink.
            unsafe {
                if let Some(plus) = plus {
                    for (half, acc) in acc.iter_mut().enumerate() {
                        let more = _mm512_load_si512(plus.add(r * NR + 16 * half).cast());
                        *acc = _mm512_add_epi32(*acc, more);
                    }
                }
                sink.row(to + r, acc);
            }
        }
    }
}
