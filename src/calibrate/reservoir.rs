//! A bounded sample of the rows that a layer sees.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::check;
use crate::error::Error;

/// A sample of a layer's inputs in bounded memory: the rows of the largest magnitudes and a uniform
/// sample of the others, the same for the same rows and seed however they are cut into batches.
///
/// ```
/// # use noisyquant::Reservoir;
/// let mut inputs = Reservoir::new(384, 2048, 0)?;
/// for batch in [vec![0.5f32; 197 * 384], vec![-0.5; 197 * 384]] {
///     inputs.observe(&batch)?; // as the float model runs
/// }
/// assert_eq!(inputs.rows().len(), 2 * 197 * 384);
/// # Ok::<(), noisyquant::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Reservoir {
    cols: usize,
    capacity: usize,
    seen: u64,
    /// The rows of largest magnitude: magnitude, position in the stream, row.
    extreme: Vec<Kept>,
    uniform: Vec<Kept>,
    rng: ChaCha8Rng,
    /// Rows offered to the uniform sample so far.
    offered: u64,
}

#[derive(Clone, Debug)]
struct Kept {
    magnitude: f32,
    position: u64,
    row: Vec<f32>,
}

impl Reservoir {
    /// For rows of `cols` values, of which it keeps at most `capacity`, an eighth of them the most
    /// extreme.
    ///
    /// # Errors
    ///
    /// [`Error::Dimension`] if `cols` or `capacity` is zero.
    pub fn new(cols: usize, capacity: usize, seed: u64) -> Result<Reservoir, Error> {
        check::dimension("reservoir columns", cols, usize::MAX)?;
        check::dimension("reservoir capacity", capacity, usize::MAX)?;
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        Ok(Reservoir {
            cols,
            capacity,
            seen: 0,
            extreme: Vec::new(),
            uniform: Vec::new(),
            rng: ChaCha8Rng::from_seed(key),
            offered: 0,
        })
    }

    /// Looks at a batch, row-major `[rows, cols]`.
    ///
    /// # Errors
    ///
    /// [`Error::Rows`] or [`Error::Value`] for a batch that is not whole rows of finite values; then
    /// none of it was looked at.
    pub fn observe(&mut self, batch: &[f32]) -> Result<(), Error> {
        check::rows("calibration batch", self.cols, batch.len())?;
        check::finite("calibration batch", batch)?;
        for row in batch.chunks_exact(self.cols) {
            self.offer(row);
        }
        Ok(())
    }

    fn offer(&mut self, row: &[f32]) {
        let magnitude = row.iter().fold(0f32, |m, x| m.max(x.abs()));
        let mut kept = Kept {
            magnitude,
            position: self.seen,
            row: row.to_vec(),
        };
        self.seen += 1;
        let extremes = self.capacity / 8;
        if extremes > 0 {
            // Sorted from the largest; the one that falls out joins the others.
            let at = self.extreme.partition_point(|k| k.magnitude >= magnitude);
            if at < extremes {
                self.extreme.insert(at, kept);
                if self.extreme.len() <= extremes {
                    return;
                }
                match self.extreme.pop() {
                    Some(last) => kept = last,
                    None => return,
                }
            }
        }
        // Vitter's algorithm R.
        self.offered += 1;
        let room = self.capacity - extremes;
        if self.uniform.len() < room {
            self.uniform.push(kept);
        } else {
            let at = self.rng.next_u64() % self.offered;
            if let Some(place) = usize::try_from(at)
                .ok()
                .and_then(|i| self.uniform.get_mut(i))
            {
                *place = kept;
            }
        }
    }

    /// Rows seen so far.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// The rows kept, in the order in which they came, `[rows, cols]`.
    pub fn rows(&self) -> Vec<f32> {
        let mut kept: Vec<&Kept> = self.extreme.iter().chain(&self.uniform).collect();
        kept.sort_by_key(|kept| kept.position);
        kept.into_iter()
            .flat_map(|kept| &kept.row)
            .copied()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_keeps_extremes_and_does_not_depend_on_batches() {
        let stream: Vec<f32> = (0..3000).map(|i| ((i * i) as f32 * 0.7).sin()).collect();
        let mut stream = stream;
        stream[1501] = 50.0;
        let sample = |batch: usize, seed| {
            let mut reservoir = Reservoir::new(3, 64, seed).unwrap();
            for rows in stream.chunks(3 * batch) {
                reservoir.observe(rows).unwrap();
            }
            assert_eq!(reservoir.seen(), 1000);
            reservoir.rows()
        };
        let rows = sample(1, 0);
        assert_eq!(rows.len(), 64 * 3);
        assert!(rows.contains(&50.0));
        assert_eq!(rows, sample(17, 0));
        assert_ne!(rows, sample(17, 1));
    }

    #[test]
    fn few_rows_are_all_kept_in_order() {
        for capacity in [1, 7, 8, 100] {
            let mut reservoir = Reservoir::new(2, capacity, 0).unwrap();
            let rows: Vec<f32> = (0..14).map(|i| i as f32).collect();
            reservoir.observe(&rows).unwrap();
            let kept = reservoir.rows();
            assert_eq!(kept.len(), 2 * capacity.min(7));
            assert!(kept.windows(2).all(|w| w[0] < w[1]));
            assert!(reservoir.observe(&[1.0]).is_err());
            assert!(reservoir.observe(&[1.0, f32::NAN]).is_err());
            assert_eq!(reservoir.seen(), 7);
        }
        assert!(Reservoir::new(0, 1, 0).is_err() && Reservoir::new(1, 0, 0).is_err());
    }
}
