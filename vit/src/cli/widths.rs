//! A model in several widths, so that one can choose: what fewer bits gain in time and cost in accuracy.

use std::collections::BTreeSet;

use noisyquant::{
    ActivationRange, ChannelScale, Isa, QuantLinear, Quantizer, Recipe, Shift, WeightQuantizer,
};

use super::{
    contest::{Entry, contestant},
    failure::Failure,
};
use crate::{
    error::Error,
    measure::compare::Comparer,
    model::{Layer, Model, Workspace},
    ops::Linear,
    quantize::{Calibration, Choice, LayerPlan},
};

/// Bits of weights and of activations.
const WIDTHS: [(u32, u32); 5] = [(8, 8), (7, 7), (6, 6), (4, 8), (4, 4)];

/// Rows that layers are calibrated on.
const ROWS: usize = 512;

/// Images that they are calibrated on, and as many that they are judged by, at most.
pub(super) const IMAGES: usize = 16;

/// Every other one of `images` of `pixels` numbers each, and the rest; of each [`IMAGES`] at most.
pub(super) fn halves(images: &[f32], pixels: usize) -> (Vec<f32>, Vec<f32>) {
    let every_other = |first: usize| {
        let images = images.chunks_exact(pixels).skip(first).step_by(2);
        images.take(IMAGES).flatten().copied().collect()
    };
    (every_other(0), every_other(1))
}

/// A float model quantized in each width; first with 8 bits and no bias, which shows what a bias costs.
pub(super) struct Widths(Vec<Entry>);

impl Widths {
    /// Calibrates them on the normalised images `fitted`, and judges them by `judged`, which may be none.
    pub(super) fn new(float: &Model, fitted: &[f32], judged: &[f32]) -> Result<Self, Failure> {
        let mut calibration = Calibration::new(float, ROWS, 0)?;
        let mut workspace = Workspace::new(float, 1);
        for image in fitted.chunks_exact(float.config().pixels()) {
            calibration.observe(float, image, &mut workspace)?;
        }
        // Rows that do not vary say nothing of a shift and a scale: then only the time is of interest.
        let layers = float.layers().iter().enumerate();
        let unsaid = layers.filter(|(at, layer)| {
            let one = calibration.rows(*at).len() == layer.linear.in_features();
            one || calibration.uninformative(*at).is_some()
        });
        let unsaid: BTreeSet<&str> = unsaid.map(|(_, layer)| &*layer.name).collect();
        let plain = (WIDTHS[0], Recipe::default());
        let shifted = WIDTHS.map(|width| (width, shift_and_scale()));
        let entries = [plain].into_iter().chain(shifted);
        let entries = entries.map(|((weight_bits, activation_bits), recipe)| {
            let plan = |name: &str| {
                let plan = LayerPlan {
                    weight_bits,
                    ..LayerPlan::new(activation_bits)
                };
                match unsaid.contains(name) {
                    true => plan,
                    false => plan.with_choice(Choice::Recipe(recipe.clone())),
                }
            };
            let (model, _) = float.quantize(&plan, &calibration, &|_| ())?;
            let cosine = cosine(float, &model, judged)?;
            Ok(Entry {
                cosine,
                ..contestant(model)
            })
        });
        entries.collect::<Result<_, Failure>>().map(Self)
    }

    /// The same models, to the bit, on another instruction set.
    pub(super) fn on(&self, isa: Isa) -> Result<Vec<Entry>, Failure> {
        let moved = |entry: &Entry| {
            let layers = entry.model.layers().iter().map(|layer| on(layer, isa));
            let layers = layers.collect::<Result<_, Error>>()?;
            let model = entry.model.with_layers(layers, Vec::new());
            Ok(Entry {
                cosine: entry.cosine,
                ..contestant(model)
            })
        };
        self.0.iter().map(moved).collect()
    }
}

/// What does well at all widths and takes no search.
fn shift_and_scale() -> Recipe {
    Recipe {
        quantizer: Quantizer::centered(ActivationRange::MinMax),
        shift: Shift::MidRange,
        channel_scale: ChannelScale::Strength(0.5),
        weights: WeightQuantizer::MSE,
        ..Recipe::default()
    }
}

fn on(layer: &Layer, isa: Isa) -> Result<Layer, Error> {
    let linear = match &layer.linear {
        Linear::Quantized(linear) => {
            let moved = QuantLinear::from_numbers(linear.numbers(), Some(isa));
            Linear::Quantized(moved.map_err(Error::layer(&layer.name))?)
        }
        Linear::Float(linear) => Linear::Float(linear.clone()),
    };
    let name = layer.name.clone();
    Ok(Layer { name, linear })
}

/// Of the features of `images`, in the mean.
fn cosine(float: &Model, quantized: &Model, images: &[f32]) -> Result<Option<f64>, Failure> {
    if images.is_empty() {
        return Ok(None);
    }
    let mut comparer = Comparer::new(float, quantized)?;
    for image in images.chunks_exact(float.config().pixels()) {
        comparer.add("", image)?;
    }
    Ok(Some(comparer.finish()?.cosine_mean))
}
