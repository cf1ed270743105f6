//! From a float model to a quantized one, layer by layer.

use noisyquant::{Candidates, Errors, Executor, Noise, Outcome, QuantLinear, Recipe};
use rayon::prelude::*;

use super::{
    calibration::Calibration,
    plan::{Choice, LayerPlan},
};
use crate::{
    error::Error,
    model::{Layer, LayerReport, Model},
    ops::{FloatLinear, Linear},
};

impl Model {
    /// A copy of this float model whose linear layers run through integer kernels as `plan` says of each
    /// name. Attention of a ViT becomes [`Int8`](crate::Attention::Int8) where heads have at least 64
    /// features and images as many tokens, unless no layer is quantized; [`Model::with_attention`] changes
    /// that. Layers are worked on in parallel on rayon's current pool; `progress` hears of each that is done,
    /// in no certain order. The result does not depend on the order or the number of threads. Reports are in
    /// the order of the layers.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyQuantized`]; [`Error::Calibration`] for rows of another model; or
    /// [`Error::Layer`] if a layer cannot be quantized this way: bits out of range, an instruction
    /// set that this CPU lacks, no calibration rows. That of the first such layer.
    pub fn quantize(
        &self,
        plan: &dyn Fn(&str) -> LayerPlan,
        calibration: &Calibration,
        progress: &(dyn Fn(&LayerReport) + Sync),
    ) -> Result<(Self, Vec<LayerReport>), Error> {
        calibration.check(self)?;
        let plans = self.layers().iter().map(|layer| plan(&layer.name));
        let plans: Vec<LayerPlan> = plans.collect();
        let layers: Vec<_> = self.layers().iter().zip(&plans).enumerate().collect();
        let quantize = |(at, (layer, plan)): &(usize, (&Layer, &LayerPlan))| {
            let Linear::Float(float) = &layer.linear else {
                let layer = layer.name.clone();
                return Err(Error::AlreadyQuantized { layer });
            };
            let (linear, report) = build(layer, float, *at, plan, calibration)?;
            progress(&report);
            let name = layer.name.clone();
            Ok((Layer { name, linear }, report))
        };
        // As many layers at a time as there are threads: one that waits for a loop within a layer may take up
        // another layer of the group, but not all there are, each with copies of its rows. Collected before
        // the first error is looked for: which one is reported must not depend on time.
        let groups = layers.chunks(Executor::rayon().threads());
        let done = groups.flat_map(|group| group.par_iter().map(quantize).collect::<Vec<_>>());
        let done: Vec<Result<_, Error>> = done.collect();
        let done: Result<Vec<_>, Error> = done.into_iter().collect();
        let (layers, reports): (Vec<Layer>, Vec<LayerReport>) = done?.into_iter().unzip();
        let all_float = layers
            .iter()
            .all(|layer| matches!(layer.linear, Linear::Float(_)));
        let quantized = self.with_layers(layers, reports.clone());
        let quantized = quantized.with_origin(Some(self.digest()));
        let quantized = match all_float {
            true => quantized,
            false => quantized.with_usual_attention(),
        };
        Ok((quantized, reports))
    }
}

fn build(
    layer: &Layer,
    float: &FloatLinear,
    at: usize,
    plan: &LayerPlan,
    calibration: &Calibration,
) -> Result<(Linear, LayerReport), Error> {
    let rows = &calibration.rows(at);
    let wrong = Error::layer(&layer.name);
    let builder = QuantLinear::builder(float.weight(), float.bias().len(), float.in_features())
        .bias(float.bias())
        .weight_bits(plan.weight_bits)
        .activation_bits(plan.activation_bits)
        .calibration_rows(rows);
    let builder = match plan.isa {
        Some(isa) => builder.isa(isa),
        None => builder,
    };
    let (linear, recipe, before, after) = match &plan.choice {
        Choice::Recipe(recipe) => {
            let recipe = Recipe {
                noise: with_offset(&recipe.noise, at as u64),
                ..recipe.clone()
            };
            let linear = builder.recipe(recipe.clone()).build().map_err(&wrong)?;
            let after = errors(&linear, float, rows).map_err(&wrong)?;
            (linear, recipe, None, after)
        }
        Choice::Auto { seed } => {
            // With the layer's own draw, so that the errors are those of what is built.
            let candidates = Candidates {
                noises: vec![Noise::Searched { seed: *seed }],
                ..Candidates::default()
            };
            let chosen = builder.build_auto_from(&candidates);
            let (linear, outcome) = chosen.map_err(&wrong)?;
            let Outcome {
                recipe,
                before,
                after,
                ..
            } = outcome;
            (linear, recipe, Some(before), after)
        }
        Choice::Float => {
            let report = left_in_float(&layer.name);
            return Ok((Linear::Float(float.clone()), report));
        }
    };
    let report = LayerReport {
        name: layer.name.clone(),
        weight_bits: plan.weight_bits,
        activation_bits: plan.activation_bits,
        auto: before.is_some(),
        recipe: Some(recipe),
        before,
        after: Some(after),
    };
    Ok((Linear::Quantized(linear), report))
}

fn left_in_float(name: &str) -> LayerReport {
    LayerReport {
        name: name.into(),
        weight_bits: 32,
        activation_bits: 32,
        auto: false,
        recipe: None,
        before: None,
        after: None,
    }
}

/// Errors of a quantized layer on the rows that it was calibrated on.
fn errors(
    quantized: &QuantLinear,
    float: &FloatLinear,
    rows: &[f32],
) -> Result<Errors, noisyquant::Error> {
    let outputs = float.bias().len();
    let mut target = vec![0.0; rows.len() / float.in_features() * outputs];
    float.forward(rows, &mut target);
    Errors::try_measure(&quantized.forward(rows)?, &target, outputs)
}

fn with_offset(noise: &Noise, offset: u64) -> Noise {
    match noise {
        Noise::Uniform { range, seed } => Noise::Uniform {
            range: *range,
            seed: seed.wrapping_add(offset),
        },
        Noise::Searched { seed } => Noise::Searched {
            seed: seed.wrapping_add(offset),
        },
        other => other.clone(),
    }
}
