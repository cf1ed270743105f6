//! Kernels on 256-bit registers, as far as AVX2 and AVX-VNNI share them.

pub(super) mod absmax;
pub(super) mod convert;
pub(super) mod finish;
mod lanes;
pub(super) mod norm;
pub(super) mod sink;
pub(super) mod strassen;
pub(super) mod tile;
