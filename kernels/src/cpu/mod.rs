//! What the CPU at hand can run, and what it says of its cache: the one place that knows.
//!
//! Without the feature `std` nothing is detected: a set is available if the crate is compiled for CPUs that
//! have it (`-C target-feature` or `-C target-cpu`).

#[cfg(all(feature = "std", target_arch = "x86_64", target_pointer_width = "64"))]
#[path = "x86/mod.rs"]
mod detect;
#[cfg(all(
    feature = "std",
    target_arch = "aarch64",
    target_endian = "little",
    target_feature = "neon"
))]
#[path = "aarch64.rs"]
mod detect;
#[cfg(not(all(
    feature = "std",
    any(
        all(target_arch = "x86_64", target_pointer_width = "64"),
        all(
            target_arch = "aarch64",
            target_endian = "little",
            target_feature = "neon"
        )
    )
)))]
#[path = "compiled.rs"]
mod detect;

use crate::isa::Isa;

impl Isa {
    /// Whether this CPU and operating system have the set, and its use was not refused so far.
    ///
    /// Asking changes nothing. [`Isa::Amx`] needs permission besides, which [`enable`](Isa::enable) asks
    /// for.
    pub fn is_available(self) -> bool {
        self == Isa::Scalar || detect::has(self)
    }

    /// Whether the CPU has the set, but the operating system was asked for its use and refused. Asking
    /// this changes nothing.
    pub fn is_refused(self) -> bool {
        detect::refused(self)
    }

    /// Whether this process can run the set: asks the operating system for what needs permission.
    ///
    /// That is [`Isa::Amx`] on Linux. It is asked for once per process, and the answer holds for good: with
    /// permission, every thread's signal stack must have room for 8 KiB of tiles more. Linux refuses where a
    /// thread has one that is too small for that. Making a row [`ready`](crate::ready) calls this.
    pub fn enable(self) -> bool {
        self == Isa::Scalar || detect::enable(self)
    }

    /// The sets that are [available](Isa::is_available), slowest first; [`Isa::Scalar`] is always one of
    /// them.
    pub fn available() -> impl DoubleEndedIterator<Item = Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_available())
    }
}

/// Bytes of this core's level-2 cache as the CPU says, or 1 MiB where it does not. Asked once.
pub fn l2_bytes() -> usize {
    detect::l2_bytes().unwrap_or(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_l2_is_plausible() {
        assert!((1 << 16..1 << 30).contains(&l2_bytes()), "{}", l2_bytes());
    }

    #[test]
    fn a_set_is_available_only_with_its_base() {
        for isa in Isa::available() {
            assert!(isa.base().is_available(), "{isa} without {}", isa.base());
        }
    }
}
