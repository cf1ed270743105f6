//! What the demo measures, as options of the command.

use std::fmt;

use clap::{Args, ValueEnum};
use noisyquant::{ActivationRange, Quantizer};

/// What to measure, and how long.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Judge by this many of the 500 test images
    #[arg(long, value_name = "COUNT", default_value_t = 500)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=500))]
    pub images: u16,
    /// Draw the noise of each model this many times, each with another seed
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub seeds: u16,
    /// The first of the seeds
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub seed: u64,
    /// Form of the activation quantizers
    #[arg(long, value_enum, default_value_t = Scheme::Both)]
    pub quantizer: Scheme,
    /// How the range of the activations is found on the calibration images
    #[arg(long, value_enum, default_value_t = RangeChoice::MinMax)]
    pub range: RangeChoice,
    /// Rounds of each timing at most; fewer are quicker and less exact
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
}

/// Form of an activation quantizer.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[non_exhaustive]
pub enum Scheme {
    /// The range is symmetric about zero
    Symmetric,
    /// Any range that contains zero
    Asymmetric,
    /// One model with each
    Both,
}

/// How the range of an activation quantizer is found.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[non_exhaustive]
pub enum RangeChoice {
    /// From the least to the largest value
    MinMax,
    /// The clipped range with the least squared error
    Mse,
    /// The 99.9th percentile
    Percentile,
}

impl Options {
    /// The activation quantizers to try, with a name each.
    pub(super) fn quantizers(&self) -> Vec<(&'static str, Quantizer)> {
        let range = match self.range {
            RangeChoice::MinMax => ActivationRange::MinMax,
            RangeChoice::Mse => ActivationRange::Mse,
            RangeChoice::Percentile => ActivationRange::Percentile(99.9),
        };
        let symmetric = ("symmetric", Quantizer::symmetric(range));
        let asymmetric = ("asymmetric", Quantizer::asymmetric(range));
        match self.quantizer {
            Scheme::Symmetric => vec![symmetric],
            Scheme::Asymmetric => vec![asymmetric],
            Scheme::Both => vec![symmetric, asymmetric],
        }
    }

    pub(super) fn noise_seeds(&self) -> impl Iterator<Item = u64> {
        // Far apart, because layer number `l` of a model uses seed + l.
        (0..u64::from(self.seeds)).map(|draw| self.seed.wrapping_add(draw << 32))
    }
}

impl fmt::Display for RangeChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MinMax => "ranges from the least to the largest value",
            Self::Mse => "ranges of least squared error",
            Self::Percentile => "ranges up to the 99.9th percentile",
        })
    }
}
