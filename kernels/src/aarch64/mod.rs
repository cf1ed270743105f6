//! AArch64: the rows of its kernels. Little-endian only: a big-endian target gets the
//! scalar rows.

mod convert;
mod dotprod;
mod i8mm;
mod neon;
mod probe;
mod tiles;

use crate::isa::Isa;
use crate::layout::Tile;
use crate::leaf::block_by_steps;
use crate::row::{Epilogue, MicroKernel, Prologue};
use crate::view::Elem;

pub(crate) const MICRO_KERNELS: &[MicroKernel] = &[
    MicroKernel {
        name: "neon_u8s8_4x8x16",
        isa: Isa::Neon,
        tile: Tile {
            mr: 4,
            nr: 8,
            kr: 16,
        },
        widen: None,
        max_product: u32::MAX,
        max_code: u8::MAX,
        max_weight: 127,
        code_offset: 128,
        micro: neon::micro_u8s8,
        block: block_by_steps,
        probe: probe::smull,
    },
    MicroKernel {
        name: "neon_u6s6_2x16x32",
        isa: Isa::Neon,
        tile: Tile {
            mr: 2,
            nr: 16,
            kr: 32,
        },
        widen: None,
        // Both factors of a product are a code plus a weight: |u − 32 + w| ≤ 63, eight products of
        // 63 · 63 fit an i16, and the byte additions cannot overflow. The product of code and
        // weight alone says nothing here; both are bounded.
        max_product: 63 * 31,
        max_code: 63,
        max_weight: 31,
        code_offset: 32,
        micro: neon::micro_u6s6,
        block: block_by_steps,
        probe: probe::add_smlal,
    },
    MicroKernel {
        name: "neondotprod_u8s8_8x8x4",
        isa: Isa::NeonDotprod,
        tile: Tile {
            mr: 8,
            nr: 8,
            kr: 4,
        },
        widen: None,
        max_product: u32::MAX,
        max_code: u8::MAX,
        max_weight: 128,
        code_offset: 128,
        micro: dotprod::micro,
        block: block_by_steps,
        probe: probe::sdot,
    },
    MicroKernel {
        name: "neoni8mm_u8s8_4x24x8",
        isa: Isa::NeonI8mm,
        tile: Tile {
            mr: 4,
            nr: 24,
            kr: 8,
        },
        widen: None,
        max_product: u32::MAX,
        max_code: u8::MAX,
        max_weight: 128,
        code_offset: 0,
        micro: i8mm::micro,
        block: block_by_steps,
        probe: probe::usmmla,
    },
];

pub(crate) const PROLOGUES: &[Prologue] = &[
    Prologue {
        name: "neon_f32_u8",
        isa: Isa::Neon,
        source: Elem::F32,
        quantize: convert::quantize_f32,
    },
    Prologue {
        name: "neon_f16_u8",
        isa: Isa::Neon,
        source: Elem::F16,
        quantize: convert::quantize_f16,
    },
    Prologue {
        name: "neon_bf16_u8",
        isa: Isa::Neon,
        source: Elem::Bf16,
        quantize: convert::quantize_bf16,
    },
];

pub(crate) const EPILOGUES: &[Epilogue] = &[
    Epilogue {
        name: "neon_i32_f32",
        isa: Isa::Neon,
        destination: Elem::F32,
        finish: convert::finish_f32,
    },
    Epilogue {
        name: "neon_i32_f16",
        isa: Isa::Neon,
        destination: Elem::F16,
        finish: convert::finish_f16,
    },
    Epilogue {
        name: "neon_i32_bf16",
        isa: Isa::Neon,
        destination: Elem::Bf16,
        finish: convert::finish_bf16,
    },
];
