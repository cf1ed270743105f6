//! Norms of rows, of all aarch64 rows.

use core::arch::aarch64::*;

use crate::lanes::norm;
use crate::leaf::NormArgs;

/// Norms of all rows (eq. 40).
///
/// # Safety
///
/// The CPU has NEON and `args` keeps the promises of [`NormArgs`].
#[target_feature(enable = "neon")]
pub(super) unsafe fn normalize(args: &NormArgs) {
    // SAFETY: the caller promises the features and the operands.
    unsafe { norm::normalize::<float32x4_t>(args) }
}
