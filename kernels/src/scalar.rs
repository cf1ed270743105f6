//! The scalar leaves: [`spec`](crate::spec) in the shape of kernels, generic over the tile.
//!
//! They run everywhere and exercise the driver with odd tiles. The compiler may vectorise them.

use core::slice;

use half::{bf16, f16};

use crate::isa::Isa;
use crate::layout::{Tile, padded_k};
use crate::leaf::{CodeArgs, FinishArgs, MicroArgs, NormArgs, QuantizeArgs, RaiseArgs};
use crate::output::Destination;
use crate::row::{Absmax, Epilogue, MicroKernel, Norm, Prologue};
use crate::spec;
use crate::view::{Elem, Element};

pub(crate) const MICRO_KERNELS: &[MicroKernel] = &[
    MicroKernel {
        // No tile dimension is a power of two on purpose: drivers that assume one fail on it.
        name: "scalar_u8s8_3x5x1",
        isa: Isa::Scalar,
        tile: Tile::new(3, 5, 1),
        micro: micro::<3, 5, 1>,
        ..MicroKernel::DEFAULT
    },
    MicroKernel {
        name: "scalar_u8s8_4x8x4",
        isa: Isa::Scalar,
        tile: Tile::new(4, 8, 4),
        micro: micro::<4, 8, 4>,
        ..MicroKernel::DEFAULT
    },
];

pub(crate) const PROLOGUES: &[Prologue] = &[
    Prologue {
        name: "scalar_f32_u8",
        isa: Isa::Scalar,
        source: Elem::F32,
        quantize: quantize::<f32>,
    },
    Prologue {
        name: "scalar_f16_u8",
        isa: Isa::Scalar,
        source: Elem::F16,
        quantize: quantize::<f16>,
    },
    Prologue {
        name: "scalar_bf16_u8",
        isa: Isa::Scalar,
        source: Elem::Bf16,
        quantize: quantize::<bf16>,
    },
];

pub(crate) const NORMS: &[Norm] = &[Norm {
    name: "scalar_norm",
    isa: Isa::Scalar,
    normalize,
}];

pub(crate) const ABSMAXES: &[Absmax] = &[
    Absmax {
        name: "scalar_f32_absmax",
        isa: Isa::Scalar,
        source: Elem::F32,
        raise: raise::<f32>,
    },
    Absmax {
        name: "scalar_f16_absmax",
        isa: Isa::Scalar,
        source: Elem::F16,
        raise: raise::<f16>,
    },
    Absmax {
        name: "scalar_bf16_absmax",
        isa: Isa::Scalar,
        source: Elem::Bf16,
        raise: raise::<bf16>,
    },
];

pub(crate) const EPILOGUES: &[Epilogue] = &[
    Epilogue {
        name: "scalar_i32_f32",
        isa: Isa::Scalar,
        destination: Destination::Store(Elem::F32),
        finish: store::<f32>,
    },
    Epilogue {
        name: "scalar_i32_f16",
        isa: Isa::Scalar,
        destination: Destination::Store(Elem::F16),
        finish: store::<f16>,
    },
    Epilogue {
        name: "scalar_i32_bf16",
        isa: Isa::Scalar,
        destination: Destination::Store(Elem::Bf16),
        finish: store::<bf16>,
    },
    Epilogue {
        name: "scalar_i32_add",
        isa: Isa::Scalar,
        destination: Destination::Add,
        finish: add,
    },
    Epilogue {
        name: "scalar_i32_u8",
        isa: Isa::Scalar,
        destination: Destination::Code,
        finish: code,
    },
    Epilogue {
        name: "scalar_i32_twin",
        isa: Isa::Scalar,
        destination: Destination::TwinCode,
        finish: twin_code,
    },
];

/// # Safety
///
/// `args` keeps the promises of [`MicroArgs`] for a panel of `NR` and `KR`.
unsafe fn micro<const MR: usize, const NR: usize, const KR: usize>(args: &MicroArgs) {
    // SAFETY: the caller promises one panel of `k` inputs and `m` rows of accumulators.
    let (b, c) = unsafe {
        (
            slice::from_raw_parts(args.b, args.k * NR),
            slice::from_raw_parts_mut(args.c, args.m * NR),
        )
    };
    for (tile, c) in c.chunks_mut(MR * NR).enumerate() {
        let mut acc = [[0i32; NR]; MR];
        let rows = c.len() / NR;
        for (r, acc) in acc.iter_mut().enumerate().take(rows) {
            // SAFETY: row `tile * MR + r` is one of the `m` rows of `k` codes.
            let codes = unsafe {
                let row = args.a.add((tile * MR + r) * args.a_stride);
                slice::from_raw_parts(row, args.k)
            };
            for (u, group) in codes.chunks_exact(KR).zip(b.chunks_exact(NR * KR)) {
                for (acc, w) in acc.iter_mut().zip(group.chunks_exact(KR)) {
                    *acc += spec::accumulate(u, w);
                }
            }
        }
        for (out, acc) in c.iter_mut().zip(acc.as_flattened()) {
            *out = *acc;
        }
    }
}

/// # Safety
///
/// `args` keeps the promises of [`QuantizeArgs`] for elements of type `T`.
unsafe fn quantize<T: Element>(args: &QuantizeArgs) {
    let padded = padded_k(args.k);
    // SAFETY: the caller promises `padded_k(k)` multipliers and offsets.
    let (inv, t) = unsafe {
        (
            slice::from_raw_parts(args.inv, padded),
            slice::from_raw_parts(args.t, padded),
        )
    };
    for row in 0..args.m {
        // SAFETY: the caller promises `m` rows of `k` elements and of `padded_k(k)` codes.
        let (x, codes) = unsafe {
            (
                slice::from_raw_parts(args.x.cast::<T>().add(row * args.x_stride), args.k),
                slice::from_raw_parts_mut(args.codes.add(row * args.codes_stride), padded),
            )
        };
        for (((code, x), inv), t) in codes.iter_mut().zip(x).zip(inv).zip(t) {
            let u = spec::code(x.to_f32(), *inv, *t, args.max_code);
            *code = u.wrapping_sub(args.code_offset);
        }
        codes[args.k..].fill(0u8.wrapping_sub(args.code_offset));
    }
}

/// # Safety
///
/// `args` keeps the promises of [`RaiseArgs`] for elements of type `T`.
unsafe fn normalize(args: &NormArgs) {
    // SAFETY: the caller promises `k` numbers of each.
    let [weight, bias] =
        [args.weight, args.bias].map(|numbers| unsafe { slice::from_raw_parts(numbers, args.k) });
    for row in 0..args.m {
        // SAFETY: the caller promises `m` rows of `k` numbers, in `x` and in `y`, which do not overlap.
        let (x, y) = unsafe {
            (
                slice::from_raw_parts(args.x.add(row * args.x_stride), args.k),
                slice::from_raw_parts_mut(args.y.add(row * args.y_stride), args.k),
            )
        };
        spec::normalize(args.kind, x, weight, bias, args.eps, y);
    }
}

/// # Safety
///
/// As the leaf's.
unsafe fn raise<T: Element>(args: &RaiseArgs) {
    // SAFETY: the caller promises `k` numbers.
    let most = unsafe { slice::from_raw_parts_mut(args.most, args.k) };
    for row in 0..args.m {
        // SAFETY: the caller promises `m` rows of `k` elements.
        let x =
            unsafe { slice::from_raw_parts(args.x.cast::<T>().add(row * args.x_stride), args.k) };
        for (most, x) in most.iter_mut().zip(x) {
            *most = spec::raise(*most, x.to_f32());
        }
    }
}

/// # Safety
///
/// `args` keeps the promises of [`FinishArgs`] for elements of type `T`.
unsafe fn store<T: Element>(args: &FinishArgs) {
    // SAFETY: as the caller promises.
    unsafe { finish::<T>(args, |_, y, value| *y = T::from_f32(value)) }
}

/// # Safety
///
/// `args` keeps the promises of [`FinishArgs`] for f32.
unsafe fn add(args: &FinishArgs) {
    // SAFETY: as the caller promises.
    unsafe { finish::<f32>(args, |_, y, value| *y += value) }
}

/// # Safety
///
/// `args` keeps the promises of [`FinishArgs`] for codes.
unsafe fn code(args: &FinishArgs) {
    // SAFETY: as the caller promises.
    unsafe {
        let code_of = quantizer(args.coding.code, args.n);
        let stored = |code: u8| code.wrapping_sub(args.coding.code_offset);
        finish::<u8>(args, |n, code, value| *code = stored(code_of(n, value)))
    }
}

/// # Safety
///
/// `args` keeps the promises of [`FinishArgs`] for twin codes.
unsafe fn twin_code(args: &FinishArgs) {
    let coding = args.coding;
    // SAFETY: as the caller promises.
    unsafe {
        let fine = quantizer(coding.code, args.n);
        let coarse = quantizer(coding.coarse, args.n);
        finish::<u8>(args, |n, code, value| {
            let merged = spec::merged_code(fine(n, value), coarse(n, value), coding.shift);
            *code = merged.wrapping_sub(coding.code_offset);
        })
    }
}

/// What makes the code of an output of `n` columns, which is given with its column.
///
/// # Safety
///
/// `args` keeps the promises of [`CodeArgs`] while the result is in use.
#[inline]
unsafe fn quantizer(args: CodeArgs, n: usize) -> impl Fn(usize, f32) -> u8 {
    // SAFETY: the caller promises `n` values of each.
    let (inv, t) = unsafe {
        (
            slice::from_raw_parts(args.inv, n),
            slice::from_raw_parts(args.t, n),
        )
    };
    move |n, value| spec::code(value, inv[n], t[n], args.max)
}

/// Calls `write` with the column, the place and the value of every output.
///
/// # Safety
///
/// `args` keeps the promises of [`FinishArgs`] for destination elements of type `T`.
#[inline]
unsafe fn finish<T>(args: &FinishArgs, write: impl Fn(usize, &mut T, f32)) {
    // SAFETY: the caller promises `c_stride ≥ n` values of each.
    let (comp, scale, bias) = unsafe {
        (
            slice::from_raw_parts(args.comp, args.n),
            slice::from_raw_parts(args.scale, args.n),
            slice::from_raw_parts(args.bias, args.n),
        )
    };
    for row in 0..args.m {
        // SAFETY: the caller promises `m` rows of accumulators and of `n` output elements.
        let (c, y) = unsafe {
            (
                slice::from_raw_parts(args.c.add(row * args.c_stride), args.n),
                slice::from_raw_parts_mut(args.y.cast::<T>().add(row * args.y_stride), args.n),
            )
        };
        for (n, (y, acc)) in y.iter_mut().zip(c).enumerate() {
            let value = spec::output(*acc, comp[n], scale[n], bias[n]);
            write(n, y, args.activation.of(value));
        }
    }
}
