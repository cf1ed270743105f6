//! Architectures without kernels of their own: the scalar rows serve them.

use crate::row::{Absmax, Epilogue, MicroKernel, Norm, Prologue};

pub(crate) const MICRO_KERNELS: &[MicroKernel] = &[];
pub(crate) const PROLOGUES: &[Prologue] = &[];
pub(crate) const NORMS: &[Norm] = &[];
pub(crate) const ABSMAXES: &[Absmax] = &[];
pub(crate) const EPILOGUES: &[Epilogue] = &[];
