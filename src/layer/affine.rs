//! Scale and zero point of activation codes.

use noisyquant_kernels::spec::{self, Twin};

/// A code `u` stands for `scale · (u − zero_point)` (eq. 2).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Affine {
    /// `Δ₁` of a twin quantizer.
    pub(crate) scale: f32,
    pub(crate) zero_point: f32,
    pub(crate) bits: u32,
    /// `log2(Δ₂ / Δ₁)` of a twin quantizer.
    pub(crate) twin_shift: Option<u32>,
}

impl Affine {
    /// The form of a twin quantizer.
    pub(crate) fn twin(&self) -> Option<Twin> {
        let bits = self.bits;
        self.twin_shift.map(|shift| Twin { bits, shift })
    }

    /// Largest (combined) code.
    pub(crate) fn max_code(&self) -> u32 {
        match self.twin() {
            None => spec::max_code(self.bits).into(),
            Some(twin) => twin.max_code(),
        }
    }

    /// The largest code that a micro-kernel meets: that of a plane.
    pub(crate) fn max_plane_code(&self) -> u8 {
        match self.twin() {
            None => spec::max_code(self.bits),
            Some(twin) => u8::try_from(twin.max_code()).unwrap_or(twin.max_fine()),
        }
    }
}
