//! Learnt positions at another grid than they were learnt at.

/// How a grid is resampled: both are PyTorch's bicubic interpolation with pixel centres at halves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Resampling {
    /// Cubic convolution with `a = −3/4` and edges repeated: transformers' ViT, DeiT and DINOv2.
    Plain,
    /// With `a = −1/2`, a kernel that widens as the grid shrinks, and nothing beyond the edges, as in
    /// Pillow: timm, and transformers' DINOv2 with registers.
    Antialiased,
}

/// Resample `[from, from, width]` to `[to, to, width]`.
pub(super) fn resample(
    positions: &[f32],
    width: usize,
    from: usize,
    to: usize,
    resampling: Resampling,
) -> Vec<f32> {
    let taps = |at| match resampling {
        Resampling::Plain => plain_taps(at, from, to),
        Resampling::Antialiased => antialiased_taps(at, from, to),
    };
    let taps: Vec<Vec<(usize, f32)>> = (0..to).map(taps).collect();
    let mut resampled = vec![0.0; to * to * width];
    for (at, token) in resampled.chunks_exact_mut(width).enumerate() {
        for (row, by_row) in &taps[at / to] {
            for (column, by_column) in &taps[at % to] {
                let start = (row * from + column) * width;
                for (sum, value) in token.iter_mut().zip(&positions[start..start + width]) {
                    *sum += by_row * by_column * value;
                }
            }
        }
    }
    resampled
}

/// The four positions out of `from` around position `at` of `to`, and their weights.
fn plain_taps(at: usize, from: usize, to: usize) -> Vec<(usize, f32)> {
    let centre = (at as f64 + 0.5) * from as f64 / to as f64 - 0.5;
    let first = centre.floor() - 1.0;
    let tap = |tap: u8| {
        let place = first + f64::from(tap);
        let clamped = place.clamp(0.0, (from - 1) as f64);
        (clamped as usize, cubic(-0.75, centre - place) as f32)
    };
    (0..4).map(tap).collect()
}

/// The positions out of `from` within the widened kernel around position `at` of `to`, and their weights,
/// which add up to one.
fn antialiased_taps(at: usize, from: usize, to: usize) -> Vec<(usize, f32)> {
    let scale = from as f64 / to as f64;
    let widened = scale.max(1.0);
    let centre = (at as f64 + 0.5) * scale;
    let first = (centre - 2.0 * widened + 0.5).max(0.0) as usize;
    let end = ((centre + 2.0 * widened + 0.5) as usize).min(from);
    let weight = |place: usize| cubic(-0.5, (place as f64 + 0.5 - centre) / widened);
    let sum: f64 = (first..end).map(weight).sum();
    (first..end)
        .map(|place| (place, (weight(place) / sum) as f32))
        .collect()
}

/// Keys' cubic convolution kernel at distance `x`.
fn cubic(a: f64, x: f64) -> f64 {
    match x.abs() {
        x if x <= 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
        x if x < 2.0 => ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `torch.nn.functional.interpolate(..., mode="bicubic", align_corners=False)` of PyTorch 2.
    #[test]
    fn resampling_is_that_of_pytorch() {
        let positions = [0.0, 0.3, 0.6, 0.7, 1.05, 0.3, 0.3, 0.7, 1.1];
        let larger = [
            -0.07152, 0.098116, 0.413996, 0.648476, 0.468265, 0.755247, 0.674612, 0.284472,
            0.605954, 0.921222, 0.884808, 0.522954, 0.24232, 0.47643, 0.893103, 1.192058,
        ];
        let smaller = [0.242031, 0.509878, 0.500086, 0.898698];
        for (to, expected) in [(4, &larger[..]), (2, &smaller), (3, &positions)] {
            // Two channels, the second negated, must not mix.
            let both: Vec<f32> = positions.iter().flat_map(|&x| [x, -x]).collect();
            let resampled = resample(&both, 2, 3, to, Resampling::Plain);
            for (got, expected) in resampled.chunks(2).zip(expected) {
                assert!((got[0] - expected).abs() < 1e-6, "{to}: {got:?} {expected}");
                assert_eq!(got[0], -got[1]);
            }
        }
    }

    /// Pillow 12's `Image.resize(..., BICUBIC)` of mode F, which PyTorch's `antialias=True` follows.
    #[test]
    fn antialiased_resampling_is_that_of_pillow() {
        let positions = [
            0.13, -0.13, 0.64, 0.1, -0.54, 0.36, 1.3, 0.95, -0.7, -1.27, -0.62, 0.04, -2.33, -0.22,
            -1.25, -0.73, -0.54, -0.32, 0.41, 1.04, -0.13, 1.37, -0.67, 0.35, 0.9,
        ];
        let three = [
            0.391934, 0.556711, -0.66942, -0.184029, -0.662929, -0.567335, -0.021898, -0.121638,
            0.768215,
        ];
        let two = [0.23517, -0.450311, -0.270728, 0.042173];
        let seven = [
            0.13582, -0.123526, -0.021374, 0.621942, 0.332921, -0.168679, -0.534995, 0.298797,
            0.546052, 0.893592, 1.031524, 0.011556, -0.724531, -0.983024,
        ];
        for (to, expected) in [(3, &three[..]), (2, &two), (7, &seven)] {
            let got = resample(&positions, 1, 5, to, Resampling::Antialiased);
            assert_eq!(got.len(), to * to);
            for (got, expected) in got.iter().zip(expected) {
                assert!((got - expected).abs() < 2e-6, "{to}: {got} {expected}");
            }
        }
    }
}
