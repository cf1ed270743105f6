//! Timing of several programs against each other on one thread.

use std::time::{Duration, Instant};

use crate::Error;

/// Seconds of each contestant in each round.
pub(super) struct Times {
    samples: Vec<Vec<f64>>,
}

impl Times {
    /// Time `run` of each of `count` contestants once per round, each after an untimed run of
    /// itself, so that it finds the caches as it left them. Ends after `rounds` rounds, or after
    /// `limit` and at least 3. Each round starts with another contestant, so that a machine that
    /// becomes slower or faster meanwhile does not favour one of them.
    pub(super) fn measure(
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
    pub(super) fn rounds(&self) -> usize {
        self.samples.first().map_or(0, Vec::len)
    }

    /// Median time of a contestant in microseconds.
    pub(super) fn microseconds(&self, contestant: usize) -> f64 {
        1e6 * median(self.samples[contestant].iter().copied())
    }

    /// Median over the rounds of the time of `above` divided by that of `below` in the same round.
    pub(super) fn ratio(&self, above: usize, below: usize) -> f64 {
        median(
            self.samples[above]
                .iter()
                .zip(&self.samples[below])
                .map(|(above, below)| above / below),
        )
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        (values[middle - 1] + values[middle]) / 2.0
    }
}

/// Run `work` on a pool of one thread, so that nothing in it runs in parallel.
pub(super) fn on_one_thread<R: Send>(
    work: impl FnOnce() -> Result<R, Error> + Send,
) -> Result<R, Error> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    pool.map_err(|source| Error::Threads { threads: 1, source })?
        .install(work)
}
