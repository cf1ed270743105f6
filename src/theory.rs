//! Why noise helps: Theorem 1 of NoisyQuant in closed form (docs/math.md, eq. 12).

/// Expected change of the squared quantization error by noise, `D = E[(Q(x + N) − N − x)²] − (Q(x) − x)²`.
///
/// Levels stand at `±b` around a rounding boundary (the step is `2b`), the value at distance `x` from
/// the boundary, and `N ~ U(−n, n)`. For `x ≤ n ≤ 2b − x` (eq. 12)
///
/// ```text
/// D = n²/3 − (b/n) (n − x)²
/// ```
///
/// so that noise lowers the expected error exactly if `x < n (1 − √(n / 3b))`. For `n < x` the noise
/// never crosses the boundary, the quantizer's answer stays, and `D = n²/3`.
///
/// Arguments are in the units of the quantized value. Returns `None` outside `0 ≤ x ≤ b`, `n ≥ 0`,
/// `b > 0`, `n ≤ 2b − x`, where the closed form does not hold.
///
/// ```
/// use noisyquant::theory::expected_error_change;
/// // Close to the boundary noise helps; in the middle of a cell it can only hurt.
/// assert!(expected_error_change(0.1, 0.8, 1.0).unwrap() < 0.0);
/// assert!(expected_error_change(0.9, 0.8, 1.0).unwrap() > 0.0);
/// ```
pub fn expected_error_change(x: f64, n: f64, b: f64) -> Option<f64> {
    let inside = (0.0..=b).contains(&x) && b > 0.0 && (0.0..=2.0 * b - x).contains(&n);
    if !inside || !b.is_finite() {
        return None;
    }
    let crossing = if n > x { b / n * (n - x).powi(2) } else { 0.0 };
    Some(n * n / 3.0 - crossing)
}
