//! The little dense algebra of calibration: products and a Cholesky factor. Every sum has a fixed
//! order, so results depend neither on threads nor on the instruction set.

use std::iter::Sum;
use std::ops::{Add, AddAssign, Mul};

use rayon::prelude::*;

/// Folds pair `i` of `a` and `b` into lane `i % 8`, so that the compiler can vectorise without changing the
/// order.
pub(crate) fn eight_lanes<S: Copy + Default, A: Copy, B: Copy>(
    a: &[A],
    b: &[B],
    fold: impl Fn(&mut S, A, B),
) -> [S; 8] {
    let mut lanes = [S::default(); 8];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.iter().zip(b) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            fold(lane, *a, *b);
        }
    }
    for (lane, (a, b)) in lanes.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        fold(lane, *a, *b);
    }
    lanes
}

/// Sum of products: of whole runs of eight in lanes, then of the rest.
pub(crate) fn dot<T>(a: &[T], b: &[T]) -> T
where
    T: Copy + Default + Mul<Output = T> + Add<Output = T> + AddAssign + Sum,
{
    let whole = a.len() - a.len() % 8;
    let ((a, a_rest), (b, b_rest)) = (a.split_at(whole), b.split_at(whole));
    let lanes = eight_lanes(a, b, |lane: &mut T, a, b| *lane += a * b);
    let rest: T = a_rest.iter().zip(b_rest).map(|(a, b)| *a * *b).sum();
    lanes.into_iter().sum::<T>() + rest
}

/// The float layer on `rows`: `x · wᵀ + b`, `[rows, n]`.
pub(crate) fn float_outputs(rows: &[f32], weight: &[f32], bias: &[f32], k: usize) -> Vec<f32> {
    const TOGETHER: usize = 8; // rows that share a pass over the weights
    let n = bias.len();
    let mut y = vec![0f32; rows.len() / k * n];
    let blocks = y
        .par_chunks_mut(TOGETHER * n)
        .zip(rows.par_chunks(TOGETHER * k));
    blocks.for_each(|(y, x)| {
        for (channel, (w, b)) in weight.chunks_exact(k).zip(bias).enumerate() {
            for (y, x) in y.chunks_exact_mut(n).zip(x.chunks_exact(k)) {
                y[channel] = dot(x, w) + b;
            }
        }
    });
    y
}

/// `XᵀX / m` of `rows` `[m, k]` less `center[k]`, lower triangle, `[k, k]`.
pub(crate) fn second_moments(rows: &[f32], center: &[f32]) -> Vec<f64> {
    const TOGETHER: usize = 8;
    let (k, m) = (center.len(), rows.len() / center.len());
    let mut columns = vec![0f32; k * m];
    columns
        .par_chunks_mut(m.max(1))
        .zip(center)
        .enumerate()
        .for_each(|(j, (column, c))| {
            let values = rows[j..].iter().step_by(k);
            for (v, x) in column.iter_mut().zip(values) {
                *v = x - c;
            }
        });
    let mut moments = vec![0f64; k * k];
    let blocks = moments.par_chunks_mut(TOGETHER * k).enumerate();
    blocks.for_each(|(block, out)| {
        let first = block * TOGETHER;
        let last = (first + TOGETHER).min(k);
        for j in 0..last {
            let column = &columns[j * m..][..m];
            for i in first.max(j)..last {
                let product = dot(&columns[i * m..][..m], column);
                out[(i - first) * k + j] = f64::from(product) / m as f64;
            }
        }
    });
    moments
}

/// The lower Cholesky factor of the symmetric matrix whose lower triangle is `a` `[k, k]`, in place;
/// `None` if it is not positive definite.
pub(crate) fn cholesky(mut a: Vec<f64>, k: usize) -> Option<Vec<f64>> {
    const BLOCK: usize = 32;
    for first in (0..k).step_by(BLOCK) {
        let last = (first + BLOCK).min(k);
        // The block's own rows, one after the other.
        for i in first..last {
            let (above, rest) = a.split_at_mut(i * k);
            let row = &mut rest[..k];
            for j in first..i {
                let other = &above[j * k..][..k];
                row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
            }
            let square = row[i] - dot(&row[..i], &row[..i]);
            if !(square > 0.0 && square.is_finite()) {
                return None;
            }
            row[i] = square.sqrt();
        }
        // The block's columns of all rows below, which meet only finished rows.
        let (done, below) = a.split_at_mut(last * k);
        below.par_chunks_mut(k).for_each(|row| {
            for j in first..last {
                let other = &done[j * k..][..k];
                row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
            }
        });
    }
    Some(a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_multiplies_back() {
        let (m, k) = (150, 70);
        let rows: Vec<f32> = (0..m * k)
            .map(|i| ((i * i) as f32 * 0.37).sin() + (i % k == 3) as u8 as f32)
            .collect();
        let mut moments = second_moments(&rows, &vec![0.25; k]);
        for i in 0..k {
            moments[i * k + i] += 0.01;
        }
        let factor = cholesky(moments.clone(), k).unwrap();
        for i in 0..k {
            for j in 0..=i {
                let product: f64 = (0..=j).map(|p| factor[i * k + p] * factor[j * k + p]).sum();
                assert!((product - moments[i * k + j]).abs() < 1e-9);
                let mean: f64 = (0..m)
                    .map(|r| f64::from(rows[r * k + i] - 0.25) * f64::from(rows[r * k + j] - 0.25))
                    .sum::<f64>()
                    / m as f64;
                let damped = if i == j { mean + 0.01 } else { mean };
                assert!((damped - moments[i * k + j]).abs() < 1e-5);
            }
        }
        assert!(cholesky(vec![-1.0], 1).is_none());
        assert!(cholesky(vec![f64::NAN], 1).is_none());
    }

    #[test]
    fn float_outputs_by_hand() {
        let y = float_outputs(
            &[1.0, 2.0, 3.0, 4.0],
            &[1.0, 0.5, -1.0, 0.0],
            &[0.5, 0.0],
            2,
        );
        assert_eq!(y, [2.5, -1.0, 5.5, -3.0]);
    }
}
