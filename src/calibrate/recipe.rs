//! What to choose for a layer, as data: independent parts, each of which composes with the others.

use serde::{Deserialize, Serialize};

use super::noise::Noise;
use super::objective::Objective;
use super::quantizer::{ActivationRange, Quantizer};
use super::weights::WeightQuantizer;
use crate::check;
use crate::error::Error;

/// Everything that is chosen about a layer beside its bits. Parts that say *searched* are searched
/// for on the calibration rows, judged by [`objective`](Self::objective).
///
/// The layer then computes `u = rne(fma(x, r/s, (c + N)/s + z))`, whatever was chosen: every recipe
/// with a plain quantizer runs at the same speed.
///
/// ```
/// use noisyquant::{ChannelScale, Noise, Recipe, Shift};
/// let recipe = Recipe {
///     shift: Shift::MidRange,
///     channel_scale: ChannelScale::Strength(0.5),
///     noise: Noise::Searched { seed: 0 },
///     ..Recipe::default()
/// };
/// # let _ = recipe;
/// ```
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Recipe {
    /// Form and range of the activation codes.
    pub quantizer: Quantizer,
    /// Shift of each input channel, added before quantization.
    pub shift: Shift,
    /// Scale of each input channel, migrated into the weights.
    pub channel_scale: ChannelScale,
    /// NoisyQuant's random bias, beside the shift.
    pub noise: Noise,
    /// Scales and rounding of the weights.
    pub weights: WeightQuantizer,
    /// Adds the mean output error on the calibration rows, negated, to the bias (eq. 27).
    pub bias_correction: bool,
    /// Improves shift and scale of each channel, after all else was chosen.
    pub refine: Option<Refine>,
    /// What the searches minimise.
    pub objective: Objective,
}

/// A bias per input channel that centres it (eq. 21); taken out of the output exactly, as noise is.
#[derive(Clone, Copy, Debug, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Shift {
    /// No shift.
    #[default]
    None,
    /// By the channel's mean over the calibration rows.
    Mean,
    /// By the middle of the channel's range over the calibration rows.
    MidRange,
    /// The same, moved by at most half a step so that the channel's mean falls on a level: a channel
    /// that hardly varies is then hardly rounded.
    MidRangeOnLevel,
}

/// A scale per input channel, `r[k]`: inputs are multiplied and weights divided by it (eq. 22).
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ChannelScale {
    /// `r = 1`.
    #[default]
    None,
    /// `r[k] = (range[k] / max range)^−α` with the migration strength `α` in `0.0..=1.0`: 0 leaves
    /// the inputs as they are, 1 makes their ranges equal.
    Strength(f32),
    /// The strength out of `0, 1/8, ..., 1` that minimises the objective.
    Searched,
    /// As `Strength`, but at most where the rounding errors of a channel's inputs and of its weights
    /// weigh alike (eq. 22a): a channel whose inputs matter little keeps the room that it does not need.
    Balanced {
        /// The migration strength that bounds the scale, in `0.0..=1.0`.
        strength: f32,
        /// How much an error of the weights counts, positive; compensated rounding errs less than plain.
        balance: f32,
    },
    /// Given, finite and positive.
    PerChannel(Vec<f32>),
}

/// A coordinate search that improves any shift and scale that the rest of a recipe chose. It never
/// covers less of a channel's calibration range than its start, and minimises the recipe's objective
/// (cosine similarity by squared error) on three quarters of the rows. A sweep that does not lower it
/// on the last quarter is undone and ends the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refine {
    /// Passes over all channels, at the most.
    pub sweeps: u32,
    /// Whether scales are searched beside shifts. Their weights are rounded anew, without compensation.
    pub scales: bool,
}

impl Recipe {
    /// The recipes that the literature names and their combinations, in the order of a table:
    /// `minmax`, `minmax+noise`, `mse`, `mse+noise`, `easyquant`, `easyquant+noise`, `twin`,
    /// `twin+noise`, `shift`, `shift+scale`. All are symmetric or twin; noise is searched, from
    /// seed 0.
    pub fn named() -> Vec<(&'static str, Recipe)> {
        let plain = |quantizer, weights, objective| Recipe {
            quantizer,
            weights,
            objective,
            ..Recipe::default()
        };
        let min_max = plain(
            Quantizer::symmetric(ActivationRange::MinMax),
            WeightQuantizer::MIN_MAX,
            Objective::OutputMse,
        );
        let mse = plain(
            Quantizer::symmetric(ActivationRange::Searched),
            WeightQuantizer::MSE,
            Objective::OutputMse,
        );
        let easyquant = plain(
            Quantizer::symmetric(ActivationRange::Searched),
            WeightQuantizer::SEARCHED,
            Objective::Cosine,
        );
        let twin = plain(
            Quantizer::twin(ActivationRange::Searched),
            WeightQuantizer::MSE,
            Objective::OutputMse,
        );
        let shift = Recipe {
            quantizer: Quantizer::centered(ActivationRange::MinMax),
            shift: Shift::MidRange,
            weights: WeightQuantizer::MSE,
            ..Recipe::default()
        };
        let scaled = Recipe {
            channel_scale: ChannelScale::Searched,
            ..shift.clone()
        };
        let noisy = |recipe: &Recipe| recipe.clone().with_noise(0);
        vec![
            ("minmax", min_max.clone()),
            ("minmax+noise", noisy(&min_max)),
            ("mse", mse.clone()),
            ("mse+noise", noisy(&mse)),
            ("easyquant", easyquant.clone()),
            ("easyquant+noise", noisy(&easyquant)),
            ("twin", twin.clone()),
            ("twin+noise", noisy(&twin)),
            ("shift", shift),
            ("shift+scale", scaled),
        ]
    }

    /// The same with searched noise from `seed`.
    pub fn with_noise(self, seed: u64) -> Recipe {
        let noise = Noise::Searched { seed };
        Recipe { noise, ..self }
    }

    /// Refuses values that make no sense for `k` input channels.
    pub(crate) fn check(&self, k: usize) -> Result<(), Error> {
        match &self.channel_scale {
            ChannelScale::None | ChannelScale::Searched => {}
            ChannelScale::Strength(strength) => check_strength(*strength)?,
            ChannelScale::Balanced { strength, balance } => {
                check_strength(*strength)?;
                check::all("balance", "within 1e-6..=1e6", &[*balance], |b| {
                    (1e-6..=1e6).contains(&b)
                })?;
            }
            ChannelScale::PerChannel(r) => {
                check::length("channel scale", k, r.len())?;
                check::all("channel scale", "finite, positive", r, |r| {
                    r.is_normal() && r > 0.0
                })?;
            }
        }
        match &self.noise {
            Noise::None | Noise::Searched { .. } => {}
            Noise::PerChannel(noise) => {
                check::length("noise", k, noise.len())?;
                check::finite("noise", noise)?;
            }
            Noise::Uniform { range, .. } => {
                check::all("noise range", "finite, not negative", &[*range], |n| {
                    n.is_finite() && n >= 0.0
                })?;
            }
        }
        if let Some(damping) = self.weights.compensation {
            check::all("damping", "within 1e-6..=1e3", &[damping], |d| {
                (1e-6..=1e3).contains(&d)
            })?;
        }
        Ok(())
    }

    /// What of this needs calibration rows, if anything does.
    pub(crate) fn needs_rows(&self) -> Option<&'static str> {
        let scaled = !matches!(
            self.channel_scale,
            ChannelScale::None | ChannelScale::PerChannel(_)
        );
        let needs = [
            (self.quantizer.needs_values(), "this quantizer's range"),
            (
                matches!(self.noise, Noise::Searched { .. }),
                "searched noise",
            ),
            (self.shift != Shift::None, "a shift"),
            (scaled, "a channel scale by strength"),
            (self.weights.needs_rows(), "this weight quantizer"),
            (self.bias_correction, "bias correction"),
        ];
        needs.into_iter().find(|need| need.0).map(|need| need.1)
    }
}

fn check_strength(strength: f32) -> Result<(), Error> {
    check::all("migration strength", "within 0..=1", &[strength], |s| {
        (0.0..=1.0).contains(&s)
    })
}
