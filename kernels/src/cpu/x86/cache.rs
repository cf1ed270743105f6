//! Cache sizes by CPUID: leaf 4 (Intel) and 0x8000001D (AMD) list the caches in the same form.

use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::sync::LazyLock;

/// Bytes of this core's level-2 cache, or `None` if the CPU does not say. Asked once.
pub(in crate::cpu) fn l2_bytes() -> Option<usize> {
    static BYTES: LazyLock<Option<usize>> = LazyLock::new(ask);
    *BYTES
}

fn ask() -> Option<usize> {
    const LEAVES: [(u32, u32); 2] = [(0, 4), (0x8000_0000, 0x8000_001d)];
    let offered = LEAVES
        .into_iter()
        .filter(|(base, leaf)| __cpuid(*base).eax >= *leaf);
    let caches = offered.flat_map(|(_, leaf)| (0..16).map(move |i| __cpuid_count(leaf, i)));
    caches
        .filter(|cache| cache.eax & 0x1f != 0 && cache.eax >> 5 & 7 == 2)
        .map(|cache| {
            let field =
                |shift: u32, bits: u32| (cache.ebx >> shift & ((1 << bits) - 1)) as usize + 1;
            field(0, 12) * field(12, 10) * field(22, 10) * (cache.ecx as usize + 1)
        })
        .next()
}
