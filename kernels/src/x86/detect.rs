//! Which x86 instruction sets this CPU and operating system can run: the one place that knows.

use std::arch::is_x86_feature_detected;

use crate::isa::Isa;

// cpufeatures caches the answer in an atomic; a check after the first is one load. It lacks F16C
// and the VNNI flags, which std knows and caches just as well.
cpufeatures::new!(avx2_fma, "avx2", "fma");
cpufeatures::new!(avx512_set, "avx512f", "avx512bw", "avx512dq", "avx512vl");

/// Whether `isa` can run here.
pub(crate) fn detect(isa: Isa) -> bool {
    match isa {
        Isa::Avx2 => avx2_fma::get() && is_x86_feature_detected!("f16c"),
        Isa::AvxVnni => detect(Isa::Avx2) && is_x86_feature_detected!("avxvnni"),
        Isa::Avx512Vnni => {
            detect(Isa::Avx2) && avx512_set::get() && is_x86_feature_detected!("avx512vnni")
        }
        _ => false,
    }
}
