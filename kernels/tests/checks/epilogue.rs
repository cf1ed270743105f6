//! Epilogues: accumulators to outputs.

use std::fmt::Debug;

use noisyquant_kernels::ready::{Channels, Ready};
use noisyquant_kernels::row::Epilogue;
use noisyquant_kernels::spec;
use noisyquant_kernels::view::{Element, MatMut};

use super::operands::Rng;
use crate::guarded::Guarded;

/// All widths of panels and numbers of columns, at every distance from a cache line.
pub fn check<T: Element + PartialEq + Debug>(row: Ready<Epilogue>) {
    let mut rng = Rng(13);
    for nr in [5, 8, 16, 32, 48] {
        for n in 1..=nr {
            for m in [1, 2, 3] {
                let mut c = Guarded::<i32>::new(m * nr);
                let mut comp = Guarded::<i32>::new(nr);
                let mut scale = Guarded::<f32>::new(nr);
                let mut bias = Guarded::<f32>::new(nr);
                let magnitude = rng.below(30);
                for value in c.iter_mut().chain(comp.iter_mut()) {
                    *value = (rng.next() as i32 / 2) >> magnitude;
                }
                for (scale, bias) in scale.iter_mut().zip(bias.iter_mut()) {
                    *scale = f32::exp2(rng.below(40) as f32 - 35.0) * (1.0 + rng.float().abs());
                    *bias = rng.float() * f32::exp2(rng.below(20) as f32 - 15.0);
                }
                let channels = Channels {
                    comp: &comp,
                    scale: &scale,
                    bias: &bias,
                };
                let expected = |r: usize, col: usize| {
                    let acc = c[r * nr + col];
                    T::from_f32(spec::output(acc, comp[col], scale[col], bias[col]))
                };
                // Ending at the unmapped page; and at every distance from a cache line, all rows
                // alike, with values in front that must stay.
                let apart = n.next_multiple_of(32);
                let aligned = (0..16).map(|lead| (lead, apart));
                for (lead, y_stride) in std::iter::once((0, n + m % 3)).chain(aligned) {
                    let len = lead + (m - 1) * y_stride + n;
                    let mut y = match y_stride == apart {
                        true => Guarded::<T>::aligned(len),
                        false => Guarded::<T>::new(len),
                    };
                    let untouched = T::from_f32(-7.0);
                    y.fill(untouched);
                    let out = MatMut::new(&mut y[lead..], m, n, y_stride).unwrap();
                    row.finish(&c, nr, channels, out);
                    for (i, value) in y.iter().enumerate() {
                        let at = i.checked_sub(lead).map(|i| (i / y_stride, i % y_stride));
                        let expected = match at {
                            Some((r, col)) if col < n => expected(r, col),
                            _ => untouched,
                        };
                        assert_eq!(
                            *value, expected,
                            "{} nr={nr} n={n} lead={lead} {at:?}",
                            row.name
                        );
                    }
                }
            }
        }
    }
}
