//! Learnt positions at another grid than they were learnt at.

/// Resample `[from, from, width]` to `[to, to, width]` as transformers does: cubic convolution with
/// `a = −3/4`, pixel centres at halves, edges repeated, no antialiasing.
pub(super) fn resample(positions: &[f32], width: usize, from: usize, to: usize) -> Vec<f32> {
    let taps: Vec<[(usize, f32); 4]> = (0..to).map(|at| taps(at, from, to)).collect();
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
fn taps(at: usize, from: usize, to: usize) -> [(usize, f32); 4] {
    let centre = (at as f64 + 0.5) * from as f64 / to as f64 - 0.5;
    let first = centre.floor() - 1.0;
    std::array::from_fn(|tap| {
        let place = first + tap as f64;
        let clamped = place.clamp(0.0, (from - 1) as f64);
        (clamped as usize, cubic((centre - place).abs()) as f32)
    })
}

/// Keys' cubic convolution kernel at distance `x` of at most 2.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.75;
    match x <= 1.0 {
        true => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        false => ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A,
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
            for (got, expected) in resample(&both, 2, 3, to).chunks(2).zip(expected) {
                assert!((got[0] - expected).abs() < 1e-6, "{to}: {got:?} {expected}");
                assert_eq!(got[0], -got[1]);
            }
        }
    }
}
