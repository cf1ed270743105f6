//! Norms of rows.

use noisyquant_kernels::ready::{NormNumbers, Ready};
use noisyquant_kernels::row::Norm;
use noisyquant_kernels::spec::{self, NormKind};
use noisyquant_kernels::view::{MatMut, MatRef};

use super::operands::Rng;
use super::prologue::SPECIAL;
use crate::guarded::Guarded;

/// Around the sizes of registers and of the sums, of few rows and many.
pub fn check(row: Ready<Norm>) {
    let mut rng = Rng(17);
    for k in [
        1, 3, 4, 7, 8, 9, 15, 16, 17, 31, 63, 64, 65, 79, 96, 127, 128, 129, 200, 384,
    ] {
        for (m, kind) in [
            (1, NormKind::Layer),
            (2, NormKind::Rms),
            (5, NormKind::Layer),
        ] {
            let stride = k + (k * m) % 3;
            let mut x = Guarded::<f32>::new((m - 1) * stride + k);
            for (i, x) in x.iter_mut().enumerate() {
                // The last row of many has numbers of all kinds.
                *x = match i >= 4 * stride && rng.below(8) == 0 {
                    true => SPECIAL[rng.below(12) as usize],
                    false => rng.float() * 3.0 + 100.0 * (i % 2) as f32,
                };
            }
            let [mut weight, mut bias] = [(); 2].map(|()| Guarded::<f32>::new(k));
            weight.iter_mut().for_each(|w| *w = 1.0 + rng.float());
            bias.iter_mut().for_each(|b| *b = rng.float());
            let mut y = Guarded::<f32>::new((m - 1) * stride + k);
            y.fill(7.0);
            let mut expected = y.to_vec();
            for (x, y) in x.chunks(stride).zip(expected.chunks_mut(stride)) {
                spec::normalize(kind, &x[..k], &weight, &bias, 1e-6, &mut y[..k]);
            }
            let numbers = NormNumbers {
                kind,
                weight: &weight,
                bias: &bias,
                eps: 1e-6,
            };
            let x = MatRef::new(&x[..], m, k, stride).unwrap();
            row.normalize(x, numbers, MatMut::new(&mut y[..], m, k, stride).unwrap());
            // The bits of a NaN are the CPU's.
            let bits = |numbers: &[f32]| -> Vec<Option<u32>> {
                let bits = |y: &f32| (!y.is_nan()).then(|| y.to_bits());
                numbers.iter().map(bits).collect()
            };
            assert_eq!(bits(&y), bits(&expected), "{} m={m} k={k}", row.name);
        }
    }
}
