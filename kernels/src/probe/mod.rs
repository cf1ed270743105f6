//! Peak probes: the dot-product instructions of each kernel on registers alone, without loads.
//!
//! A bench divides a kernel's rate by the rate of its probe in the same run. `asm!`, so that no
//! compiler can improve the loop away. Each returns the multiply-accumulates that it did.

#[cfg(all(target_arch = "x86_64", target_pointer_width = "64"))]
#[path = "x86.rs"]
mod arch;
#[cfg(all(
    target_arch = "aarch64",
    target_endian = "little",
    target_feature = "neon"
))]
#[path = "aarch64.rs"]
mod arch;
#[cfg(not(any(
    all(target_arch = "x86_64", target_pointer_width = "64"),
    all(
        target_arch = "aarch64",
        target_endian = "little",
        target_feature = "neon"
    )
)))]
#[path = "portable.rs"]
mod arch;

use core::hint::black_box;

use crate::ready::Ready;
use crate::row::MicroKernel;

impl Ready<MicroKernel> {
    /// Runs the kernel's dot-product instructions `steps` times, at least once, on registers alone and
    /// returns the number of multiply-accumulates done: the peak that benches compare with.
    pub fn probe(&self, steps: u64) -> u64 {
        let own = arch::PROBES.iter().find(|(name, _)| *name == self.name);
        let probe = own.map_or(scalar as unsafe fn(u64) -> u64, |(_, probe)| *probe);
        // SAFETY: `Ready` proves that the CPU has what the kernel uses, and its probe uses nothing else and
        // touches no memory.
        unsafe { probe(steps.max(1)) }
    }
}

/// The scalar rows have no instruction whose peak is worth knowing; theirs is a plain multiply-add.
fn scalar(steps: u64) -> u64 {
    let mut acc = [0u32; 8];
    for step in 0..steps {
        for (lane, acc) in acc.iter_mut().enumerate() {
            *acc = acc.wrapping_add(black_box(step as u32).wrapping_mul(lane as u32));
        }
    }
    black_box(acc);
    steps * 8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;
    use crate::table;

    #[test]
    fn every_kernel_but_the_scalar_ones_has_a_probe_and_every_probe_a_kernel() {
        let kernels = table::micro_kernels().filter(|row| row.isa != Isa::Scalar);
        let mut kernels: Vec<&str> = kernels.map(|row| row.name).collect();
        let mut probes: Vec<&str> = arch::PROBES.iter().map(|(name, _)| *name).collect();
        kernels.sort_unstable();
        probes.sort_unstable();
        assert_eq!(kernels, probes);
    }

    #[test]
    fn probes_say_what_they_did() {
        for kernel in table::micro_kernels().filter_map(MicroKernel::ready) {
            let once = kernel.probe(1);
            assert!(once > 0 && kernel.probe(0) == once, "{}", kernel.name);
            assert_eq!(kernel.probe(7), 7 * once, "{}", kernel.name);
        }
    }
}
