//! Everything that the page says, as numbers.

use serde::{Deserialize, Serialize};

use crate::{
    measure::{bench::Timing, compare::Comparison},
    model::Attention,
};

/// What the page is made from. All of it was measured on the given images and on this machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportData {
    /// File name of the float checkpoint.
    pub checkpoint: String,
    /// File name of the quantized model.
    pub quantized: String,
    /// The architecture in a few words.
    pub architecture: String,
    /// Bytes of the linear layers' weights in f32.
    pub float_bytes: u64,
    /// Bytes of the quantized file.
    pub quantized_bytes: u64,
    /// Both models on the same images.
    pub comparison: Comparison,
    /// What was chosen for each linear layer, in the order in which they run.
    pub choices: Vec<Choice>,
    /// The layers with the heaviest tails.
    pub tails: Vec<Tail>,
    /// Images that the tails were measured on.
    pub tail_images: usize,
    /// Time per image.
    pub latency: Vec<Timing>,
    /// Time per image and accuracy of the model among others of the same checkpoint, with weights and
    /// activations of 8 to 4 bits, on the fastest instruction set.
    #[serde(default)]
    pub widths: Vec<Timing>,
    /// How attention runs in the quantized model.
    pub attention: Attention,
    /// Name of the f32 matrix kernel.
    pub float_kernel: String,
    /// Version of the program.
    pub version: String,
}

/// What was chosen for a linear layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// Name of the layer.
    pub layer: String,
    /// Bits of a weight and of an activation; none if the layer stays in f32.
    pub bits: Option<[u32; 2]>,
    /// Everything else, in a few words.
    pub words: String,
}

/// The inputs of a layer before and after the bias per channel is added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Tail {
    /// Name of the layer.
    pub layer: String,
    /// What was chosen for it, in a few words.
    pub choice: String,
    /// Fourth moment of the inputs divided by the square of the second: 3 for a normal distribution.
    pub kurtosis: f64,
    /// Bits of a code.
    pub bits: u32,
    /// The inputs and the levels of a plain symmetric min-max quantizer.
    pub before: Panel,
    /// Inputs times channel scale plus bias, and the levels of the quantizer that was chosen.
    pub after: Panel,
}

/// The distribution of numbers over levels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Panel {
    /// What numbers are rounded to, in rising order.
    pub levels: Vec<f64>,
    /// Over the whole range.
    pub full: Histogram,
    /// Over a few levels about zero.
    pub zoom: Histogram,
    /// The fewest levels that 99 % of the numbers are rounded to.
    pub busy_levels: usize,
}

/// Shares of all numbers in equal bins; numbers outside are in no bin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Histogram {
    /// Where the first bin starts.
    pub low: f64,
    /// Where the last bin ends.
    pub high: f64,
    /// Share of each bin.
    pub shares: Vec<f64>,
}
