//! From a float model to a quantized one, layer by layer.

use noisyquant::{Errors, Isa, Noise, Outcome, QuantLinear, Quantizer, Recipe, Reservoir};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Error, FloatLinear, Layer, Linear, Model, Observed, Output, Workspace};

/// A sample of the input rows of every linear layer, taken while the float model runs on calibration
/// images; the same for the same images and seed however they are cut into batches.
pub struct Calibration {
    layers: Vec<Reservoir>,
    logits: Vec<f32>,
}

impl Calibration {
    /// Room for at most `rows` input rows of each layer of `model`.
    ///
    /// # Errors
    ///
    /// [`Error::Layer`] if `rows` is zero.
    pub fn new(model: &Model, rows: usize, seed: u64) -> Result<Self, Error> {
        let layers = model.layers().iter().map(|layer| {
            Reservoir::new(layer.linear.in_features(), rows, seed).map_err(layer_error(&layer.name))
        });
        Ok(Self {
            layers: layers.collect::<Result<_, _>>()?,
            logits: Vec::new(),
        })
    }

    /// Run `model` on normalised images `[n, channels, height, width]`, up to as many as the
    /// workspace holds, and sample the inputs of its layers.
    ///
    /// # Errors
    ///
    /// As [`Model::forward`]; [`Error::Calibration`] if this was made for another model;
    /// [`Error::Layer`] if a layer's inputs are not finite.
    pub fn observe(
        &mut self,
        model: &Model,
        images: &[f32],
        workspace: &mut Workspace,
    ) -> Result<(), Error> {
        self.check(model)?;
        let config = model.config();
        let count = images.len() / config.pixels();
        self.logits.resize(count * config.classes, 0.0);
        let mut failed = None;
        let layers = &mut self.layers;
        let mut observe = |seen: Observed<'_>| {
            if let Err(source) = layers[seen.layer].observe(seen.input) {
                failed.get_or_insert((seen.layer, source));
            }
        };
        let output = &mut Output::logits(&mut self.logits);
        model.forward_observed(images, output, workspace, &mut observe)?;
        match failed {
            Some((layer, source)) => Err(layer_error(&model.layers()[layer].name)(source)),
            None => Ok(()),
        }
    }

    /// The sampled input rows of linear layer number `layer`, row-major, in the order in which they
    /// came; none if there is no such layer.
    pub fn rows(&self, layer: usize) -> Vec<f32> {
        self.layers.get(layer).map_or(Vec::new(), Reservoir::rows)
    }

    fn check(&self, model: &Model) -> Result<(), Error> {
        let (expected, got) = (model.layers().len(), self.layers.len());
        match expected == got {
            true => Ok(()),
            false => Err(Error::Calibration { expected, got }),
        }
    }
}

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
pub enum Choice {
    /// [`noisyquant::Builder::build_auto`].
    Auto {
        /// Where noise comes from, if noise is chosen. The choice itself is made with seed 0.
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

/// What became of a layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerReport {
    /// The layer's name.
    pub name: String,
    /// Bits of a weight; 32 for a layer that stayed in f32.
    pub weight_bits: u32,
    /// Bits of an activation code; 32 for a layer that stayed in f32.
    pub activation_bits: u32,
    /// Whether the recipe was chosen automatically.
    pub auto: bool,
    /// How the layer was quantized; none if it stayed in f32.
    pub recipe: Option<Recipe>,
    /// Errors of the plain symmetric min-max layer of as many bits, on rows that it was not fitted
    /// to; none unless the choice was automatic.
    pub before: Option<Errors>,
    /// Errors of what was built: on rows that it was not fitted to if the choice was automatic, else
    /// on the calibration rows. None for a layer that stayed in f32.
    pub after: Option<Errors>,
}

impl Model {
    /// A copy of this float model whose linear layers run through integer kernels as `plan` says of
    /// each name. Attention of a ViT becomes [`Int8`](crate::Attention::Int8) where heads have at least 64 features and images
    /// as many tokens, unless no layer is quantized; [`Model::with_attention`] changes that. Layers are worked
    /// on in parallel on rayon's current pool; `progress` hears of each that is done, in no certain order. The result does not depend on the order or the number of
    /// threads. Reports are in the order of the layers.
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
        let layers = self.layers().par_iter().zip(plans).enumerate();
        let done = layers.map(|(at, (layer, plan))| {
            let Linear::Float(float) = &layer.linear else {
                let layer = layer.name.clone();
                return Err(Error::AlreadyQuantized { layer });
            };
            let (linear, report) = build(layer, float, at, &plan, calibration)?;
            progress(&report);
            let name = layer.name.clone();
            Ok((Layer { name, linear }, report))
        });
        // Collected before the first error is looked for: which one is reported must not depend on
        // time.
        let done: Vec<Result<_, Error>> = done.collect();
        let done: Result<Vec<_>, Error> = done.into_iter().collect();
        let (layers, reports): (Vec<Layer>, Vec<LayerReport>) = done?.into_iter().unzip();
        let all_float = layers
            .iter()
            .all(|layer| matches!(layer.linear, Linear::Float(_)));
        let quantized = self.with_layers(layers, reports.clone());
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
    let wrong = layer_error(&layer.name);
    let builder = QuantLinear::builder(float.weight(), float.bias().len(), float.in_features())
        .bias(float.bias())
        .weight_bits(plan.weight_bits)
        .activation_bits(plan.activation_bits)
        .calibrate(rows);
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
            let (mut linear, outcome) = builder.build_auto().map_err(&wrong)?;
            let Outcome {
                mut recipe,
                before,
                after,
            } = outcome;
            if let Noise::Searched { seed: chosen } = &mut recipe.noise
                && chosen != seed
            {
                *chosen = *seed;
                linear = builder.recipe(recipe.clone()).build().map_err(&wrong)?;
            }
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
    Ok(Errors::measure(&quantized.forward(rows)?, &target, outputs))
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

fn layer_error(name: &str) -> impl Fn(noisyquant::Error) -> Error {
    move |source| Error::Layer {
        layer: name.into(),
        source,
    }
}
