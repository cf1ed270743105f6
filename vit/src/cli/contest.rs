//! Models that are timed next to each other, on one instruction set after another.

use indicatif::ProgressBar;
use noisyquant::Isa;

use super::failure::Failure;
use crate::{
    measure::bench::{self, Contestant, FLOAT_BITS, Setting, Share, Timing},
    model::{Layer, Model},
    ops::{Linear, float_kernel},
};

/// A model and what its rows say of it.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) bits: u32,
    pub(super) noise: bool,
    pub(super) isa: String,
    pub(super) cosine: Option<f64>,
    pub(super) model: Model,
}

/// What to call a quantized model as it is.
pub(super) fn contestant(model: Model) -> Entry {
    let quantized = |layer: &Layer| match &layer.linear {
        Linear::Quantized(linear) => Some(linear.clone()),
        Linear::Float(_) => None,
    };
    let layers: Vec<_> = model.layers().iter().filter_map(quantized).collect();
    let bits = |layer: &noisyquant::QuantLinear| (layer.weight_bits(), layer.activation_bits());
    let first = layers.first();
    let uniform = layers
        .iter()
        .all(|layer| Some(bits(layer)) == first.map(bits));
    Entry {
        name: match first.map(bits) {
            Some((weights, activations)) if uniform => format!("W{weights}A{activations}"),
            _ => "mixed".into(),
        },
        bits: layers
            .iter()
            .map(|layer| bits(layer).0.max(bits(layer).1))
            .max()
            .unwrap_or(0),
        noise: layers
            .iter()
            .any(|layer| layer.noise().iter().any(|bias| *bias != 0.0)),
        isa: first.map_or(String::new(), |layer| layer.isa().to_string()),
        cosine: None,
        model,
    }
}

/// Time `float` and what `open` gives for each instruction set, in each of the settings; and where the
/// time goes in the first of the last set's models, in each setting of one image at a time.
pub(super) fn race(
    float: Option<&Model>,
    isas: &[Isa],
    open: impl Fn(Isa) -> Result<Vec<Entry>, Failure>,
    images: &[f32],
    settings: &[Setting],
    bar: &ProgressBar,
) -> Result<(Vec<Timing>, Vec<Share>), Failure> {
    let (mut rows, mut shares) = (Vec::new(), Vec::new());
    for (at, &isa) in isas.iter().enumerate() {
        bar.set_message(format!("preparing {isa}"));
        let entries = open(isa)?;
        let quantized = entries.iter().map(
            |Entry {
                 name,
                 bits,
                 noise,
                 isa,
                 cosine,
                 model,
             }| Contestant {
                name: name.clone(),
                bits: *bits,
                noise: *noise,
                isa: isa.clone(),
                cosine: *cosine,
                model,
            },
        );
        let float = float.map(|model| Contestant {
            name: "f32".into(),
            bits: FLOAT_BITS,
            noise: false,
            isa: float_kernel(),
            cosine: None,
            model,
        });
        let contestants: Vec<Contestant<'_>> = float.into_iter().chain(quantized).collect();
        for setting in settings {
            let Setting { batch, threads, .. } = setting;
            bar.set_message(format!("timing {isa}, batch {batch}, {threads} threads"));
            rows.extend(bench::time(&contestants, images, *setting)?);
            let fastest = at + 1 == isas.len();
            let quantized = contestants
                .iter()
                .find(|contestant| contestant.bits != FLOAT_BITS);
            if let (true, 1, Some(contestant)) = (fastest, setting.batch, quantized) {
                shares.extend(bench::shares(contestant, images, *setting)?);
            }
            bar.inc(1);
        }
    }
    Ok((bench::merge(rows), shares))
}
