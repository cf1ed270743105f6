//! From a float model to a quantized one, layer by layer.

use noisyquant::{Isa, Noise, QuantLinear, Quantizer};

use crate::{Error, Linear, Vit, Workspace};

/// Input rows of every linear layer, recorded while the float model runs on calibration images.
pub struct Calibration {
    layers: Vec<Vec<f32>>,
}

/// Images that run at once while recording.
const BATCH: usize = 16;

impl Calibration {
    /// Run `vit` on normalised images `[n, channels, height, width]` and keep up to `max_rows`
    /// input rows of each linear layer, spread over all images and tokens, the same ones in every
    /// run.
    ///
    /// # Errors
    ///
    /// [`Error::Size`] if `images` is not a whole number of images, or is none; as [`Vit::forward`]
    /// otherwise.
    pub fn collect(vit: &Vit, images: &[f32], max_rows: usize) -> Result<Self, Error> {
        let config = vit.config();
        let pixels = config.pixels();
        if images.is_empty() {
            return Err(Error::Size {
                what: "calibration images",
                expected: "at least 1".into(),
                got: 0,
            });
        }
        let count = images.len() / pixels;
        let mut recorders: Vec<Recorder> = vit
            .linears()
            .enumerate()
            .map(|(layer, linear)| {
                let rows_per_image = match layer {
                    0 => config.patches(),
                    _ if layer == 1 + 4 * config.depth => 1,
                    _ => config.tokens(),
                };
                Recorder::new(linear.in_features(), count * rows_per_image, max_rows)
            })
            .collect();
        let mut workspace = Workspace::new(vit, BATCH);
        let mut logits = vec![0.0; BATCH * config.classes];
        for batch in images.chunks(BATCH * pixels) {
            let logits = &mut logits[..batch.len() / pixels * config.classes];
            vit.forward_observed(batch, logits, &mut workspace, &mut |layer, rows| {
                recorders[layer].record(rows)
            })?;
        }
        Ok(Self {
            layers: recorders
                .into_iter()
                .map(|recorder| recorder.kept)
                .collect(),
        })
    }

    /// The recorded input rows of linear layer number `layer`, row-major; none if there is no such
    /// layer.
    pub fn rows(&self, layer: usize) -> &[f32] {
        self.layers.get(layer).map_or(&[], Vec::as_slice)
    }
}

/// Keeps some of the rows that pass by.
struct Recorder {
    features: usize,
    keep: Vec<bool>,
    seen: usize,
    kept: Vec<f32>,
}

impl Recorder {
    /// Keep `max_rows` of `total` rows: multiples of a step coprime to `total` and near its golden
    /// section, which are all different and fall evenly, but in no rhythm that the tokens of an
    /// image could fall in with.
    fn new(features: usize, total: usize, max_rows: usize) -> Self {
        let step = (1..=total * 618 / 1000)
            .rev()
            .find(|step| greatest_common_divisor(*step, total) == 1);
        let mut keep = vec![false; total];
        for at in 0..max_rows.min(total) {
            keep[at * step.unwrap_or(1) % total] = true;
        }
        Self {
            features,
            keep,
            seen: 0,
            kept: Vec::new(),
        }
    }

    fn record(&mut self, rows: &[f32]) {
        for row in rows.chunks_exact(self.features) {
            if self.keep[self.seen] {
                self.kept.extend_from_slice(row);
            }
            self.seen += 1;
        }
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

/// How to quantize every linear layer of a model.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Bits of the weights, 2 to 8.
    pub weight_bits: u32,
    /// Bits of the activations, 2 to 8.
    pub activation_bits: u32,
    /// How the range of the activations is chosen.
    pub quantizer: Quantizer,
    /// The noisy bias. Layer number `l` uses the seed plus `l`.
    pub noise: Noise,
    /// The instruction set to run on; `None` is the best that this CPU has.
    pub isa: Option<Isa>,
}

impl Recipe {
    /// The same `bits` for weights and activations, [`Quantizer::default`], no noise.
    pub fn new(bits: u32) -> Self {
        let quantizer = Quantizer::default();
        Self {
            weight_bits: bits,
            activation_bits: bits,
            quantizer,
            noise: Noise::None,
            isa: None,
        }
    }

    /// This recipe with another quantizer of the activations.
    pub fn with_quantizer(self, quantizer: Quantizer) -> Self {
        Self { quantizer, ..self }
    }

    /// This recipe with another noise.
    pub fn with_noise(self, noise: Noise) -> Self {
        Self { noise, ..self }
    }

    /// This recipe on the given instruction set.
    pub fn on(self, isa: Isa) -> Self {
        Self {
            isa: Some(isa),
            ..self
        }
    }

    fn noise_of(&self, layer: usize) -> Noise {
        let offset = layer as u64;
        match &self.noise {
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
}

impl Vit {
    /// A copy of this float model whose linear layers run through integer kernels.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyQuantized`], or [`Error::Layer`] if a layer cannot be quantized this way:
    /// bits out of range, an instruction set that this CPU lacks, no calibration rows.
    pub fn quantize(&self, recipe: &Recipe, calibration: &Calibration) -> Result<Self, Error> {
        self.replace_linears(|(layer, linear)| {
            let name = self.layer_name(layer);
            let Linear::Float(float) = linear else {
                return Err(Error::AlreadyQuantized { layer: name });
            };
            let builder =
                QuantLinear::builder(float.weight(), float.bias().len(), float.in_features())
                    .bias(float.bias())
                    .weight_bits(recipe.weight_bits)
                    .activation_bits(recipe.activation_bits)
                    .quantizer(recipe.quantizer)
                    .noise(recipe.noise_of(layer))
                    .calibrate(calibration.rows(layer));
            let builder = match recipe.isa {
                Some(isa) => builder.isa(isa),
                None => builder,
            };
            let layer = builder.build().map_err(|source| Error::Layer {
                layer: name,
                source,
            })?;
            Ok(Linear::Quantized(layer))
        })
    }
}
