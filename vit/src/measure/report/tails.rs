//! Which layers' inputs have heavy tails, and how they lie on the levels.

use noisyquant::QuantLinear;

use super::data::{Histogram, Panel, Tail};
use crate::{
    error::Error,
    model::{Model, Output, Workspace},
    ops::Linear,
    quantize::words,
};

/// Bins of a histogram.
const BINS: usize = 81;
/// Steps on either side of zero that the magnified histogram shows.
const ZOOM_STEPS: f64 = 5.5;
/// Share of the numbers that the busy levels hold.
const BUSY: f64 = 0.99;

/// The `count` quantized layers of different kinds whose inputs have the heaviest tails, measured on
/// the inputs that normalised `images` give the layers of `float`.
///
/// # Errors
///
/// As [`Model::forward`].
pub fn tails(
    float: &Model,
    quantized: &Model,
    images: &[f32],
    count: usize,
) -> Result<Vec<Tail>, Error> {
    let mut moments = vec![Moments::default(); float.layers().len()];
    observe(float, images, &mut |layer, rows| {
        if let Linear::Quantized(linear) = &quantized.layers()[layer].linear {
            moments[layer].add(rows, linear);
        }
    })?;
    let mut chosen = heaviest(quantized, &moments, count);
    observe(float, images, &mut |layer, rows| {
        if let Some((_, counts)) = chosen.iter_mut().find(|(chosen, _)| *chosen == layer) {
            counts.add(rows);
        }
    })?;
    let tail = |(layer, counts): &(usize, Counts<'_>)| {
        let name = &quantized.layers()[*layer].name;
        let report = quantized
            .reports()
            .iter()
            .find(|report| report.name == *name);
        Tail {
            layer: name.clone(),
            choice: report.map_or(String::new(), words::choice),
            kurtosis: moments[*layer].kurtosis(),
            bits: counts.linear.activation_bits(),
            before: counts.before.panel(),
            after: counts.after.panel(),
        }
    };
    Ok(chosen.iter().map(tail).collect())
}

/// Show the input rows of every layer for every image.
fn observe(
    model: &Model,
    images: &[f32],
    work: &mut (dyn FnMut(usize, &[f32]) + Send),
) -> Result<(), Error> {
    let config = model.config();
    let mut workspace = Workspace::new(model, 1);
    let mut logits = vec![0.0; config.classes];
    for image in images.chunks_exact(config.pixels()) {
        let output = &mut Output::logits(&mut logits);
        model.forward_observed(image, output, &mut workspace, &mut |observed| {
            work(observed.layer, observed.input);
        })?;
    }
    Ok(())
}

/// The layers with the largest kurtosis, one of each kind, in the order in which they run.
fn heaviest<'a>(
    quantized: &'a Model,
    moments: &[Moments],
    count: usize,
) -> Vec<(usize, Counts<'a>)> {
    let kind = |layer: usize| quantized.layers()[layer].name.rsplit('.').next();
    let mut order: Vec<usize> = (0..moments.len())
        .filter(|at| moments[*at].count > 0.0)
        .collect();
    order.sort_by(|&a, &b| moments[b].kurtosis().total_cmp(&moments[a].kurtosis()));
    let mut chosen: Vec<usize> = Vec::new();
    for layer in order {
        if chosen.len() < count && chosen.iter().all(|other| kind(*other) != kind(layer)) {
            chosen.push(layer);
        }
    }
    chosen.sort_unstable();
    let counts = |layer: usize| match &quantized.layers()[layer].linear {
        Linear::Quantized(linear) => Some((layer, Counts::new(linear, &moments[layer]))),
        Linear::Float(_) => None,
    };
    chosen.into_iter().filter_map(counts).collect()
}

/// What layer `linear` rounds for the input `row`.
fn biased<'a>(linear: &'a QuantLinear, row: &'a [f32]) -> impl Iterator<Item = f64> + 'a {
    let channels = linear.channel_scale().iter().zip(linear.noise());
    let value = |(x, (scale, bias)): (&f32, (&f32, &f32))| f64::from(x * scale + bias);
    row.iter().zip(channels).map(value)
}

/// Sums over all inputs of a layer.
#[derive(Clone, Default)]
struct Moments {
    count: f64,
    sums: [f64; 4],
    /// Largest magnitude of the inputs.
    most: f64,
    /// Largest magnitude after scale and bias.
    most_biased: f64,
}

impl Moments {
    fn add(&mut self, rows: &[f32], linear: &QuantLinear) {
        for row in rows.chunks_exact(linear.in_features()) {
            for x in row.iter().copied().map(f64::from) {
                self.sums[0] += x;
                self.sums[1] += x * x;
                self.sums[2] += x * x * x;
                self.sums[3] += x * x * x * x;
                self.most = self.most.max(x.abs());
            }
            self.most_biased =
                biased(linear, row).fold(self.most_biased, |most, x| most.max(x.abs()));
            self.count += row.len() as f64;
        }
    }

    /// About the mean; 0 of constants.
    fn kurtosis(&self) -> f64 {
        let [mean, second, third, fourth] = self.sums.map(|sum| sum / self.count);
        let variance = second - mean * mean;
        let fourth = fourth - 4.0 * mean * third + 6.0 * mean * mean * second - 3.0 * mean.powi(4);
        if variance > 0.0 {
            fourth / (variance * variance)
        } else {
            0.0
        }
    }
}

/// The inputs of one layer on two sets of levels.
struct Counts<'a> {
    linear: &'a QuantLinear,
    before: Counter,
    after: Counter,
}

impl<'a> Counts<'a> {
    fn new(linear: &'a QuantLinear, moments: &Moments) -> Self {
        let codes = 1 << linear.activation_bits();
        let half = f64::from(codes / 2);
        let step = moments.most.max(f64::MIN_POSITIVE) / (half - 1.0).max(1.0);
        let plain = (1..codes).map(|code| (f64::from(code) - half) * step);
        Self {
            linear,
            before: Counter::new(plain.collect(), step, moments.most),
            after: Counter::new(
                levels(linear),
                linear.activation_scale().into(),
                moments.most_biased,
            ),
        }
    }

    fn add(&mut self, rows: &[f32]) {
        for row in rows.chunks_exact(self.linear.in_features()) {
            row.iter().for_each(|x| self.before.add((*x).into()));
            biased(self.linear, row).for_each(|x| self.after.add(x));
        }
    }
}

/// What the codes of a layer stand for, in rising order.
fn levels(linear: &QuantLinear) -> Vec<f64> {
    let codes = 1 << linear.activation_bits();
    let (scale, zero) = (
        f64::from(linear.activation_scale()),
        f64::from(linear.zero_point()),
    );
    match linear.twin_shift() {
        None => (0..codes)
            .map(|code| (f64::from(code) - zero) * scale)
            .collect(),
        // Half of the codes in fine steps up to zero, half in coarse steps from there (eq. 24).
        Some(shift) => {
            let (fine, coarse) = (codes / 2, codes / 2);
            let negative = (1..=fine - 1).rev().map(|code| -f64::from(code) * scale);
            let width = scale * f64::from(1u32 << shift);
            let positive = (0..=coarse - 1).map(|code| f64::from(code) * width);
            negative.chain(positive).collect()
        }
    }
}

/// Counts numbers by the level that is nearest and by the bins of two histograms.
struct Counter {
    levels: Vec<f64>,
    by_level: Vec<u64>,
    full: Bins,
    zoom: Bins,
}

impl Counter {
    fn new(levels: Vec<f64>, step: f64, most: f64) -> Self {
        let ends = levels
            .first()
            .into_iter()
            .chain(levels.last())
            .map(|level| level.abs());
        let reach = ends.fold(most, f64::max) * 1.02;
        Self {
            by_level: vec![0; levels.len()],
            levels,
            full: Bins::new(reach),
            zoom: Bins::new((ZOOM_STEPS * step).min(reach)),
        }
    }

    fn add(&mut self, value: f64) {
        let above = self.levels.partition_point(|level| *level < value);
        let nearest = match (above.checked_sub(1), self.levels.get(above)) {
            (Some(below), Some(level)) if value - self.levels[below] < level - value => below,
            (Some(below), None) => below,
            _ => above,
        };
        self.by_level[nearest] += 1;
        self.full.add(value);
        self.zoom.add(value);
    }

    fn panel(&self) -> Panel {
        let total: u64 = self.by_level.iter().sum();
        let mut counts = self.by_level.clone();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let mut held = 0;
        let busy = counts.iter().take_while(|count| {
            let more = (held as f64) < BUSY * total as f64;
            held += **count;
            more
        });
        Panel {
            busy_levels: busy.count(),
            levels: self.levels.clone(),
            full: self.full.histogram(total),
            zoom: self.zoom.histogram(total),
        }
    }
}

/// Counts in equal bins from `-reach` to `reach`.
struct Bins {
    reach: f64,
    counts: Vec<u64>,
}

impl Bins {
    fn new(reach: f64) -> Self {
        Self {
            reach,
            counts: vec![0; BINS],
        }
    }

    fn add(&mut self, value: f64) {
        if value.abs() < self.reach {
            let share = (value + self.reach) / (2.0 * self.reach);
            self.counts[((share * BINS as f64) as usize).min(BINS - 1)] += 1;
        }
    }

    fn histogram(&self, total: u64) -> Histogram {
        let share = |count: &u64| *count as f64 / total.max(1) as f64;
        Histogram {
            low: -self.reach,
            high: self.reach,
            shares: self.counts.iter().map(share).collect(),
        }
    }
}
