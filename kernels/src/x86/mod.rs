//! x86-64: the rows of its kernels.

mod amx;
mod avx2;
mod avx512vnni;
mod avxvnni;
mod tiles;
mod ymm;
mod zmm;

use crate::isa::Isa;
use crate::layout::{Form, Tile};
use crate::output::Destination;
use crate::row::{Absmax, Epilogue, MicroKernel, Norm, Prologue};
use crate::strassen;
use crate::view::Elem;

pub(crate) const MICRO_KERNELS: &[MicroKernel] = &[
    MicroKernel {
        name: "avx2_u8s8_6x16x2",
        isa: Isa::Avx2,
        tile: Tile::new(6, 16, 2),
        // i16 · i16 in i32.
        widen: Some(avx2::widen),
        micro: avx2::micro_u8s8,
        block: avx2::block_u8s8,
        ..MicroKernel::DEFAULT
    },
    MicroKernel {
        name: "avx2_u7s8_6x16x4",
        isa: Isa::Avx2,
        tile: Tile::new(6, 16, 4),
        // Two products in an i16: 2 · 16 383 ≤ 32 767. 127 · 127, 127 · 128 and 255 · 63 are below, and
        // 255 · 128 is not.
        max_product: 16_383,
        micro: avx2::micro_u7s8,
        block: avx2::block_u7s8,
        ..MicroKernel::DEFAULT
    },
    MicroKernel {
        name: "avx2_u6s6_6x16x4",
        isa: Isa::Avx2,
        tile: Tile::new(6, 16, 4),
        // Two products a lane, eight times: 16 · 2047 ≤ 32 767. 63 · 31 = 1953; beside a weight of −128
        // codes have four bits.
        max_product: 2047,
        micro: avx2::micro_u6s6,
        ..MicroKernel::DEFAULT
    },
    MicroKernel {
        name: "avxvnni_u8s8_6x16x4",
        isa: Isa::AvxVnni,
        tile: Tile::new(6, 16, 4),
        // `vpdpbusd` adds four products of u8 and i8, −128 among them, to an i32 without saturating.
        micro: avxvnni::micro,
        block: avxvnni::block,
        ..MicroKernel::DEFAULT
    },
    MicroKernel {
        name: "avxvnni_u6s6_6x16x4",
        isa: Isa::AvxVnni,
        tile: Tile::new(6, 16, 4),
        max_product: strassen::MAX_PRODUCT,
        max_code: strassen::MAX_CODE,
        max_weight: strassen::MAX_WEIGHT,
        strassen: Some(avxvnni::BIAS),
        micro: avxvnni::micro,
        block: avxvnni::block_u6s6,
        ..MicroKernel::DEFAULT
    },
    MicroKernel {
        name: "avx512vnni_u8s8_12x32x4",
        isa: Isa::Avx512Vnni,
        tile: Tile::new(12, 32, 4),
        // As on AVX-VNNI.
        micro: avx512vnni::micro,
        block: avx512vnni::block,
        ..MicroKernel::DEFAULT
    },
    MicroKernel {
        name: "avx512vnni_u6s6_12x32x4",
        isa: Isa::Avx512Vnni,
        tile: Tile::new(12, 32, 4),
        max_product: strassen::MAX_PRODUCT,
        max_code: strassen::MAX_CODE,
        max_weight: strassen::MAX_WEIGHT,
        strassen: Some(avx512vnni::BIAS),
        micro: avx512vnni::micro,
        block: avx512vnni::block_u6s6,
        ..MicroKernel::DEFAULT
    },
    MicroKernel {
        name: "avx512vnni_u8d6_12x32x4",
        isa: Isa::Avx512Vnni,
        tile: Tile::new(12, 32, 4),
        form: Form::Six,
        // Four times a weight fits a byte.
        max_weight: 32,
        micro: avx512vnni::micro_dense::<zmm::dense::Six>,
        block: avx512vnni::block_dense::<zmm::dense::Six>,
        ..MicroKernel::DEFAULT
    },
    MicroKernel {
        name: "avx512vnni_u8d4_12x32x4",
        isa: Isa::Avx512Vnni,
        tile: Tile::new(12, 32, 4),
        form: Form::Four,
        // Sixteen times a weight fits a byte.
        max_weight: 8,
        micro: avx512vnni::micro_dense::<zmm::dense::Four>,
        block: avx512vnni::block_dense::<zmm::dense::Four>,
        ..MicroKernel::DEFAULT
    },
    MicroKernel {
        name: "amx_u8s8_32x32x4",
        isa: Isa::Amx,
        tile: Tile::new(32, 32, 4),
        // `tdpbusd` multiplies and adds as `vpdpbusd` does.
        micro: amx::micro,
        block: amx::block,
        ..MicroKernel::DEFAULT
    },
];

pub(crate) const PROLOGUES: &[Prologue] = &[
    Prologue {
        name: "avx2_f32_u8",
        isa: Isa::Avx2,
        source: Elem::F32,
        quantize: ymm::convert::quantize::<ymm::convert::F32>,
    },
    Prologue {
        name: "avx2_f16_u8",
        isa: Isa::Avx2,
        source: Elem::F16,
        quantize: ymm::convert::quantize::<ymm::convert::F16>,
    },
    Prologue {
        name: "avx2_bf16_u8",
        isa: Isa::Avx2,
        source: Elem::Bf16,
        quantize: ymm::convert::quantize::<ymm::convert::Bf16>,
    },
    Prologue {
        name: "avx512vnni_f32_u8",
        isa: Isa::Avx512Vnni,
        source: Elem::F32,
        quantize: zmm::convert::quantize::<zmm::convert::F32>,
    },
    Prologue {
        name: "avx512vnni_f16_u8",
        isa: Isa::Avx512Vnni,
        source: Elem::F16,
        quantize: zmm::convert::quantize::<zmm::convert::F16>,
    },
    Prologue {
        name: "avx512vnni_bf16_u8",
        isa: Isa::Avx512Vnni,
        source: Elem::Bf16,
        quantize: zmm::convert::quantize::<zmm::convert::Bf16>,
    },
];

pub(crate) const NORMS: &[Norm] = &[
    Norm {
        name: "avx2_norm",
        isa: Isa::Avx2,
        normalize: ymm::norm::normalize,
    },
    Norm {
        name: "avx512vnni_norm",
        isa: Isa::Avx512Vnni,
        normalize: zmm::norm::normalize,
    },
];

pub(crate) const ABSMAXES: &[Absmax] = &[
    Absmax {
        name: "avx2_f32_absmax",
        isa: Isa::Avx2,
        source: Elem::F32,
        raise: ymm::absmax::raise::<ymm::convert::F32>,
    },
    Absmax {
        name: "avx2_f16_absmax",
        isa: Isa::Avx2,
        source: Elem::F16,
        raise: ymm::absmax::raise::<ymm::convert::F16>,
    },
    Absmax {
        name: "avx2_bf16_absmax",
        isa: Isa::Avx2,
        source: Elem::Bf16,
        raise: ymm::absmax::raise::<ymm::convert::Bf16>,
    },
    Absmax {
        name: "avx512vnni_f32_absmax",
        isa: Isa::Avx512Vnni,
        source: Elem::F32,
        raise: zmm::absmax::raise::<zmm::convert::F32>,
    },
    Absmax {
        name: "avx512vnni_f16_absmax",
        isa: Isa::Avx512Vnni,
        source: Elem::F16,
        raise: zmm::absmax::raise::<zmm::convert::F16>,
    },
    Absmax {
        name: "avx512vnni_bf16_absmax",
        isa: Isa::Avx512Vnni,
        source: Elem::Bf16,
        raise: zmm::absmax::raise::<zmm::convert::Bf16>,
    },
];

pub(crate) const EPILOGUES: &[Epilogue] = &[
    Epilogue {
        name: "avx2_i32_f32",
        isa: Isa::Avx2,
        destination: Destination::Store(Elem::F32),
        finish: ymm::finish::finish::<ymm::convert::F32>,
    },
    Epilogue {
        name: "avx2_i32_f16",
        isa: Isa::Avx2,
        destination: Destination::Store(Elem::F16),
        finish: ymm::finish::finish::<ymm::convert::F16>,
    },
    Epilogue {
        name: "avx2_i32_bf16",
        isa: Isa::Avx2,
        destination: Destination::Store(Elem::Bf16),
        finish: ymm::finish::finish::<ymm::convert::Bf16>,
    },
    Epilogue {
        name: "avx2_i32_add",
        isa: Isa::Avx2,
        destination: Destination::Add,
        finish: ymm::finish::finish::<ymm::finish::Add>,
    },
    Epilogue {
        name: "avx2_i32_u8",
        isa: Isa::Avx2,
        destination: Destination::Code,
        finish: ymm::finish::finish::<ymm::finish::Code>,
    },
    Epilogue {
        name: "avx2_i32_twin",
        isa: Isa::Avx2,
        destination: Destination::TwinCode,
        finish: ymm::finish::finish::<ymm::finish::TwinCode>,
    },
    Epilogue {
        name: "avx512vnni_i32_f32",
        isa: Isa::Avx512Vnni,
        destination: Destination::Store(Elem::F32),
        finish: zmm::finish::finish::<zmm::convert::F32>,
    },
    Epilogue {
        name: "avx512vnni_i32_f16",
        isa: Isa::Avx512Vnni,
        destination: Destination::Store(Elem::F16),
        finish: zmm::finish::finish::<zmm::convert::F16>,
    },
    Epilogue {
        name: "avx512vnni_i32_bf16",
        isa: Isa::Avx512Vnni,
        destination: Destination::Store(Elem::Bf16),
        finish: zmm::finish::finish::<zmm::convert::Bf16>,
    },
    Epilogue {
        name: "avx512vnni_i32_add",
        isa: Isa::Avx512Vnni,
        destination: Destination::Add,
        finish: zmm::finish::finish::<zmm::finish::Add>,
    },
    Epilogue {
        name: "avx512vnni_i32_u8",
        isa: Isa::Avx512Vnni,
        destination: Destination::Code,
        finish: zmm::finish::finish::<zmm::finish::Code>,
    },
    Epilogue {
        name: "avx512vnni_i32_twin",
        isa: Isa::Avx512Vnni,
        destination: Destination::TwinCode,
        finish: zmm::finish::finish::<zmm::finish::TwinCode>,
    },
];
