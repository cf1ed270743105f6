//! Architectures without kernels of their own: the scalar rows serve them.

use crate::isa::Isa;
use crate::table::{Epilogue, MicroKernel, Prologue};

pub(crate) const MICRO_KERNELS: &[MicroKernel] = &[];
pub(crate) const PROLOGUES: &[Prologue] = &[];
pub(crate) const EPILOGUES: &[Epilogue] = &[];

/// No SIMD instruction set is known here.
pub(crate) fn detect(_: Isa) -> bool {
    false
}

/// Nothing is known, so nothing is refused.
pub(crate) fn refused(_: Isa) -> bool {
    false
}
