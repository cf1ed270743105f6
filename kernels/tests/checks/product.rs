//! Micro-kernels: codes and a panel of weights to accumulators.

use noisyquant_kernels::layout::{codes_stride, padded_k};
use noisyquant_kernels::ready::{Codes, Panels, Ready};
use noisyquant_kernels::row::MicroKernel;
use noisyquant_kernels::spec;

use super::operands::{FILLS, Width, around, fill, store_codes, widest, widths};
use crate::guarded::Guarded;

/// Every width of operands, with every fill where it matters.
pub fn check(kernel: Ready<MicroKernel>) {
    let nr = kernel.tile.nr;
    let widest = widest(&kernel);
    for k in [64, 128, 192, 320, 1, 27, 70, 100] {
        for m in around(kernel.tile.mr) {
            // The widest operands get every fill; narrower ones, random values.
            for width in widths(&kernel) {
                let fills = if width == widest || width.1 == 128 || k == 64 {
                    &FILLS[..]
                } else {
                    &FILLS[..1]
                };
                for kind in fills {
                    let mut codes = vec![0u8; m * k];
                    let mut weights = vec![0i8; nr * k];
                    fill(kind, width, &mut codes, &mut weights);
                    let case = format!("{} m={m} k={k} max {width:?} {kind}", kernel.name);
                    check_product(kernel, width, &codes, &weights, k, &case);
                }
            }
        }
    }
}

/// One product with a panel: the codes' rows apart, all buffers at an unmapped page.
fn check_product(
    kernel: Ready<MicroKernel>,
    (max_code, max_weight): Width,
    codes: &[u8],
    weights: &[i8],
    k: usize,
    case: &str,
) {
    let (m, nr) = (codes.len() / k, kernel.tile.nr);
    let mut packed = Guarded::<i8>::aligned(kernel.panel().panel_bytes(k));
    kernel.panel().pack(weights, k, nr, k, &mut packed);
    let padded = padded_k(k);

    // Rows `stride` apart; the last one ends with the buffer, so the first is unaligned.
    let width = kernel.code_bytes();
    let stride = codes_stride(k) * width;
    let mut a = Guarded::<u8>::new((m - 1) * stride + padded * width);
    a.fill(0xa5);
    for (r, row) in codes.chunks_exact(k).enumerate() {
        let at = r * stride..r * stride + padded * width;
        store_codes(kernel, row, &mut a[at]);
    }

    let expected = |r: usize, n: usize| {
        let (codes, weights) = (&codes[r * k..(r + 1) * k], &weights[n * k..(n + 1) * k]);
        let sum: i32 = weights.iter().map(|w| i32::from(*w)).sum();
        spec::accumulate(codes, weights) - i32::from(kernel.code_offset) * sum
    };
    let operand = Codes {
        bytes: &a,
        stride,
        rows: m,
        k,
        max: max_code,
    };
    let panel = Panels {
        bytes: &packed,
        corrections: &[],
        max: max_weight,
    };
    let mut c = Guarded::<i32>::aligned(m * nr);
    c.fill(-77);
    kernel.run(operand, panel, &mut c);
    for (i, value) in c.iter().enumerate() {
        assert_eq!(
            *value,
            expected(i / nr, i % nr),
            "{case} at {:?}",
            (i / nr, i % nr)
        );
    }
}
