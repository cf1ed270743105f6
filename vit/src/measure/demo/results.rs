//! What the demo found, as numbers.

use serde::Serialize;

use super::{accuracy::AccuracyRow, latency::Latency, overhead::OverheadRow};

/// Everything that the demo found. Displays as tables; serializes for other programs.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The model in a few words.
    pub model: String,
    /// How the ranges of the activations were found, in a few words.
    pub ranges: String,
    /// Test images that the accuracy was judged by.
    pub test_images: usize,
    /// Training images that calibrated the layers.
    pub calibration_images: usize,
    /// Accuracy of f32 and of each number of bits and quantizer, plain and with noise.
    pub accuracy: Vec<AccuracyRow>,
    /// Time per image.
    pub latency: Latency,
    /// What the noise costs.
    pub overhead: Vec<OverheadRow>,
    /// How long all this took.
    pub seconds: f64,
}
