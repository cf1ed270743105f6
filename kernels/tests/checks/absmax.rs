//! Largest magnitudes of columns.

use noisyquant_kernels::ready::Ready;
use noisyquant_kernels::row::Absmax;
use noisyquant_kernels::spec;
use noisyquant_kernels::view::{Element, MatRef};

use super::operands::Rng;
use super::prologue::SPECIAL;
use crate::guarded::Guarded;

/// Around the sizes of registers, of few rows and many.
pub fn check<T: Element>(row: Ready<Absmax>) {
    let mut rng = Rng(13);
    for k in [
        1, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 72, 127, 128, 129, 200,
    ] {
        for m in [1, 2, 3, 17] {
            let stride = k + (k * m) % 3;
            let mut x = Guarded::<T>::new((m - 1) * stride + k);
            for x in x.iter_mut() {
                *x = T::from_f32(match rng.below(8) {
                    0 => SPECIAL[rng.below(12) as usize],
                    _ => rng.float() * 10.0,
                });
            }
            let mut most = Guarded::<f32>::new(k);
            for most in most.iter_mut() {
                *most = [0.0, 0.0, 5.0, f32::INFINITY][rng.below(4) as usize];
            }
            let mut expected = most.to_vec();
            for x in x.chunks(stride) {
                for (most, x) in expected.iter_mut().zip(x) {
                    *most = spec::raise(*most, x.to_f32());
                }
            }
            row.raise(MatRef::new(&x[..], m, k, stride).unwrap(), &mut most);
            let bits = |numbers: &[f32]| -> Vec<u32> {
                numbers.iter().map(|number| number.to_bits()).collect()
            };
            assert_eq!(bits(&most), bits(&expected), "{} m={m} k={k}", row.name);
        }
    }
}
