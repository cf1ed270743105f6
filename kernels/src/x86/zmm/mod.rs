//! Kernels on 512-bit registers.

pub(super) mod absmax;
pub(super) mod convert;
pub(super) mod dense;
pub(super) mod finish;
mod lanes;
pub(super) mod norm;
pub(super) mod sink;
pub(super) mod strassen;
pub(super) mod tile;
