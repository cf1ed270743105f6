//! The noisy bias: a fixed value per input channel, added before quantization.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// How the noisy bias `N` of a layer is chosen (docs/math.md, eq. 10).
///
/// `N[k] ~ U(−n, n)` is drawn once per layer; its effect is taken out of the output exactly, so the
/// layer still approximates the same function.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Noise {
    /// No noise: the plain quantizer.
    #[default]
    None,
    /// `U(−range, range)` from a seed; `range` in the units of the input.
    Uniform {
        /// `n`, finite and not negative.
        range: f32,
        /// Seed of the draw. A seed's noise never changes between versions or platforms.
        seed: u64,
    },
    /// `U(−n, n)` from a seed, with the `n` that minimises the objective (eq. 11) on the calibration
    /// rows. 0 is among the candidates.
    Searched {
        /// Seed of the draw.
        seed: u64,
    },
    /// A given bias per input channel, in the units of the input.
    PerChannel(Vec<f32>),
}

/// `len` values of `U(−1, 1)` (eq. 10): the ChaCha8 stream of the key
/// `seed` (little-endian, zero-extended), one 32-bit word each, the upper
/// 24 bits scaled to a multiple of `2^−23`. Exact, and so the same everywhere, for ever.
fn unit_uniform(seed: u64, len: usize) -> Vec<f32> {
    let mut key = [0; 32]; // not `seed_from_u64`, whose expansion rand may change
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let mut rng = ChaCha8Rng::from_seed(key);
    let unit = |word: u32| (word >> 8) as f32 / (1u32 << 23) as f32 - 1.0;
    (0..len).map(|_| unit(rng.next_u32())).collect()
}

/// Adds `U(−range, range)` from `seed` (eq. 10).
pub(crate) fn add(noise: &mut [f32], range: f32, seed: u64) {
    let unit = unit_uniform(seed, noise.len());
    for (sum, unit) in noise.iter_mut().zip(unit) {
        *sum += unit * range;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_noise_of_a_seed_never_changes() {
        // Pinned: a change here changes the outputs of every saved layer.
        assert_eq!(unit_uniform(0, 4), GOLDEN_SEED_0);
        assert_eq!(unit_uniform(u64::MAX, 2), GOLDEN_SEED_MAX);
    }

    // Also computed by an independent ChaCha8 in Python.
    const GOLDEN_SEED_0: [f32; 4] = [-0.6255188, 0.67383945, 0.8181261, 0.26284897];
    const GOLDEN_SEED_MAX: [f32; 2] = [-0.73091793, 0.40864635];

    #[test]
    fn draws_are_uniform_in_minus_one_to_one() {
        let draws = unit_uniform(7, 100_000);
        let n = draws.len() as f64;
        let mean = draws.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        let variance = draws.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / n;
        assert!(draws.iter().all(|v| (-1.0..1.0).contains(v)));
        assert!(mean.abs() < 0.01, "mean {mean}");
        assert!((variance - 1.0 / 3.0).abs() < 0.01, "variance {variance}");
    }
}
