//! Architectures without kernels of their own.

/// `probe(steps)` returns the multiply-accumulates done.
type Probe = unsafe fn(u64) -> u64;

/// None: there are the scalar kernels alone.
pub(super) const PROBES: &[(&str, Probe)] = &[];
