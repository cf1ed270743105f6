//! Norms of rows on 256-bit registers: those of AVX2 and AVX-VNNI.

use core::arch::x86_64::*;

use crate::lanes::norm;
use crate::leaf::NormArgs;

/// Norms of all rows (eq. 40).
///
/// # Safety
///
/// The CPU has the features below and `args` keeps the promises of [`NormArgs`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::arch) unsafe fn normalize(args: &NormArgs) {
    // SAFETY: the caller promises the features and the operands.
    unsafe { norm::normalize::<__m256>(args) }
}
