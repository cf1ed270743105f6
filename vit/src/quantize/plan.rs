//! How each layer is to be quantized.

use noisyquant::{Isa, Noise, Quantizer, Recipe};

/// How to quantize a linear layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerPlan {
    /// Bits of a weight, 2 to 8.
    pub weight_bits: u32,
    /// Bits of an activation code, 2 to 8.
    pub activation_bits: u32,
    /// Everything else.
    pub choice: Choice,
    /// The instruction set to run on; `None` is the best that this CPU has.
    pub isa: Option<Isa>,
}

/// Who decides about a layer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Choice {
    /// [`noisyquant::Builder::build_auto_from`] the default candidates, with noise from a seed.
    Auto {
        /// Where noise comes from. It is chosen where this draw of it helps; the rest of the choice
        /// does not depend on the seed.
        seed: u64,
    },
    /// The caller. Layer number `l` draws its noise from the recipe's seed plus `l`.
    Recipe(Recipe),
    /// The layer stays in f32.
    Float,
}

impl LayerPlan {
    /// The same `bits` for weights and activations, symmetric min-max, no noise.
    pub fn new(bits: u32) -> Self {
        Self {
            weight_bits: bits,
            activation_bits: bits,
            choice: Choice::Recipe(Recipe::default()),
            isa: None,
        }
    }

    /// The same `bits` for weights and activations, all else chosen automatically.
    pub fn auto(bits: u32, seed: u64) -> Self {
        Self {
            choice: Choice::Auto { seed },
            ..Self::new(bits)
        }
    }

    /// This plan with another choice.
    pub fn with_choice(self, choice: Choice) -> Self {
        Self { choice, ..self }
    }

    /// Symmetric min-max weights, with this quantizer of the activations and this noise.
    pub fn with(self, quantizer: Quantizer, noise: Noise) -> Self {
        self.with_choice(Choice::Recipe(Recipe {
            quantizer,
            noise,
            ..Recipe::default()
        }))
    }

    /// This plan on the given instruction set.
    pub fn on(self, isa: Isa) -> Self {
        Self {
            isa: Some(isa),
            ..self
        }
    }
}
