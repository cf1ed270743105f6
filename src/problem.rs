//! From a recipe to a quantized layer: what does not need the layer's outputs is computed, what is
//! searched is tried on the integer kernels themselves.

use std::sync::{Arc, Mutex, OnceLock};

use noisyquant_kernels::isa::Isa;
use noisyquant_kernels::spec;
use rayon::prelude::*;

use crate::compensate::Factor;
use crate::error::Error;
use crate::kernels::Kernels;
use crate::linear::QuantLinear;
use crate::matrix::float_outputs;
use crate::noise::{self, Noise};
use crate::objective::Errors;
use crate::parts::Parts;
use crate::quantizer::Affine;
use crate::recipe::{ChannelScale, Recipe, Shift};
use crate::weights::{self, PackedWeights, WeightCodes, WeightQuantizer, WeightRange};

/// Least range of a channel that a migration strength sees, as a fraction of the largest: a channel
/// that is silent in calibration may not be so for ever.
const LEAST_RANGE: f32 = 1e-3;

/// Rows that candidates are compared on at the most; statistics use all.
const SAMPLE_ROWS: usize = 1024;

/// A float layer, rows to calibrate it on, and what candidates have in common, computed when first
/// needed.
#[derive(Debug)]
pub(crate) struct Problem<'a> {
    pub(crate) weight: &'a [f32],
    pub(crate) bias: &'a [f32],
    pub(crate) rows: &'a [f32],
    pub(crate) k: usize,
    pub(crate) weight_bits: u32,
    pub(crate) activation_bits: u32,
    pub(crate) isa: Isa,
    target: OnceLock<Vec<f32>>,
    channels: OnceLock<Vec<Channel>>,
    factor: OnceLock<(f32, Option<Factor>)>,
    /// The rows that candidates are compared on.
    sample: OnceLock<Vec<f32>>,
    /// The panels packed last, and from which codes.
    last_packed: Mutex<Option<(Arc<WeightCodes>, Arc<PackedWeights>)>>,
    /// The weights quantized last: a search over ranges asks for the same ones again and again.
    last_weights: Mutex<Option<Quantized>>,
}

/// Quantized weights and what they were made from.
#[derive(Clone, Debug)]
struct Quantized {
    chosen: WeightQuantizer,
    channel_scale: Arc<[f32]>,
    codes: Arc<WeightCodes>,
}

/// Statistics of an input channel over the calibration rows; zero without rows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Channel {
    pub(crate) low: f32,
    pub(crate) high: f32,
    pub(crate) mean: f32,
    /// Mean square about the mean.
    pub(crate) variance: f32,
}

/// What is settled before weights are quantized: how inputs become codes.
#[derive(Clone, Debug)]
struct Activations {
    affine: Affine,
    channel_scale: Arc<[f32]>,
    noise: Vec<f32>,
}

impl<'a> Problem<'a> {
    /// All operands are checked; `rows` may be empty.
    pub(crate) fn new(
        weight: &'a [f32],
        bias: &'a [f32],
        rows: &'a [f32],
        k: usize,
        [weight_bits, activation_bits]: [u32; 2],
        isa: Isa,
    ) -> Problem<'a> {
        Problem {
            weight,
            bias,
            rows,
            k,
            weight_bits,
            activation_bits,
            isa,
            target: OnceLock::new(),
            channels: OnceLock::new(),
            factor: OnceLock::new(),
            sample: OnceLock::new(),
            last_packed: Mutex::new(None),
            last_weights: Mutex::new(None),
        }
    }

    /// The same layer with other rows.
    pub(crate) fn with_rows<'b>(&self, rows: &'b [f32]) -> Problem<'b>
    where
        'a: 'b,
    {
        let bits = [self.weight_bits, self.activation_bits];
        Problem::new(self.weight, self.bias, rows, self.k, bits, self.isa)
    }

    /// The rows that candidates are compared on: all of them, or if they are many, those of the largest
    /// magnitudes and every so many of the others.
    pub(crate) fn sample(&self) -> &[f32] {
        let (k, m) = (self.k, self.rows.len() / self.k);
        if m <= SAMPLE_ROWS {
            return self.rows;
        }
        self.sample.get_or_init(|| {
            let largest = |row: &[f32]| row.iter().fold(0f32, |m, x| m.max(x.abs()));
            let magnitudes: Vec<f32> = self.rows.par_chunks_exact(k).map(largest).collect();
            let mut order: Vec<usize> = (0..m).collect();
            order.sort_by(|a, b| magnitudes[*b].total_cmp(&magnitudes[*a]));
            let (extreme, others) = order.split_at(SAMPLE_ROWS / 8);
            let many = SAMPLE_ROWS - extreme.len();
            let spread = (0..many).map(|i| others[i * others.len() / many]);
            let mut chosen: Vec<usize> = extreme.iter().copied().chain(spread).collect();
            chosen.sort_unstable();
            let rows = chosen.iter().flat_map(|i| &self.rows[i * k..][..k]);
            rows.copied().collect()
        })
    }

    /// The float layer's outputs on the rows that candidates are compared on.
    pub(crate) fn target(&self) -> &[f32] {
        let outputs = || float_outputs(self.sample(), self.weight, self.bias, self.k);
        self.target.get_or_init(outputs)
    }

    /// Statistics of the input channels.
    pub(crate) fn channels(&self) -> &[Channel] {
        self.channels
            .get_or_init(|| channel_statistics(self.rows, self.k))
    }

    /// The layer of `parts` on this instruction set.
    pub(crate) fn layer(&self, parts: &Parts) -> Result<QuantLinear, Error> {
        let kernels = self.kernels(&parts.affine)?;
        let layout = kernels.micro.tile.panel();
        let mut last = self.last_packed.lock().unwrap_or_else(|e| e.into_inner());
        let packed = match &*last {
            Some((codes, packed)) if Arc::ptr_eq(codes, &parts.codes) && packed.is(layout) => {
                packed.clone()
            }
            _ => Arc::new(PackedWeights::pack(&parts.codes, layout)),
        };
        *last = Some((parts.codes.clone(), packed.clone()));
        drop(last);
        parts.assemble(kernels, packed)
    }

    fn kernels(&self, affine: &Affine) -> Result<Kernels, Error> {
        let (max_code, max_weight) = Parts::largest_operands(self.weight_bits, affine);
        Kernels::select(self.isa, max_code, max_weight)
    }

    /// Errors of a layer on the calibration rows.
    pub(crate) fn errors(&self, layer: &QuantLinear) -> Result<Errors, Error> {
        let target = self.target();
        Ok(Errors::measure(
            &layer.forward(self.sample())?,
            target,
            self.bias.len(),
        ))
    }

    /// Chooses everything that `recipe` leaves open.
    pub(crate) fn realize(&self, recipe: &Recipe) -> Result<Parts, Error> {
        recipe.check(self.k)?;
        if let (true, Some(what)) = (self.rows.is_empty(), recipe.needs_rows()) {
            return Err(Error::Calibration { what });
        }
        let parts = match &recipe.channel_scale {
            ChannelScale::Searched => self.search_strength(recipe)?,
            _ => self.settle(recipe)?,
        };
        let parts = match recipe.noise {
            Noise::Searched { seed } => self.search_noise(recipe.objective, parts, seed)?,
            _ => parts,
        };
        let correct = |parts| match recipe.bias_correction {
            true => self.correct_bias(parts),
            false => Ok(parts),
        };
        let parts = correct(parts)?;
        match recipe.refine {
            Some(refine) => correct(self.refine(recipe.objective, refine, parts)?),
            None => Ok(parts),
        }
    }

    /// Everything but the search for the channel scale and for noise.
    pub(crate) fn settle(&self, recipe: &Recipe) -> Result<Parts, Error> {
        let channel_scale = self.channel_scale(&recipe.channel_scale);
        let activations = self.activations(recipe, channel_scale)?;
        let codes = self.weights(recipe.weights, &activations.channel_scale);
        let parts = self.parts(activations, codes);
        let searched =
            recipe.quantizer.is_searched() || recipe.weights.range == WeightRange::Searched;
        if searched {
            self.alternate(recipe, parts)
        } else {
            Ok(parts)
        }
    }

    fn parts(&self, activations: Activations, codes: Arc<WeightCodes>) -> Parts {
        Parts {
            codes,
            weight_bits: self.weight_bits,
            affine: activations.affine,
            channel_scale: activations.channel_scale,
            noise: activations.noise,
            bias: self.bias.to_vec(),
        }
    }

    /// `r[k]` (eq. 22).
    fn channel_scale(&self, chosen: &ChannelScale) -> Arc<[f32]> {
        match chosen {
            ChannelScale::None | ChannelScale::Searched => vec![1.0; self.k].into(),
            ChannelScale::PerChannel(r) => r.as_slice().into(),
            ChannelScale::Balanced { strength, balance } => {
                let bound = self.channel_scale(&ChannelScale::Strength(*strength));
                self.balanced(bound, *balance)
            }
            ChannelScale::Strength(strength) => {
                let ranges = || self.channels().iter().map(|c| c.high - c.low);
                let largest = ranges().fold(f32::MIN_POSITIVE, f32::max).min(f32::MAX);
                let fraction = |range: f32| (range / largest).clamp(LEAST_RANGE, 1.0);
                ranges()
                    .map(|range| libm::powf(fraction(range), -strength))
                    .collect()
            }
        }
    }

    /// `r[k]` bounded by where errors of inputs and weights weigh alike (eq. 22a).
    fn balanced(&self, bound: Arc<[f32]>, balance: f32) -> Arc<[f32]> {
        const ROUNDS: usize = 6; // a change of all r shrinks to its root in a round
        let levels = f32::from(spec::max_code(self.activation_bits));
        let q = f32::from(spec::max_weight(self.weight_bits));
        let ranges = self.channels().iter().map(|c| c.high - c.low);
        let s_x = ranges.fold(f32::MIN_POSITIVE, f32::max).min(f32::MAX) / levels;
        let mut squares = vec![0f64; self.k];
        for row in self.weight.chunks_exact(self.k) {
            for (sum, w) in squares.iter_mut().zip(row) {
                *sum += f64::from(*w).powi(2);
            }
        }
        let mut r = bound.clone();
        for _ in 0..ROUNDS {
            let scale = |row: &[f32]| {
                let scaled = row.iter().zip(r.iter()).map(|(w, r)| (w / r).abs());
                f64::from(scaled.fold(0f32, f32::max) / q).powi(2)
            };
            let scales: Vec<f64> = self.weight.par_chunks_exact(self.k).map(scale).collect();
            let weights = f64::from(balance) * scales.iter().sum::<f64>();
            let channels = squares.iter().zip(self.channels()).zip(bound.iter());
            let even = channels.map(|((square, channel), bound)| {
                let inputs = f64::from(s_x).powi(2) * square;
                let ratio = inputs / (weights * f64::from(channel.variance));
                // A silent channel, or weights of zero: nothing to balance.
                let even = if ratio > 0.0 {
                    ratio.sqrt().sqrt()
                } else {
                    f64::INFINITY
                };
                (even as f32).clamp(LEAST_RANGE, *bound)
            });
            r = even.collect();
        }
        r
    }

    /// Shift, range and fixed noise, for a given channel scale.
    fn activations(
        &self,
        recipe: &Recipe,
        channel_scale: Arc<[f32]>,
    ) -> Result<Activations, Error> {
        let channels = || self.channels().iter().zip(channel_scale.iter());
        let mut noise: Vec<f32> = match recipe.shift {
            Shift::None => vec![0.0; self.k],
            Shift::Mean => channels().map(|(c, r)| -c.mean * r).collect(),
            Shift::MidRange | Shift::MidRangeOnLevel => channels()
                .map(|(c, r)| -(0.5 * c.low + 0.5 * c.high) * r)
                .collect(),
        };
        let values: Vec<f32> = if recipe.quantizer.needs_extremes_only() && !self.rows.is_empty() {
            let ends = channels().zip(&noise);
            ends.flat_map(|((c, r), n)| [c.low.mul_add(*r, *n), c.high.mul_add(*r, *n)])
                .collect()
        } else {
            let rows = self.rows.par_chunks_exact(self.k);
            rows.flat_map_iter(|row| {
                let terms = row.iter().zip(channel_scale.iter()).zip(&noise);
                terms.map(|((x, r), n)| x.mul_add(*r, *n))
            })
            .collect()
        };
        let affine = recipe.quantizer.fit(&values, self.activation_bits)?;
        if recipe.shift == Shift::MidRangeOnLevel {
            for (n, (c, r)) in noise.iter_mut().zip(channels()) {
                let code = c.mean.mul_add(*r, *n) / affine.scale + affine.zero_point;
                *n += (code.round_ties_even() - code) * affine.scale;
            }
        }
        match &recipe.noise {
            Noise::None | Noise::Searched { .. } => {}
            Noise::Uniform { range, seed } => add(&mut noise, *range, *seed),
            Noise::PerChannel(given) => {
                for (sum, n) in noise.iter_mut().zip(given) {
                    *sum += n;
                }
            }
        }
        Ok(Activations {
            affine,
            channel_scale,
            noise,
        })
    }

    /// The weights divided by the channel scale, as codes; remembered for the next call.
    fn weights(&self, chosen: WeightQuantizer, channel_scale: &Arc<[f32]>) -> Arc<WeightCodes> {
        // A poisoned memory is still a memory: it is only ever replaced as a whole.
        let mut last = self.last_weights.lock().unwrap_or_else(|e| e.into_inner());
        let same = |q: &&Quantized| q.chosen == chosen && q.channel_scale == *channel_scale;
        if let Some(quantized) = last.as_ref().filter(same) {
            return quantized.codes.clone();
        }
        let codes = Arc::new(self.quantize_weights(chosen, channel_scale));
        *last = Some(Quantized {
            chosen,
            channel_scale: channel_scale.clone(),
            codes: codes.clone(),
        });
        codes
    }

    fn quantize_weights(&self, chosen: WeightQuantizer, r: &[f32]) -> WeightCodes {
        let (k, bits) = (self.k, self.weight_bits);
        let mut scaled = self.weight.to_vec();
        scaled.par_chunks_exact_mut(k).for_each(|row| {
            for (w, r) in row.iter_mut().zip(r.iter()) {
                *w /= r;
            }
        });
        let scales = match chosen.range {
            WeightRange::MinMax | WeightRange::Searched => {
                weights::min_max_scales(&scaled, k, bits)
            }
            WeightRange::Mse => {
                let moment = |(c, r): (&Channel, &f32)| (c.variance + c.mean * c.mean) * r * r;
                let importance: Vec<f32> = match self.rows.is_empty() {
                    true => vec![1.0; k],
                    false => self.channels().iter().zip(r.iter()).map(moment).collect(),
                };
                weights::clipped_scales(&scaled, &importance, bits)
            }
        };
        let factor = chosen.compensation.and_then(|d| self.factor(d));
        match factor {
            Some(factor) => factor.round(self.weight, r, scales, bits),
            None => WeightCodes::round(&scaled, scales, k, bits),
        }
    }

    /// The factor of the inputs' second moments. Kept for the first damping asked for: a search
    /// uses one.
    pub(crate) fn factor(&self, damping: f32) -> Option<&Factor> {
        let make = || {
            let mean: Vec<f32> = self.channels().iter().map(|c| c.mean).collect();
            (damping, Factor::new(self.rows, &mean, damping))
        };
        self.factor.get_or_init(make).1.as_ref()
    }

    /// Takes the mean error of each output out of the bias (eq. 27).
    fn correct_bias(&self, mut parts: Parts) -> Result<Parts, Error> {
        let n = self.bias.len();
        let y = self.layer(&parts)?.forward(self.sample())?;
        let mut sums = vec![0f64; n];
        for (y, target) in y.chunks_exact(n).zip(self.target().chunks_exact(n)) {
            for (sum, (y, target)) in sums.iter_mut().zip(y.iter().zip(target)) {
                *sum += f64::from(*target) - f64::from(*y);
            }
        }
        let m = (self.sample().len() / self.k) as f64;
        for (bias, sum) in parts.bias.iter_mut().zip(sums) {
            let corrected = (f64::from(*bias) + sum / m) as f32;
            *bias = if corrected.is_finite() {
                corrected
            } else {
                *bias
            };
        }
        Ok(parts)
    }
}

/// Adds `U(−range, range)` from `seed` (eq. 10).
pub(crate) fn add(noise: &mut [f32], range: f32, seed: u64) {
    let unit = noise::unit_uniform(seed, noise.len());
    for (sum, unit) in noise.iter_mut().zip(unit) {
        *sum += unit * range;
    }
}

fn channel_statistics(rows: &[f32], k: usize) -> Vec<Channel> {
    let m = rows.len() / k;
    if m == 0 {
        return vec![Channel::default(); k];
    }
    let mut channels = vec![
        Channel {
            low: f32::INFINITY,
            high: f32::NEG_INFINITY,
            ..Channel::default()
        };
        k
    ];
    let mut sums = vec![(0f64, 0f64); k];
    for row in rows.chunks_exact(k) {
        for ((channel, (sum, squares)), x) in channels.iter_mut().zip(&mut sums).zip(row) {
            channel.low = channel.low.min(*x);
            channel.high = channel.high.max(*x);
            *sum += f64::from(*x);
            *squares += f64::from(*x) * f64::from(*x);
        }
    }
    for (channel, (sum, squares)) in channels.iter_mut().zip(sums) {
        let mean = sum / m as f64;
        channel.mean = mean as f32;
        channel.variance = (squares / m as f64 - mean * mean).max(0.0) as f32;
    }
    channels
}
