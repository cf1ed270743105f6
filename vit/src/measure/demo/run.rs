//! All measurements of the demo, one after the other.

use std::time::Instant;

use indicatif::ProgressBar;
use noisyquant::{ActivationRange, Isa, QuantLinear, Quantizer};

use super::{accuracy, latency, options::Options, overhead, results::Report, subject::Subject};
use crate::{
    error::Error,
    input::embedded,
    model::{Model, Workspace},
    quantize::Calibration,
};

/// Calibration rows kept of each layer.
const CALIBRATION_ROWS: usize = 1024;

/// Measure everything, showing on `progress` what is being done.
///
/// # Errors
///
/// As [`Model::quantize`] and [`Model::forward`]; [`Error::Size`] if `options` asks for no images;
/// [`Error::Threads`] if no thread can be started.
pub fn run(options: &Options, progress: &ProgressBar) -> Result<Report, Error> {
    let started = Instant::now();
    let isas: Vec<Isa> = Isa::available().filter(|&isa| has_kernels(isa)).collect();
    let timings = latency::STEPS_PER_ISA + overhead::STEPS_PER_ISA;
    progress.set_length((1 + accuracy::steps(options) + timings * isas.len()) as u64);

    progress.set_message("running the calibration images through the float model");
    let float = Model::from_safetensors(embedded::WEIGHTS)?;
    let config = float.config();
    let images = embedded::calibration()?;
    let inputs = images.normalised(config, 0..images.len())?;
    let mut calibration = Calibration::new(&float, CALIBRATION_ROWS, 0)?;
    let mut workspace = Workspace::new(&float, images.len());
    calibration.observe(&float, &inputs, &mut workspace)?;
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
        model: format!("handwritten digits, {config}"),
        ranges: options.range.to_string(),
        test_images: test.len(),
        calibration_images: images.len(),
        accuracy,
        latency,
        overhead,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// Whether layers can be built for `isa`; that the CPU has it is not enough.
fn has_kernels(isa: Isa) -> bool {
    let range = ActivationRange::Fixed {
        min: -1.0,
        max: 1.0,
    };
    let layer = QuantLinear::builder(&[1.0], 1, 1).quantizer(Quantizer::symmetric(range));
    layer.isa(isa).build().is_ok()
}
