//! AArch64: the rows of its kernels. Little-endian only: a big-endian target gets the
//! scalar rows.

mod absmax;
mod convert;
mod dotprod;
mod finish;
mod i8mm;
mod lanes;
mod neon;
mod norm;
mod tiles;

use crate::isa::Isa;
use crate::layout::Tile;
use crate::output::Destination;
use crate::row::{Absmax, Epilogue, MicroKernel, Norm, Prologue};
use crate::strassen;
use crate::view::Elem;

pub(crate) const MICRO_KERNELS: &[MicroKernel] = &[
    MicroKernel {
        name: "neon_u8s8_4x8x16",
        isa: Isa::Neon,
        tile: Tile::new(4, 8, 16),
        // Codes are −128..=127, and two products in an i16: 2 · 128 · 127 ≤ 32 767, and 2 · 128 · 128 is
        // not, which two codes 0 beside two weights of −128 would need.
        max_weight: 127,
        code_offset: 128,
        micro: neon::micro_u8s8,
        ..MicroKernel::DEFAULT
    },
    MicroKernel {
        name: "neon_u6s6_2x16x32",
        isa: Isa::Neon,
        tile: Tile::new(2, 16, 32),
        // Both factors of a product are a code plus a weight: |u − 32 + w| ≤ 63, eight products of
        // 63 · 63 fit an i16, and the byte additions cannot overflow. The product of code and
        // weight alone says nothing here; both are bounded.
        max_product: 63 * 31,
        max_code: 63,
        max_weight: 31,
        code_offset: 32,
        micro: neon::micro_u6s6,
        ..MicroKernel::DEFAULT
    },
    MicroKernel {
        name: "neondotprod_u8s8_8x8x4",
        isa: Isa::NeonDotprod,
        tile: Tile::new(8, 8, 4),
        // `sdot` adds four products of i8 and i8, −128 · −128 among them, to an i32.
        code_offset: 128,
        micro: dotprod::micro,
        ..MicroKernel::DEFAULT
    },
    MicroKernel {
        name: "neondotprod_u6s6_8x8x4",
        isa: Isa::NeonDotprod,
        tile: Tile::new(8, 8, 4),
        max_product: strassen::MAX_PRODUCT,
        max_code: strassen::MAX_CODE,
        max_weight: strassen::MAX_WEIGHT,
        // Codes of six bits are signed bytes as they are.
        strassen: Some(dotprod::BIAS),
        micro: dotprod::micro,
        block: dotprod::block_u6s6,
        ..MicroKernel::DEFAULT
    },
    MicroKernel {
        name: "neoni8mm_u8s8_4x24x8",
        isa: Isa::NeonI8mm,
        tile: Tile::new(4, 24, 8),
        // `usmmla` adds eight products of u8 and i8, −128 among them, to an i32.
        micro: i8mm::micro,
        ..MicroKernel::DEFAULT
    },
    MicroKernel {
        name: "neoni8mm_u6s6_4x24x8",
        isa: Isa::NeonI8mm,
        tile: Tile::new(4, 24, 8),
        max_product: strassen::MAX_PRODUCT,
        max_code: strassen::MAX_CODE,
        max_weight: strassen::MAX_WEIGHT,
        strassen: Some(i8mm::BIAS),
        micro: i8mm::micro,
        block: i8mm::block_u6s6,
        ..MicroKernel::DEFAULT
    },
];

pub(crate) const PROLOGUES: &[Prologue] = &[
    Prologue {
        name: "neon_f32_u8",
        isa: Isa::Neon,
        source: Elem::F32,
        quantize: convert::quantize::<convert::F32>,
    },
    Prologue {
        name: "neon_f16_u8",
        isa: Isa::Neon,
        source: Elem::F16,
        quantize: convert::quantize::<convert::F16>,
    },
    Prologue {
        name: "neon_bf16_u8",
        isa: Isa::Neon,
        source: Elem::Bf16,
        quantize: convert::quantize::<convert::Bf16>,
    },
];

pub(crate) const NORMS: &[Norm] = &[Norm {
    name: "neon_norm",
    isa: Isa::Neon,
    normalize: norm::normalize,
}];

pub(crate) const ABSMAXES: &[Absmax] = &[
    Absmax {
        name: "neon_f32_absmax",
        isa: Isa::Neon,
        source: Elem::F32,
        raise: absmax::raise::<convert::F32>,
    },
    Absmax {
        name: "neon_f16_absmax",
        isa: Isa::Neon,
        source: Elem::F16,
        raise: absmax::raise::<convert::F16>,
    },
    Absmax {
        name: "neon_bf16_absmax",
        isa: Isa::Neon,
        source: Elem::Bf16,
        raise: absmax::raise::<convert::Bf16>,
    },
];

pub(crate) const EPILOGUES: &[Epilogue] = &[
    Epilogue {
        name: "neon_i32_f32",
        isa: Isa::Neon,
        destination: Destination::Store(Elem::F32),
        finish: finish::finish::<convert::F32>,
    },
    Epilogue {
        name: "neon_i32_f16",
        isa: Isa::Neon,
        destination: Destination::Store(Elem::F16),
        finish: finish::finish::<convert::F16>,
    },
    Epilogue {
        name: "neon_i32_bf16",
        isa: Isa::Neon,
        destination: Destination::Store(Elem::Bf16),
        finish: finish::finish::<convert::Bf16>,
    },
    Epilogue {
        name: "neon_i32_add",
        isa: Isa::Neon,
        destination: Destination::Add,
        finish: finish::finish::<finish::Add>,
    },
    Epilogue {
        name: "neon_i32_u8",
        isa: Isa::Neon,
        destination: Destination::Code,
        finish: finish::finish::<finish::Code>,
    },
    Epilogue {
        name: "neon_i32_twin",
        isa: Isa::Neon,
        destination: Destination::TwinCode,
        finish: finish::finish::<finish::TwinCode>,
    },
];
