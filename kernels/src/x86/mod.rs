//! x86-64: the rows of its kernels.

mod amx;
mod avx2;
mod avx512vnni;
mod avxvnni;
mod probe;
mod tiles;
mod ymm;
mod zmm;

use crate::isa::Isa;
use crate::layout::Tile;
use crate::leaf::block_by_steps;
use crate::row::{Epilogue, MicroKernel, Prologue};
use crate::view::Elem;

pub(crate) const MICRO_KERNELS: &[MicroKernel] = &[
    MicroKernel {
        name: "avx2_u8s8_6x16x2",
        isa: Isa::Avx2,
        tile: Tile {
            mr: 6,
            nr: 16,
            kr: 2,
        },
        widen: Some(avx2::widen),
        max_product: u32::MAX,
        max_code: u8::MAX,
        max_weight: 128,
        code_offset: 0,
        micro: avx2::micro_u8s8,
        block: avx2::block_u8s8,
        probe: probe::avx2_madd_i16,
    },
    MicroKernel {
        name: "avx2_u7s8_6x16x4",
        isa: Isa::Avx2,
        tile: Tile {
            mr: 6,
            nr: 16,
            kr: 4,
        },
        widen: None,
        // Two products in an i16: 2 · 16 383 ≤ 32 767. 127 · 127 and 255 · 63 are below.
        max_product: 16_383,
        max_code: u8::MAX,
        max_weight: 128,
        code_offset: 0,
        micro: avx2::micro_u7s8,
        block: avx2::block_u7s8,
        probe: probe::avx2_maddubs,
    },
    MicroKernel {
        name: "avx2_u6s6_6x16x4",
        isa: Isa::Avx2,
        tile: Tile {
            mr: 6,
            nr: 16,
            kr: 4,
        },
        widen: None,
        // Two products a lane, eight times: 16 · 2047 ≤ 32 767. 63 · 31 = 1953.
        max_product: 2047,
        max_code: u8::MAX,
        max_weight: 128,
        code_offset: 0,
        micro: avx2::micro_u6s6,
        block: block_by_steps,
        probe: probe::avx2_maddubs_x8,
    },
    MicroKernel {
        name: "avxvnni_u8s8_6x16x4",
        isa: Isa::AvxVnni,
        tile: Tile {
            mr: 6,
            nr: 16,
            kr: 4,
        },
        widen: None,
        max_product: u32::MAX,
        max_code: u8::MAX,
        max_weight: 128,
        code_offset: 0,
        micro: avxvnni::micro,
        block: avxvnni::block,
        probe: probe::avxvnni_dpbusd,
    },
    MicroKernel {
        name: "avx512vnni_u8s8_12x32x4",
        isa: Isa::Avx512Vnni,
        tile: Tile {
            mr: 12,
            nr: 32,
            kr: 4,
        },
        widen: None,
        max_product: u32::MAX,
        max_code: u8::MAX,
        max_weight: 128,
        code_offset: 0,
        micro: avx512vnni::micro,
        block: avx512vnni::block,
        probe: probe::avx512_dpbusd,
    },
    MicroKernel {
        name: "amx_u8s8_32x32x4",
        isa: Isa::Amx,
        tile: Tile {
            mr: 32,
            nr: 32,
            kr: 4,
        },
        widen: None,
        max_product: u32::MAX,
        max_code: u8::MAX,
        max_weight: 128,
        code_offset: 0,
        micro: amx::micro,
        block: amx::block,
        probe: amx::probe,
    },
];

pub(crate) const PROLOGUES: &[Prologue] = &[
    Prologue {
        name: "avx2_f32_u8",
        isa: Isa::Avx2,
        source: Elem::F32,
        quantize: ymm::convert::quantize_f32,
    },
    Prologue {
        name: "avx2_f16_u8",
        isa: Isa::Avx2,
        source: Elem::F16,
        quantize: ymm::convert::quantize_f16,
    },
    Prologue {
        name: "avx2_bf16_u8",
        isa: Isa::Avx2,
        source: Elem::Bf16,
        quantize: ymm::convert::quantize_bf16,
    },
    Prologue {
        name: "avx512vnni_f32_u8",
        isa: Isa::Avx512Vnni,
        source: Elem::F32,
        quantize: zmm::convert::quantize_f32,
    },
    Prologue {
        name: "avx512vnni_f16_u8",
        isa: Isa::Avx512Vnni,
        source: Elem::F16,
        quantize: zmm::convert::quantize_f16,
    },
    Prologue {
        name: "avx512vnni_bf16_u8",
        isa: Isa::Avx512Vnni,
        source: Elem::Bf16,
        quantize: zmm::convert::quantize_bf16,
    },
];

pub(crate) const EPILOGUES: &[Epilogue] = &[
    Epilogue {
        name: "avx2_i32_f32",
        isa: Isa::Avx2,
        destination: Elem::F32,
        finish: ymm::convert::finish_f32,
    },
    Epilogue {
        name: "avx2_i32_f16",
        isa: Isa::Avx2,
        destination: Elem::F16,
        finish: ymm::convert::finish_f16,
    },
    Epilogue {
        name: "avx2_i32_bf16",
        isa: Isa::Avx2,
        destination: Elem::Bf16,
        finish: ymm::convert::finish_bf16,
    },
    Epilogue {
        name: "avx512vnni_i32_f32",
        isa: Isa::Avx512Vnni,
        destination: Elem::F32,
        finish: zmm::convert::finish_f32,
    },
    Epilogue {
        name: "avx512vnni_i32_f16",
        isa: Isa::Avx512Vnni,
        destination: Elem::F16,
        finish: zmm::convert::finish_f16,
    },
    Epilogue {
        name: "avx512vnni_i32_bf16",
        isa: Isa::Avx512Vnni,
        destination: Elem::Bf16,
        finish: zmm::convert::finish_bf16,
    },
];
