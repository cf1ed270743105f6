//! Timing of several programs against each other.

use std::time::{Duration, Instant};

use crate::error::Error;

/// Seconds of each contestant in each round.
pub(crate) struct Times {
    samples: Vec<Vec<f64>>,
}

impl Times {
    /// Time `run` of each of `count` contestants once per round, each after an untimed run of
    /// itself, so that it finds the caches as it left them. Ends after `rounds` rounds, or after
    /// `limit` and at least 3. Each round starts with another contestant, so that a machine that
    /// becomes slower or faster meanwhile does not favour one of them.
    pub(crate) fn measure(
        count: usize,
        rounds: u32,
        limit: Duration,
        mut run: impl FnMut(usize) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let mut samples = vec![Vec::new(); count];
        let started = Instant::now();
        for round in 0..rounds.max(3) {
            for at in 0..count {
                let at = (round as usize + at) % count;
                run(at)?;
                let start = Instant::now();
                run(at)?;
                samples[at].push(start.elapsed().as_secs_f64());
            }
            if round >= 2 && started.elapsed() > limit {
                break;
            }
        }
        Ok(Self { samples })
    }

    /// Rounds that were run.
    pub(crate) fn rounds(&self) -> usize {
        self.samples.first().map_or(0, Vec::len)
    }

    /// Median time of a contestant in microseconds.
    pub(crate) fn microseconds(&self, contestant: usize) -> f64 {
        1e6 * median(self.samples[contestant].iter().copied())
    }

    /// Median over the rounds of the time of `above` divided by that of `below` in the same round.
    pub(crate) fn ratio(&self, above: usize, below: usize) -> f64 {
        median(
            self.samples[above]
                .iter()
                .zip(&self.samples[below])
                .map(|(above, below)| above / below),
        )
    }
}

/// The middle one of `values`, or the mean of the two in the middle.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        (values[middle - 1] + values[middle]) / 2.0
    }
}

/// Run `work` in a pool of `threads` threads.
pub(crate) fn on_threads<R: Send>(
    threads: usize,
    work: impl FnOnce() -> Result<R, Error> + Send,
) -> Result<R, Error> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.map_err(|source| Error::Threads { threads, source })?
        .install(work)
}
