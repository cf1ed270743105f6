//! Time with noise divided by time without.

use std::time::Duration;

use noisyquant::{ActivationRange, Executor, Isa, Noise, QuantLinear, Quantizer, Scratch};
use serde::Serialize;

use super::subject::Subject;
use crate::{
    error::Error,
    measure::timing::{Times, on_threads},
};

/// Steps of the progress bar for each instruction set.
pub(super) const STEPS_PER_ISA: usize = 1;
const LIMIT: Duration = Duration::from_millis(1500);
/// Rows, inputs and outputs of the first MLP layer of a DeiT-S on one image.
const DEIT_S: [usize; 3] = [197, 384, 1536];

/// What the noise costs: medians over rounds of the time with noise divided by the time without.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct OverheadRow {
    /// What was timed.
    pub what: String,
    /// Name of the instruction set.
    pub isa: String,
    /// With noise against without, W8A8.
    pub w8a8: f64,
    /// Without noise against a second copy of itself, W8A8: what the measurement can tell apart.
    pub w8a8_control: f64,
    /// With noise against without, W6A6.
    pub w6a6: f64,
    /// Without noise against a second copy of itself, W6A6.
    pub w6a6_control: f64,
    /// Rounds that the medians are of.
    pub rounds: usize,
}

impl Subject<'_> {
    /// The overhead of a single layer of a larger model.
    pub(super) fn layer_overhead(&self, isas: &[Isa]) -> Result<Vec<OverheadRow>, Error> {
        let [rows, inputs, outputs] = DEIT_S;
        let what = format!("a layer of DeiT-S, {rows}×{inputs}→{outputs}");
        let (x, weight) = (waves(rows * inputs), waves(inputs * outputs));
        let mut table = Vec::new();
        for &isa in isas {
            self.progress.set_message(format!("timing {what} on {isa}"));
            let mut layers = Vec::new();
            for bits in [8, 6] {
                for range in [0.0, 0.01, 0.0] {
                    let noise = Noise::Uniform {
                        range,
                        seed: self.options.seed,
                    };
                    let layer = QuantLinear::builder(&weight, outputs, inputs)
                        .weight_bits(bits)
                        .activation_bits(bits)
                        .quantizer(Quantizer::symmetric(ActivationRange::MinMax))
                        .noise(if range == 0.0 { Noise::None } else { noise })
                        .calibration_rows(&x)
                        .isa(isa)
                        .build();
                    layers.push(layer.map_err(layer_error)?);
                }
            }
            let times = on_threads(1, || {
                let scratch = layers
                    .iter()
                    .map(|layer| layer.scratch_bytes(rows, 1))
                    .max();
                let mut scratch = Scratch::with_bytes(scratch.unwrap_or(0));
                let mut y = vec![0.0f32; rows * outputs];
                Times::measure(layers.len(), self.options.rounds, LIMIT, |which| {
                    layers[which]
                        .forward_into(&x, &mut y, &mut scratch, Executor::serial())
                        .map_err(layer_error)
                })
            })?;
            table.push(OverheadRow {
                what: what.clone(),
                isa: isa.to_string(),
                w8a8: times.ratio(1, 0),
                w8a8_control: times.ratio(2, 0),
                w6a6: times.ratio(4, 3),
                w6a6_control: times.ratio(5, 3),
                rounds: times.rounds(),
            });
            self.progress.inc(1);
        }
        Ok(table)
    }
}

fn layer_error(source: noisyquant::Error) -> Error {
    Error::Layer {
        layer: "of DeiT-S size".into(),
        source,
    }
}

/// Numbers between −1 and 1 without a pattern; timing needs no more.
fn waves(length: usize) -> Vec<f32> {
    (0..length).map(|at| (at as f32 * 0.737).sin()).collect()
}
