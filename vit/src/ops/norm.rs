//! Norms of rows, alone or with an addition on the way into it.

use noisyquant::{MatMut, MatRef, Norm};

use super::{add::add_row, vectorise::vectorised};

/// Norm of each row of `x` into `y`, which is as long.
pub(crate) fn normalise(norm: &Norm, x: &[f32], y: &mut [f32]) {
    let width = norm.width();
    let (rows, fits) = (x.len() / width, "whole rows of numbers");
    let x = MatRef::new(x, rows, width, width).expect(fits);
    let y = MatMut::new(y, rows, width, width).expect(fits);
    norm.forward(x, y).expect(fits);
}

/// `x += update`, if there is one, then [`normalise`], while the row is still in the nearest cache.
pub(crate) fn add_normalise(norm: &Norm, x: &mut [f32], update: Option<&[f32]>, y: &mut [f32]) {
    let Some(update) = update else {
        return normalise(norm, x, y);
    };
    let width = norm.width();
    vectorised(
        #[inline(always)]
        || {
            let rows = x.chunks_exact_mut(width).zip(y.chunks_exact_mut(width));
            for ((x, y), update) in rows.zip(update.chunks_exact(width)) {
                add_row(x, update);
                normalise(norm, x, y);
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adding_and_normalising_at_once_is_one_after_the_other() {
        let width = 37;
        let weight: Vec<f32> = (0..width).map(|i| 1.0 + i as f32 / 10.0).collect();
        let bias: Vec<f32> = (0..width).map(|i| i as f32).collect();
        let norm = Norm::layer(&weight, &bias, 1e-6).unwrap();
        let update: Vec<f32> = (0..3 * width).map(|i| (i % 7) as f32).collect();
        let start: Vec<f32> = (0..3 * width).map(|i| (i % 11) as f32 * 0.3).collect();
        let (mut x, mut y) = (start.clone(), vec![0.0; start.len()]);
        add_normalise(&norm, &mut x, Some(&update), &mut y);
        let (mut added, mut normal) = (start.clone(), vec![0.0; start.len()]);
        add_row(&mut added, &update);
        normalise(&norm, &added, &mut normal);
        assert_eq!((&x, &y), (&added, &normal));
        for (i, x) in x.iter().enumerate() {
            assert!((x - start[i] - update[i]).abs() < 1e-5);
        }
    }
}
