//! What the register tiles of the VNNI and AVX2 rows share.

use crate::leaf::MicroArgs;

/// A register tile: computes rows `row..row + R` for its number of rows `R` and gives them to its sink.
/// It does not touch [`MicroArgs::c`], which is the sink's affair.
pub(super) type TileFn<K> = unsafe fn(&MicroArgs, usize, &K);

/// Covers all rows with the tallest tiles and a shorter last one; `tiles[r - 1]` has `r` rows.
///
/// # Safety
///
/// The CPU has what the tiles need; `args` keeps their promises, but for `c`; `sink` takes all rows.
pub(super) unsafe fn for_each_tile<K>(args: &MicroArgs, tiles: &[TileFn<K>], sink: &K) {
    let mut row = 0;
    while row < args.m {
        let rows = tiles.len().min(args.m - row);
        // SAFETY: the caller promises what tile and sink need, and `row + rows ≤ m`.
        unsafe { tiles[rows - 1](args, row, sink) };
        row += rows;
    }
}
