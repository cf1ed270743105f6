//! Norms of rows on 512-bit registers: those of AVX-512-VNNI and AMX.

use core::arch::x86_64::*;

use crate::lanes::norm;
use crate::leaf::NormArgs;

/// Norms of all rows (eq. 40).
///
/// # Safety
///
/// The CPU has the features below and `args` keeps the promises of [`NormArgs`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(in crate::arch) unsafe fn normalize(args: &NormArgs) {
    // SAFETY: the caller promises the features and the operands.
    unsafe { norm::normalize::<__m512>(args) }
}
