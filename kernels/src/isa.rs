//! Instruction sets: their names and their order. Which of them the CPU at hand can run is
//! [`cpu`](crate::cpu)'s affair.

use core::fmt;

/// An instruction set that kernels are written for.
///
/// All variants exist on all targets, so that a name means the same everywhere; whether the CPU at
/// hand can run one is [`Isa::is_available`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Isa {
    /// Plain Rust, on every target.
    Scalar,
    /// AVX2 with FMA and F16C: `vpmaddwd` (int8), `vpmaddubsw` (int7, int6).
    Avx2,
    /// VEX-encoded `vpdpbusd` on 256-bit registers.
    AvxVnni,
    /// EVEX-encoded `vpdpbusd` on 512-bit registers, with AVX-512 F, BW, DQ and VL.
    Avx512Vnni,
    /// `tdpbusd` on tile registers, beside everything of [`Isa::Avx512Vnni`].
    Amx,
    /// ARMv8.0 Advanced SIMD.
    Neon,
    /// `sdot`, ARMv8.2.
    NeonDotprod,
    /// `usmmla`, ARMv8.6.
    NeonI8mm,
}

impl Isa {
    /// Every instruction set, slowest first within an architecture.
    pub const ALL: [Isa; 8] = [
        Isa::Scalar,
        Isa::Avx2,
        Isa::AvxVnni,
        Isa::Avx512Vnni,
        Isa::Amx,
        Isa::Neon,
        Isa::NeonDotprod,
        Isa::NeonI8mm,
    ];

    /// The name used in kernel names, in `NOISYQUANT_ISA`, in bench ids and in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::AvxVnni => "avxvnni",
            Isa::Avx512Vnni => "avx512vnni",
            Isa::Amx => "amx",
            Isa::Neon => "neon",
            Isa::NeonDotprod => "neondotprod",
            Isa::NeonI8mm => "neoni8mm",
        }
    }

    /// The instruction set of that [`name`](Isa::name), or `None`.
    pub fn from_name(name: &str) -> Option<Isa> {
        Isa::ALL.into_iter().find(|isa| isa.name() == name)
    }

    /// The instruction set whose prologues and epilogues serve this one's micro-kernels.
    ///
    /// Sets that add nothing but a dot product quantize and convert with their base. A CPU that has
    /// a set has its base too.
    pub const fn base(self) -> Isa {
        match self {
            Isa::AvxVnni => Isa::Avx2,
            Isa::Amx => Isa::Avx512Vnni,
            Isa::NeonDotprod | Isa::NeonI8mm => Isa::Neon,
            other => other,
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_round_trip() {
        for isa in Isa::ALL {
            assert_eq!(Isa::from_name(isa.name()), Some(isa));
        }
        assert_eq!(Isa::from_name("sse9"), None);
    }
}
