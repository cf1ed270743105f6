//! Prologues: source elements to codes.

use noisyquant_kernels::layout::{codes_stride, padded_k};
use noisyquant_kernels::output::CodeForm;
use noisyquant_kernels::ready::Ready;
use noisyquant_kernels::row::Prologue;
use noisyquant_kernels::spec;
use noisyquant_kernels::view::{Element, MatRef};

use super::operands::Rng;
use crate::guarded::Guarded;

pub const SPECIAL: [f32; 12] = [
    0.0,
    -0.0,
    f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::MAX,
    f32::MIN,
    f32::MIN_POSITIVE,
    1e-45,
    -1e-45,
    0.5,
    1.5,
];

/// All widths and forms of codes, around the sizes of registers and paddings.
pub fn check<T: Element>(row: Ready<Prologue>) {
    let mut rng = Rng(11);
    for max_code in (spec::MIN_BITS..=spec::MAX_BITS).map(spec::max_code) {
        for k in [
            1, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 200,
        ] {
            for m in [1, 2, 3] {
                let padded = padded_k(k);
                let x_stride = k + (k * m) % 3;
                let values: Vec<T> = (0..(m - 1) * x_stride + k)
                    .map(|_| match rng.below(4) {
                        0 => SPECIAL[rng.below(12) as usize],
                        1 => (rng.float() * 200.0).round() / 2.0, // exact ties
                        _ => rng.float() * f32::from(max_code),
                    })
                    .map(T::from_f32)
                    .collect();
                let mut inv = Guarded::<f32>::new(padded);
                let mut t = Guarded::<f32>::new(padded);
                for i in 0..k {
                    inv[i] = if i % 3 == 0 {
                        1.0
                    } else {
                        0.01 + rng.float().abs() * 3.0
                    };
                    t[i] = if i % 3 == 0 {
                        f32::from(max_code / 2)
                    } else {
                        rng.float() * 70.0
                    };
                }
                let mut x = Guarded::<T>::new(values.len());
                x.copy_from_slice(&values);
                let stride = codes_stride(k);
                let mut codes = Guarded::<u8>::aligned((m - 1) * stride + padded);
                codes.fill(0xa5);
                let view = MatRef::new(&x[..], m, k, x_stride).unwrap();
                // Every stored form: as is, signed, and centred for 6 bits.
                let offset = [0, 128, 32][(k + m) % 3];
                let form = CodeForm {
                    max: max_code,
                    offset,
                };
                row.quantize(view, &inv, &t, form, &mut codes, stride);
                for (i, code) in codes.iter().enumerate() {
                    let (r, c) = (i / stride, i % stride);
                    let expected = match c {
                        _ if c < k => {
                            let x = values[r * x_stride + c].to_f32();
                            spec::code(x, inv[c], t[c], max_code).wrapping_sub(offset)
                        }
                        _ if c < padded => 0u8.wrapping_sub(offset),
                        _ => 0xa5, // between rows: untouched
                    };
                    assert_eq!(
                        *code,
                        expected,
                        "{} m={m} k={k} max={max_code} at {:?}",
                        row.name,
                        (r, c)
                    );
                }
            }
        }
    }
}
