//! A float layer and rows to calibrate it on: what every search for its numbers starts from.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use noisyquant_kernels::isa::Isa;
use rayon::prelude::*;

use super::compensate::Factor;
use super::matrix::float_outputs;
use super::objective::{Errors, Objective};
use super::weights::{WeightCodes, WeightQuantizer};
use crate::error::Error;
use crate::layer::linear::QuantLinear;
use crate::layer::numbers::Numbers;
use crate::run::executor::Executor;
use crate::run::panels::{PackedWeights, Packing};
use crate::run::pool;

/// Rows that candidates are compared on at the most; statistics use all.
const SAMPLE_ROWS: usize = 1024;

/// A float layer, rows to calibrate it on, and what candidates have in common, computed when first needed.
///
/// What is remembered is in cells, not behind locks: a problem belongs to one thread, and the loops that it
/// runs on rayon's pool see slices of it. So no thread that waits for such a loop can come back to it.
#[derive(Debug)]
pub(crate) struct Problem<'a> {
    /// Row-major `[n, k]`.
    pub(crate) weight: &'a [f32],
    /// `[n]`.
    pub(crate) bias: &'a [f32],
    /// `[rows, k]`.
    pub(crate) rows: &'a [f32],
    pub(crate) k: usize,
    pub(crate) weight_bits: u32,
    pub(crate) activation_bits: u32,
    isa: Isa,
    target: OnceCell<Vec<f32>>,
    channels: OnceCell<Vec<Channel>>,
    /// The rows that candidates are compared on.
    sample: OnceCell<Vec<f32>>,
    /// The factor of the inputs' second moments, for each damping asked for.
    factors: RefCell<Vec<(f32, Option<Rc<Factor>>)>>,
    /// The panels packed last.
    last_packed: RefCell<Option<Packed>>,
    /// The weights quantized last: a search over ranges asks for the same ones again and again.
    last_weights: RefCell<Option<Quantized>>,
}

/// Quantized weights and what they were made from.
#[derive(Debug)]
struct Quantized {
    chosen: WeightQuantizer,
    channel_scale: Arc<[f32]>,
    weights: WeightCodes,
}

/// Panels, and what they were packed from.
#[derive(Debug)]
struct Packed {
    codes: Arc<[i8]>,
    kernel: &'static str,
    panels: Arc<PackedWeights>,
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

impl<'a> Problem<'a> {
    /// All operands are checked; `rows` may be empty. From here on, loops run on rayon's current pool.
    pub(crate) fn new(
        weight: &'a [f32],
        bias: &'a [f32],
        rows: &'a [f32],
        k: usize,
        [weight_bits, activation_bits]: [u32; 2],
        isa: Isa,
    ) -> Problem<'a> {
        pool::ensure();
        Problem {
            weight,
            bias,
            rows,
            k,
            weight_bits,
            activation_bits,
            isa,
            target: OnceCell::new(),
            channels: OnceCell::new(),
            sample: OnceCell::new(),
            factors: RefCell::default(),
            last_packed: RefCell::default(),
            last_weights: RefCell::default(),
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
        if self.rows.len() / self.k <= SAMPLE_ROWS {
            return self.rows;
        }
        self.sample.get_or_init(|| sample(self.rows, self.k))
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

    /// The factor of the inputs' second moments for this damping; none where they are degenerate.
    pub(crate) fn factor(&self, damping: f32) -> Option<Rc<Factor>> {
        let known = |(of, _): &&(f32, Option<Rc<Factor>>)| *of == damping;
        if let Some((_, factor)) = self.factors.borrow().iter().find(known) {
            return factor.clone();
        }
        let mean: Vec<f32> = self.channels().iter().map(|c| c.mean).collect();
        let factor = Factor::new(self.rows, &mean, damping).map(Rc::new);
        self.factors.borrow_mut().push((damping, factor.clone()));
        factor
    }

    /// The weights divided by the channel scale, quantized as `chosen` by `quantize`; remembered for the
    /// next call.
    pub(crate) fn remember_weights(
        &self,
        chosen: WeightQuantizer,
        channel_scale: &Arc<[f32]>,
        quantize: impl FnOnce() -> WeightCodes,
    ) -> WeightCodes {
        let same = |q: &&Quantized| q.chosen == chosen && q.channel_scale == *channel_scale;
        if let Some(quantized) = self.last_weights.borrow().as_ref().filter(same) {
            return quantized.weights.clone();
        }
        let weights = quantize();
        *self.last_weights.borrow_mut() = Some(Quantized {
            chosen,
            channel_scale: channel_scale.clone(),
            weights: weights.clone(),
        });
        weights
    }

    /// The layer of `numbers` on this instruction set.
    pub(crate) fn layer(&self, numbers: &Numbers) -> Result<QuantLinear, Error> {
        let kernels = numbers.kernels(Some(self.isa), Packing::Expanded)?;
        let kernel = kernels.micro.name;
        let same = |p: &Packed| Arc::ptr_eq(&p.codes, &numbers.codes) && p.kernel == kernel;
        let packed = self.last_packed.take().filter(same);
        let packed = packed.unwrap_or_else(|| Packed {
            codes: numbers.codes.clone(),
            kernel,
            panels: Arc::new(numbers.pack(&kernels.micro, Executor::serial())),
        });
        let panels = packed.panels.clone();
        *self.last_packed.borrow_mut() = Some(packed);
        QuantLinear::assemble(numbers, kernels, panels, Executor::default())
    }

    /// Errors of a layer on the calibration rows. Refuses outputs that are not finite: a search would take
    /// any of them for the best, or none.
    pub(crate) fn errors(&self, layer: &QuantLinear) -> Result<Errors, Error> {
        let outputs = layer.forward(self.sample())?;
        Errors::try_measure(&outputs, self.target(), self.bias.len())
    }

    /// The candidate with the least score; the first of equals. The first is what the others are
    /// compared with; later ones that cannot be built are left out.
    pub(crate) fn best(
        &self,
        objective: Objective,
        candidates: impl Iterator<Item = Result<Numbers, Error>>,
    ) -> Result<Numbers, Error> {
        let mut best: Option<(f64, Errors, Numbers)> = None;
        for candidate in candidates {
            let built = candidate.and_then(|numbers| {
                let layer = self.layer(&numbers)?;
                Ok((self.errors(&layer)?, numbers))
            });
            let (errors, numbers) = match (built, &best) {
                (Ok(built), _) => built,
                (Err(_), Some(_)) => continue,
                (Err(error), None) => return Err(error),
            };
            let start = best.as_ref().map_or(errors, |best| best.1);
            let score = objective.score(&errors, &start);
            if best.as_ref().is_none_or(|best| score < best.0) {
                best = Some((score, start, numbers));
            }
        }
        let what = "a search";
        best.map(|best| best.2).ok_or(Error::Calibration { what })
    }
}

/// An eighth of [`SAMPLE_ROWS`] the rows of the largest magnitudes, the rest spread over the others.
fn sample(rows: &[f32], k: usize) -> Vec<f32> {
    let largest = |row: &[f32]| row.iter().fold(0f32, |m, x| m.max(x.abs()));
    let magnitudes: Vec<f32> = rows.par_chunks_exact(k).map(largest).collect();
    let mut order: Vec<usize> = (0..rows.len() / k).collect();
    order.sort_by(|a, b| magnitudes[*b].total_cmp(&magnitudes[*a]));
    let (extreme, others) = order.split_at(SAMPLE_ROWS / 8);
    let many = SAMPLE_ROWS - extreme.len();
    let spread = (0..many).map(|i| others[i * others.len() / many]);
    let mut chosen: Vec<usize> = extreme.iter().copied().chain(spread).collect();
    chosen.sort_unstable();
    let rows = chosen.iter().flat_map(|i| &rows[i * k..][..k]);
    rows.copied().collect()
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
