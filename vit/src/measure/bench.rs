//! Time per image, of several models in turn.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::timing::{Times, median, on_threads};
use crate::{
    error::Error,
    model::{Model, Operation, Output, Workspace},
};

/// Bits of f32.
pub(crate) const FLOAT_BITS: u32 = 32;

/// The median time of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Timing {
    /// `f32`, `mixed`, or bits of weights and activations such as `W8A6`.
    pub name: String,
    /// Most bits of a weight or activation; 32 of f32.
    pub bits: u32,
    /// Whether a bias is added to the activations.
    pub noise: bool,
    /// Instruction set of the integer layers; of f32 the kernel's name.
    pub isa: String,
    /// Images that run at once.
    pub batch: usize,
    /// Threads that they run on.
    pub threads: usize,
    /// Median time of a batch divided by its images, in milliseconds.
    pub med_ms: f64,
    /// Rounds that the median is of.
    pub rounds: usize,
    /// Mean cosine similarity of the features to those of f32, over images that the model was not calibrated
    /// on; none if there are no such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cosine: Option<f64>,
}

/// A model that is timed, and what its row says of it.
pub struct Contestant<'a> {
    /// See [`Timing::name`].
    pub name: String,
    /// See [`Timing::bits`].
    pub bits: u32,
    /// See [`Timing::noise`].
    pub noise: bool,
    /// See [`Timing::isa`].
    pub isa: String,
    /// See [`Timing::cosine`].
    pub cosine: Option<f64>,
    /// The model.
    pub model: &'a Model,
}

/// How models are timed.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Images that run at once.
    pub batch: usize,
    /// Threads that they run on.
    pub threads: usize,
    /// Rounds at most.
    pub rounds: u32,
    /// Time after which no round is begun, from the third on.
    pub limit: Duration,
}

/// Run `contestants`, which are quantizations of one model, in turn on the first `setting.batch` of
/// the normalised `images`, in a pool of their own.
///
/// # Errors
///
/// As [`Model::forward`]; [`Error::Size`] for no contestants or too few images; [`Error::Threads`].
pub fn time(
    contestants: &[Contestant<'_>],
    images: &[f32],
    setting: Setting,
) -> Result<Vec<Timing>, Error> {
    let models: Vec<&Model> = contestants
        .iter()
        .map(|contestant| contestant.model)
        .collect();
    let Some(config) = models.first().map(|model| model.config()) else {
        return Err(Error::Size {
            what: "models to time",
            expected: "at least 1".into(),
            got: 0,
        });
    };
    let batch = first(images, setting.batch, config.pixels())?;
    let times = on_threads(setting.threads, || {
        // One workspace for all: where buffers lie in memory can matter more than the noise.
        let mut workspace = Workspace::shared(&models, setting.batch, setting.threads);
        let mut features = vec![0.0; setting.batch * config.features()];
        let mut logits = vec![0.0; setting.batch * config.classes];
        Times::measure(models.len(), setting.rounds, setting.limit, |which| {
            let (features, logits) = (&mut features[..], &mut logits[..]);
            models[which].forward(batch, &mut Output { features, logits }, &mut workspace)
        })
    })?;
    let timing = |(which, contestant): (usize, &Contestant<'_>)| Timing {
        name: contestant.name.clone(),
        bits: contestant.bits,
        noise: contestant.noise,
        isa: contestant.isa.clone(),
        batch: setting.batch,
        threads: setting.threads,
        med_ms: times.microseconds(which) / 1e3 / setting.batch as f64,
        rounds: times.rounds(),
        cosine: contestant.cosine,
    };
    Ok(contestants.iter().enumerate().map(timing).collect())
}

/// The share of the time of a pass that one kind of operation takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Share {
    /// What is done.
    pub operation: String,
    /// Percent of the time, of the median pass.
    pub percent: f64,
    /// See [`Timing::name`].
    pub name: String,
    /// See [`Timing::isa`].
    pub isa: String,
    /// Threads that it runs on.
    pub threads: usize,
}

/// Where the time of `contestant` goes on the first `setting.batch` of the normalised `images`: the
/// median of each kind of operation over the passes, the largest first.
///
/// # Errors
///
/// As [`time`].
pub fn shares(
    contestant: &Contestant<'_>,
    images: &[f32],
    setting: Setting,
) -> Result<Vec<Share>, Error> {
    let model = contestant.model;
    let config = model.config();
    let batch = first(images, setting.batch, config.pixels())?;
    let samples = on_threads(setting.threads, || {
        let mut workspace = Workspace::new(model, setting.batch);
        let mut features = vec![0.0; setting.batch * config.features()];
        let mut logits = vec![0.0; setting.batch * config.classes];
        let mut samples: BTreeMap<Operation, Vec<f64>> = BTreeMap::new();
        let started = Instant::now();
        for round in 0..setting.rounds.max(3) {
            let (features, logits) = (&mut features[..], &mut logits[..]);
            let mut output = Output { features, logits };
            let mut pass: BTreeMap<Operation, Duration> = BTreeMap::new();
            model.forward_timed(
                batch,
                &mut output,
                &mut workspace,
                &mut |operation, time| {
                    *pass.entry(operation).or_default() += time;
                },
            )?;
            // The first passes find cold caches.
            if round > 0 {
                for (operation, time) in pass {
                    samples
                        .entry(operation)
                        .or_default()
                        .push(time.as_secs_f64());
                }
            }
            if round >= 2 && started.elapsed() > setting.limit {
                break;
            }
        }
        Ok(samples)
    })?;
    let medians = samples
        .into_iter()
        .map(|(operation, times)| (operation, median(times.into_iter())));
    let mut medians: Vec<(Operation, f64)> = medians.collect();
    medians.sort_by(|a, b| b.1.total_cmp(&a.1));
    let total: f64 = medians.iter().map(|(_, time)| time).sum();
    let share = |(operation, time): (Operation, f64)| Share {
        operation: operation.to_string(),
        percent: 100.0 * time / total,
        name: contestant.name.clone(),
        isa: contestant.isa.clone(),
        threads: setting.threads,
    };
    Ok(medians.into_iter().map(share).collect())
}

/// One row for each setting and model, in the order of the settings: f32 models were timed beside
/// every instruction set, and their row is the median of all.
pub(crate) fn merge(rows: Vec<Timing>) -> Vec<Timing> {
    let mut groups: Vec<Vec<Timing>> = Vec::new();
    for row in rows {
        let setting = |row: &Timing| (row.threads, row.batch);
        match groups
            .iter_mut()
            .find(|group| setting(&group[0]) == setting(&row))
        {
            Some(group) => group.push(row),
            None => groups.push(vec![row]),
        }
    }
    let merge = |group: Vec<Timing>| {
        let (float, others): (Vec<Timing>, Vec<Timing>) =
            group.into_iter().partition(|row| row.bits == FLOAT_BITS);
        let float = float.first().map(|first| Timing {
            med_ms: median(float.iter().map(|row| row.med_ms)),
            rounds: float.iter().map(|row| row.rounds).sum(),
            ..first.clone()
        });
        float.into_iter().chain(others)
    };
    groups.into_iter().flat_map(merge).collect()
}

/// The first `count` of `images`, `pixels` numbers each.
fn first(images: &[f32], count: usize, pixels: usize) -> Result<&[f32], Error> {
    images.get(..count * pixels).ok_or_else(|| Error::Size {
        what: "images to time",
        expected: format!("at least {count}"),
        got: images.len() / pixels,
    })
}
