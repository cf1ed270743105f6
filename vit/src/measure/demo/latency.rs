//! Time of one image on one thread, per instruction set.

use std::time::Duration;

use noisyquant::{Isa, Noise, Quantizer};
use serde::Serialize;

use super::{overhead::OverheadRow, subject::Subject};
use crate::{
    error::Error,
    measure::timing::{Times, on_threads},
    model::{Model, Output, Workspace},
    ops::float_kernel,
    quantize::LayerPlan,
};

/// Steps of the progress bar for each instruction set.
pub(super) const STEPS_PER_ISA: usize = 1;
const LIMIT: Duration = Duration::from_secs(3);
/// The time of a layer does not depend on how wide its noise is, so none is searched for here.
const NOISE_RANGE: f32 = 0.01;

/// The latency table.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Latency {
    /// Name of the f32 matrix kernel.
    pub float_kernel: String,
    /// Median time of an image in f32, in microseconds.
    pub float_us: f64,
    /// One row per instruction set.
    pub rows: Vec<LatencyRow>,
}

/// Median times of an image with all linear layers quantized, in microseconds, on one instruction
/// set.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct LatencyRow {
    /// Name of the instruction set.
    pub isa: String,
    /// W8A8 without noise.
    pub w8a8_us: f64,
    /// W8A8 with noise.
    pub w8a8_noise_us: f64,
    /// W6A6 without noise.
    pub w6a6_us: f64,
    /// W6A6 with noise.
    pub w6a6_noise_us: f64,
    /// Rounds that the medians are of.
    pub rounds: usize,
}

impl Subject<'_> {
    /// Times of the whole model, and what the noise costs in it.
    pub(super) fn latency(
        &self,
        isas: &[Isa],
        image: &[f32],
    ) -> Result<(Latency, Vec<OverheadRow>), Error> {
        let (mut rows, mut overhead, mut float_us) = (Vec::new(), Vec::new(), f64::INFINITY);
        for &isa in isas {
            self.progress
                .set_message(format!("timing single images on {isa}"));
            let models = self.models(isa)?;
            let times = on_threads(1, || {
                let models: Vec<&Model> = std::iter::once(self.float).chain(&models).collect();
                // One workspace for all: where buffers lie in memory can matter more than the
                // noise.
                let mut workspace = Workspace::shared(&models, 1, 1);
                let mut logits = vec![0.0; self.float.config().classes];
                Times::measure(models.len(), self.options.rounds, LIMIT, |which| {
                    let mut output = Output::logits(&mut logits);
                    models[which].forward(image, &mut output, &mut workspace)
                })
            })?;
            float_us = float_us.min(times.microseconds(0));
            rows.push(LatencyRow {
                isa: isa.to_string(),
                w8a8_us: times.microseconds(1),
                w8a8_noise_us: times.microseconds(2),
                w6a6_us: times.microseconds(4),
                w6a6_noise_us: times.microseconds(5),
                rounds: times.rounds(),
            });
            overhead.push(OverheadRow {
                what: "whole model, one image".into(),
                isa: isa.to_string(),
                w8a8: times.ratio(2, 1),
                w8a8_control: times.ratio(3, 1),
                w6a6: times.ratio(5, 4),
                w6a6_control: times.ratio(6, 4),
                rounds: times.rounds(),
            });
            self.progress.inc(1);
        }
        Ok((
            Latency {
                float_kernel: float_kernel(),
                float_us,
                rows,
            },
            overhead,
        ))
    }

    /// W8A8 plain, noisy and plain again, then the same of W6A6.
    fn models(&self, isa: Isa) -> Result<Vec<Model>, Error> {
        let noise = Noise::Uniform {
            range: NOISE_RANGE,
            seed: self.options.seed,
        };
        let mut models = Vec::new();
        for bits in [8, 6] {
            for noise in [Noise::None, noise.clone(), Noise::None] {
                let plan = LayerPlan::new(bits)
                    .with(Quantizer::default(), noise)
                    .on(isa);
                models.push(self.quantize(&plan)?);
            }
        }
        Ok(models)
    }
}
