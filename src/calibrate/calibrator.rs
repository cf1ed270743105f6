//! Calibration of a whole model: rows arrive in batches, layers are chosen for in parallel.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::auto::{Candidates, Outcome};
use crate::error::Error;
use crate::layer::linear::QuantLinear;
use crate::run::executor::Executor;

/// A float layer of a model, for [`calibrate`].
#[derive(Clone, Debug)]
pub struct FloatLayer<'a> {
    /// Name in reports and files.
    pub name: String,
    /// Row-major `[out, in]`.
    pub weight: &'a [f32],
    /// `[out]`.
    pub bias: &'a [f32],
    /// Inputs, row-major `[rows, in]`: the float model's, or those that quantized predecessors give.
    pub rows: &'a [f32],
    /// Bits of a weight.
    pub weight_bits: u32,
    /// Bits of an activation code.
    pub activation_bits: u32,
}

/// What was chosen for a layer of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LayerReport {
    /// The layer's name.
    pub name: String,
    /// Bits of a weight.
    pub weight_bits: u32,
    /// Bits of an activation code.
    pub activation_bits: u32,
    /// The choice, with errors before and after.
    pub outcome: Outcome,
}

/// Calibration of the layers of a model, with given candidates.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Calibrator {
    /// What is tried for each layer.
    pub candidates: Candidates,
}

/// Quantized layers by name, and a report of each in the order in which they were given.
pub type Calibrated = (BTreeMap<String, QuantLinear>, Vec<LayerReport>);

/// Chooses for all `layers` with the default candidates; see [`Calibrator::calibrate`].
///
/// # Errors
///
/// As [`Calibrator::calibrate`].
pub fn calibrate(
    layers: &[FloatLayer<'_>],
    progress: impl Fn(&LayerReport) + Sync,
) -> Result<Calibrated, Error> {
    Calibrator::default().calibrate(layers, progress)
}

impl Calibrator {
    /// Chooses for all `layers` ([`Builder::build_auto_from`](crate::Builder::build_auto_from)), in
    /// parallel on rayon's current pool, and calls `progress` after each, in no certain order. The
    /// result does not depend on the order or the number of threads.
    ///
    /// # Errors
    ///
    /// That of the first layer, in their order, which cannot be built; [`Error::DuplicateName`].
    pub fn calibrate(
        &self,
        layers: &[FloatLayer<'_>],
        progress: impl Fn(&LayerReport) + Sync,
    ) -> Result<Calibrated, Error> {
        distinct(layers)?;
        let choose = |layer: &FloatLayer<'_>| {
            let built = self.choose(layer, layer.rows)?;
            progress(&built.1);
            Ok(built)
        };
        // Collected before the first error is looked for: which one is reported must not depend on time.
        let built = a_few_at_a_time(layers, choose);
        let built: Result<Vec<_>, Error> = built.into_iter().collect();
        let (mut quantized, mut reports) = (BTreeMap::new(), Vec::new());
        for (layer, report) in built? {
            quantized.insert(report.name.clone(), layer);
            reports.push(report);
        }
        Ok((quantized, reports))
    }

    /// Chooses for one layer after the other, each on the inputs that its quantized predecessors give
    /// it. `inputs` runs the network up to a layer, with the layers quantized so far in place of their
    /// float ones, and returns that layer's inputs, `[rows, in]`; the `rows` of `layers` are not read.
    /// `layers` stand in the order of the network.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use noisyquant::{Calibrator, Error, FloatLayer, QuantLinear};
    /// # let (first, second) = ([0.5f32, -1.0, 0.25, 2.0], [1.0f32, 0.5, -0.5, 1.0]);
    /// # let images = [0.1f32, -0.9, 0.4, 3.0, 0.2, 0.8];
    /// let layer = |name: &str, weight| FloatLayer {
    ///     name: name.to_string(), weight, bias: &[0.0, 0.1], rows: &[], weight_bits: 8, activation_bits: 8,
    /// };
    /// let layers = [layer("fc1", &first), layer("fc2", &second)];
    /// let inputs = |layer: &FloatLayer<'_>, done: &BTreeMap<String, QuantLinear>| match &*layer.name {
    ///     "fc1" => Ok(images.to_vec()),
    ///     _ => done["fc1"].forward(&images),
    /// };
    /// let (quantized, _) = Calibrator::default().calibrate_in_order(&layers, inputs, |_| ())?;
    /// assert_eq!(quantized.len(), 2);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The first error of `inputs` or of a layer that cannot be built; [`Error::DuplicateName`].
    pub fn calibrate_in_order<E: From<Error>>(
        &self,
        layers: &[FloatLayer<'_>],
        mut inputs: impl FnMut(&FloatLayer<'_>, &BTreeMap<String, QuantLinear>) -> Result<Vec<f32>, E>,
        mut progress: impl FnMut(&LayerReport),
    ) -> Result<Calibrated, E> {
        distinct(layers)?;
        let (mut quantized, mut reports) = (BTreeMap::new(), Vec::new());
        for layer in layers {
            let rows = inputs(layer, &quantized)?;
            let (built, report) = self.choose(layer, &rows)?;
            progress(&report);
            quantized.insert(layer.name.clone(), built);
            reports.push(report);
        }
        Ok((quantized, reports))
    }

    fn choose(
        &self,
        layer: &FloatLayer<'_>,
        rows: &[f32],
    ) -> Result<(QuantLinear, LayerReport), Error> {
        let inputs = layer.weight.len() / layer.bias.len().max(1);
        let builder = QuantLinear::builder(layer.weight, layer.bias.len(), inputs)
            .bias(layer.bias)
            .weight_bits(layer.weight_bits)
            .activation_bits(layer.activation_bits)
            .calibration_rows(rows);
        let (quantized, outcome) = builder.build_auto_from(&self.candidates)?;
        let report = LayerReport {
            name: layer.name.clone(),
            weight_bits: layer.weight_bits,
            activation_bits: layer.activation_bits,
            outcome,
        };
        Ok((quantized, report))
    }
}

/// What `work` makes of each item, in parallel on rayon's current pool, of as many items at a time as the
/// pool has threads. A thread that waits for a loop within `work` takes up other work; if it could be that of
/// any other item, items would be begun without bound, and each layer holds several copies of its rows.
fn a_few_at_a_time<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let groups = items.chunks(Executor::rayon().threads());
    groups
        .flat_map(|group| group.par_iter().map(&work).collect::<Vec<R>>())
        .collect()
}

fn distinct(layers: &[FloatLayer<'_>]) -> Result<(), Error> {
    let mut names = BTreeSet::new();
    match layers.iter().find(|layer| !names.insert(&layer.name)) {
        Some(twice) => Err(Error::DuplicateName {
            name: twice.name.clone(),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::time::Duration;

    use super::*;

    #[test]
    fn two_layers_of_one_name_are_refused() {
        let layer = || FloatLayer {
            name: "fc1".to_string(),
            weight: &[1.0, 2.0],
            bias: &[0.5],
            rows: &[0.1, 0.2, 0.3, 0.4],
            weight_bits: 8,
            activation_bits: 8,
        };
        let error = calibrate(&[layer(), layer()], |_| ()).unwrap_err();
        assert!(error.to_string().contains("fc1"), "{error}");
    }

    #[test]
    fn no_more_items_are_begun_than_there_are_threads() {
        const THREADS: usize = 8;
        let (live, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = |item: &usize| {
            most.fetch_max(live.fetch_add(1, Relaxed) + 1, Relaxed);
            // A loop whose parts other threads take, so that this one has to wait.
            let parts = (0..16).into_par_iter().with_max_len(1);
            parts.for_each(|_| std::thread::sleep(Duration::from_millis(1)));
            live.fetch_sub(1, Relaxed);
            2 * item
        };
        let items: Vec<usize> = (0..100).collect();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(THREADS).build();
        let done = pool.unwrap().install(|| a_few_at_a_time(&items, work));
        assert!(done.into_iter().eq((0..100).map(|item| 2 * item)));
        let most = most.into_inner();
        assert!((1..=THREADS).contains(&most), "{most} at a time");
    }

    #[test]
    fn layers_are_calibrated_in_parallel_and_reported_in_order() {
        let values: Vec<f32> = (0..4000).map(|i| ((i * i) as f32 * 0.3).sin()).collect();
        let layer = |name: &str, bits| FloatLayer {
            name: name.to_string(),
            weight: &values[..12 * 20],
            bias: &values[..12],
            rows: &values[500..500 + 40 * 20],
            weight_bits: bits,
            activation_bits: bits,
        };
        let layers = [layer("b", 8), layer("a", 6)];
        let count = AtomicUsize::new(0);
        let progress = |_: &LayerReport| {
            count.fetch_add(1, Relaxed);
        };
        let (quantized, reports) = calibrate(&layers, progress).unwrap();
        assert_eq!(count.into_inner(), 2);
        assert_eq!(quantized.len(), 2);
        assert_eq!([&reports[0].name, &reports[1].name], ["b", "a"]);
        let json = serde_json::to_string(&reports).unwrap();
        assert_eq!(
            serde_json::from_str::<Vec<LayerReport>>(&json).unwrap(),
            reports
        );
        let wrong = FloatLayer {
            rows: &values[..7],
            ..layers[0].clone()
        };
        assert!(calibrate(&[wrong], |_| ()).is_err());
    }

    #[test]
    fn in_order_a_layer_sees_what_its_quantized_predecessor_gives() {
        let values: Vec<f32> = (0..4000).map(|i| ((i * i) as f32 * 0.3).sin()).collect();
        let layer = |name: &str, from: usize| FloatLayer {
            name: name.to_string(),
            weight: &values[from..from + 16 * 16],
            bias: &values[from..from + 16],
            rows: &[],
            weight_bits: 4,
            activation_bits: 4,
        };
        let layers = [layer("fc1", 0), layer("fc2", 300)];
        let images = &values[600..600 + 100 * 16];
        let mut asked = Vec::new();
        let calibrator = Calibrator {
            candidates: Candidates::none(),
        };
        let (quantized, reports) = calibrator
            .calibrate_in_order(
                &layers,
                |layer, done| {
                    asked.push((layer.name.clone(), done.len()));
                    match done.get("fc1") {
                        Some(fc1) => fc1.forward(images),
                        None => Ok(images.to_vec()),
                    }
                },
                |_| (),
            )
            .unwrap();
        assert_eq!(asked, [("fc1".to_string(), 0), ("fc2".to_string(), 1)]);
        assert_eq!([&reports[0].name, &reports[1].name], ["fc1", "fc2"]);
        // The second layer is the one that is calibrated on the first one's outputs, to the bit.
        let hidden = quantized["fc1"].forward(images).unwrap();
        let alone = FloatLayer {
            rows: &hidden,
            ..layers[1].clone()
        };
        let (alone, report) = calibrator.calibrate(&[alone], |_| ()).unwrap();
        assert_eq!(report[0], reports[1]);
        let outputs =
            |layers: &BTreeMap<String, QuantLinear>| layers["fc2"].forward(&hidden).unwrap();
        assert_eq!(outputs(&alone), outputs(&quantized));
        let float = calibrator.calibrate(
            &[FloatLayer {
                rows: images,
                ..layers[1].clone()
            }],
            |_| (),
        );
        assert_ne!(float.unwrap().1[0], reports[1]);
        let refused: Result<_, Error> =
            calibrator.calibrate_in_order(&layers, |_, _| Ok(vec![1.0]), |_| ());
        assert!(refused.is_err());
    }
}
