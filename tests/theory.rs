//! Theorem 1 in closed form against Monte Carlo.

mod common;

use common::Rng;
use noisyquant::theory::expected_error_change;

/// The mean of `(Q(x + N) − N − x)² − (Q(x) − x)²` over draws of `N`, levels at odd multiples of `b`.
fn monte_carlo(x: f64, n: f64, b: f64, draws: usize, rng: &mut Rng) -> f64 {
    let quantize = |v: f64| ((v / (2.0 * b)).floor() * 2.0 + 1.0) * b;
    let plain = (quantize(x) - x).powi(2);
    let change = |rng: &mut Rng| {
        let noise = f64::from(rng.float()) * n;
        (quantize(x + noise) - noise - x).powi(2) - plain
    };
    (0..draws).map(|_| change(rng)).sum::<f64>() / draws as f64
}

#[test]
fn closed_form_equals_monte_carlo_over_a_grid() {
    let mut rng = Rng(1);
    let draws = 40_000;
    let mut compared = 0;
    for b in [0.5, 1.0, 3.0] {
        for i in 0..10 {
            for j in 1..20 {
                let (x, n) = (b * (f64::from(i) + 0.01) / 10.0, b * f64::from(j) / 10.0);
                let Some(expected) = expected_error_change(x, n, b) else {
                    assert!(n > 2.0 * b - x);
                    continue;
                };
                let got = monte_carlo(x, n, b, draws, &mut rng);
                // The change is bounded by (3b)²; six standard errors of that.
                let tolerance = 6.0 * 4.0 * b * b / f64::from(draws as u32).sqrt();
                assert!(
                    (got - expected).abs() < tolerance,
                    "x={x} n={n} b={b}: {got}, {expected}"
                );
                compared += 1;
            }
        }
    }
    assert!(compared > 300);
}

#[test]
fn noise_helps_exactly_below_the_threshold() {
    let b = 1.0f64;
    for n in [0.1, 0.5, 1.0, 1.4] {
        let threshold = n * (1.0 - (n / (3.0 * b)).sqrt());
        let change = |x| expected_error_change(x, n, b).unwrap();
        approx::assert_abs_diff_eq!(change(threshold), 0.0, epsilon = 1e-12);
        assert!(change(threshold * 0.99) < 0.0 && change((threshold * 1.01).min(n)) > 0.0);
    }
}

#[test]
fn outside_its_range_the_closed_form_is_none() {
    for (x, n, b) in [
        (-0.1, 0.5, 1.0),
        (0.5, 1.6, 1.0),
        (0.5, 0.1, 0.0),
        (1.1, 0.1, 1.0),
        (f64::NAN, 0.1, 1.0),
        (0.1, 0.1, f64::INFINITY),
    ] {
        assert_eq!(expected_error_change(x, n, b), None);
    }
}
