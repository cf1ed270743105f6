//! Sums of rows.

use super::vectorise::vectorised;

/// `x += y`, number by number.
pub(crate) fn add(x: &mut [f32], y: &[f32]) {
    vectorised(
        #[inline(always)]
        || add_row(x, y),
    );
}

/// [`add`] for who is vectorised already.
#[inline(always)]
pub(super) fn add_row(x: &mut [f32], update: &[f32]) {
    for (x, update) in x.iter_mut().zip(update) {
        *x += update;
    }
}

/// The mean of rows as long as itself.
pub(crate) fn mean_of_rows(rows: &[f32], mean: &mut [f32]) {
    mean.fill(0.0);
    for row in rows.chunks_exact(mean.len()) {
        add(mean, row);
    }
    let count = rows.len() / mean.len();
    mean.iter_mut().for_each(|mean| *mean /= count as f32);
}
