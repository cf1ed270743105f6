//! The tiles of Strassen's algorithm on 256-bit registers: those of [`tile`](super::tile), whose accumulators
//! stay in registers from product to product. The epilogue makes outputs of them: in registers it would need
//! those that the accumulators of C22 keep.

use core::arch::x86_64::*;
use core::marker::PhantomData;

use super::sink::NR;
use super::tile::{Dot, multiply, rows};
use crate::leaf::Accumulators;
use crate::strassen::{Factors, Registers};

/// One set of `R` rows, whose dot products are `D`'s.
pub(in crate::arch) struct Tile<D, const R: usize>([[[__m256i; 2]; R]; 1], PhantomData<D>);

impl<D: Dot, const R: usize> Registers<Accumulators> for Tile<D, R> {
    #[inline(always)]
    fn zero() -> Self {
        // SAFETY: whoever has such registers has AVX2.
        Tile([[[unsafe { _mm256_setzero_si256() }; 2]; R]], PhantomData)
    }

    #[inline(always)]
    unsafe fn load(c: *const i32) -> Self {
        let mut acc = Self::zero();
        for (r, acc) in acc.0[0].iter_mut().enumerate() {
            for (half, acc) in acc.iter_mut().enumerate() {
                // SAFETY: the caller promises `R` rows.
                *acc = unsafe { _mm256_load_si256(c.add(r * NR + 8 * half).cast()) };
            }
        }
        acc
    }

    #[inline(always)]
    unsafe fn store(&self, c: *mut i32) {
        // SAFETY: the caller promises room for `R` rows.
        unsafe { self.give(None, 0, &Accumulators(c)) };
    }

    #[inline(always)]
    unsafe fn multiply(&mut self, factors: &Factors, row: usize, k: usize) {
        // SAFETY: the caller promises the rows and the weights; `k` is a multiple of 64.
        unsafe {
            let a = factors.a.add(row * factors.a_stride);
            let rows = rows(a, factors.a_stride);
            // Two loops, of which most tiles take the second.
            match factors.make(row) {
                Some(make) => multiply::<D, R, 1>(&mut self.0, rows, factors.b, k, Some(make)),
                None => multiply::<D, R, 1>(&mut self.0, rows, factors.b, k, None),
            }
        }
    }

    #[inline(always)]
    unsafe fn give(&self, plus: Option<*const i32>, to: usize, sink: &Accumulators) {
        for (r, acc) in self.0[0].iter().enumerate() {
            for (half, acc) in acc.iter().enumerate() {
                // SAFETY: the caller promises `R` rows there and in the sink.
                unsafe {
                    let mut acc = *acc;
                    if let Some(plus) = plus {
                        let more = _mm256_load_si256(plus.add(r * NR + 8 * half).cast());
                        acc = _mm256_add_epi32(acc, more);
                    }
                    _mm256_store_si256(sink.0.add((to + r) * NR + 8 * half).cast(), acc);
                }
            }
        }
    }
}
