//! What quantization and its noise do to the embedded model: accuracy, latency and overhead, all
//! measured on the spot.

mod accuracy;
mod latency;
mod options;
mod overhead;
mod table;
mod text;
mod timing;

use std::time::Instant;

use indicatif::ProgressBar;
use noisyquant::{Isa, QuantLinear, Quantizer, Range};
use serde::Serialize;

use crate::{Calibration, Config, Error, Vit, embedded};

pub use accuracy::{AccuracyRow, Score};
pub use latency::{Latency, LatencyRow};
pub use options::{Options, RangeChoice, Scheme};
pub use overhead::OverheadRow;

/// Calibration rows kept of each layer.
const CALIBRATION_ROWS: usize = 1024;

/// Everything that the demo found. Displays as tables; serializes for other programs.
#[derive(Clone, Debug, Serialize)]
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

/// Measure everything, showing on `progress` what is being done.
///
/// # Errors
///
/// As [`Vit::quantize`] and [`Vit::forward`]; [`Error::Size`] if `options` asks for no images;
/// [`Error::Threads`] if no thread can be started.
pub fn run(options: &Options, progress: &ProgressBar) -> Result<Report, Error> {
    let started = Instant::now();
    let isas: Vec<Isa> = Isa::available().filter(|&isa| has_kernels(isa)).collect();
    let timings = latency::STEPS_PER_ISA + overhead::STEPS_PER_ISA;
    progress.set_length((1 + accuracy::steps(options) + timings * isas.len()) as u64);

    progress.set_message("running the calibration images through the float model");
    let float = Vit::from_safetensors(embedded::WEIGHTS)?;
    let config = float.config();
    let images = embedded::calibration()?;
    let inputs = images.normalised(config, 0..images.len())?;
    let calibration = Calibration::collect(&float, &inputs, CALIBRATION_ROWS)?;
    progress.inc(1);

    let subject = Subject {
        float: &float,
        calibration: &calibration,
        options,
        progress,
    };
    let test = embedded::test()?.first(options.images.into());
    let first_image = test.normalised(config, 0..1)?;
    let accuracy = subject.accuracy(&test)?;
    let (latency, mut overhead) = subject.latency(&isas, &first_image)?;
    overhead.extend(subject.layer_overhead(&isas)?);
    progress.finish_and_clear();

    Ok(Report {
        model: describe(config),
        ranges: options.range.to_string(),
        test_images: test.len(),
        calibration_images: images.len(),
        accuracy,
        latency,
        overhead,
        seconds: started.elapsed().as_secs_f64(),
    })
}

fn describe(config: &Config) -> String {
    let (size, patch) = (config.image_size, config.patch_size);
    format!(
        "handwritten digits, {size}×{size} pixels, patches of {patch}×{patch}, {} blocks, width {}, {} heads",
        config.depth, config.width, config.heads
    )
}

/// Whether layers can be built for `isa`; that the CPU has it is not enough.
fn has_kernels(isa: Isa) -> bool {
    let range = Range::Fixed {
        min: -1.0,
        max: 1.0,
    };
    let layer = QuantLinear::builder(&[1.0], 1, 1).quantizer(Quantizer::symmetric(range));
    layer.isa(isa).build().is_ok()
}

/// What every measurement works on.
struct Subject<'a> {
    float: &'a Vit,
    calibration: &'a Calibration,
    options: &'a Options,
    progress: &'a ProgressBar,
}
