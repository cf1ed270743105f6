//! Codes to be written, of rows that are divided between threads.

use core::slice;

use crate::cells::Cells;
use crate::layout::ALIGN;

/// Rows of codes that a prologue writes: whole lines of [`ALIGN`] bytes, so that a part of them is written by
/// the same aligned stores as all of them.
#[derive(Debug)]
pub struct CodesMut<'a> {
    /// A cell is a line.
    cells: Cells<'a>,
}

impl<'a> CodesMut<'a> {
    /// `bytes` as `rows` rows of so many lines that begin `stride` bytes apart.
    ///
    /// # Panics
    ///
    /// If `bytes` does not start on a line, rows do not begin on one or overlap, or there are too few bytes.
    pub fn new(bytes: &'a mut [u8], rows: usize, lines: usize, stride: usize) -> Self {
        let aligned = bytes.as_ptr().addr().is_multiple_of(ALIGN);
        assert!(aligned || rows == 0, "alignment to 64 bytes");
        let strided = stride.is_multiple_of(ALIGN) && stride / ALIGN >= lines;
        assert!(strided, "stride of codes");
        let whole = bytes.as_chunks_mut::<ALIGN>().0;
        match Cells::new(whole, rows, lines, stride / ALIGN) {
            Ok(cells) => CodesMut { cells },
            Err(_) => panic!("codes"),
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.cells.rows()
    }

    /// Lines of a row.
    pub fn lines(&self) -> usize {
        self.cells.cols()
    }

    /// Bytes from one row to the next.
    pub fn stride(&self) -> usize {
        self.cells.stride() * ALIGN
    }

    /// The block of rows `row..row + rows` and lines `line..line + lines`, borrowed from these.
    ///
    /// # Panics
    ///
    /// If the block is not within these.
    pub fn block(&mut self, row: usize, rows: usize, line: usize, lines: usize) -> CodesMut<'_> {
        CodesMut {
            cells: self.cells.block(row, rows, line, lines),
        }
    }

    /// The rows before `row` and the rows from it on.
    ///
    /// # Panics
    ///
    /// If `row` is more than the number of rows.
    pub fn split_rows(self, row: usize) -> (CodesMut<'a>, CodesMut<'a>) {
        let (above, below) = self.cells.split_rows(row);
        (CodesMut { cells: above }, CodesMut { cells: below })
    }

    /// The lines before `line` and the lines from it on.
    ///
    /// # Panics
    ///
    /// If `line` is more than the number of lines.
    pub fn split_lines(self, line: usize) -> (CodesMut<'a>, CodesMut<'a>) {
        let (left, right) = self.cells.split_cols(line);
        (CodesMut { cells: left }, CodesMut { cells: right })
    }

    /// The codes of row `row`.
    ///
    /// # Panics
    ///
    /// If there is no such row.
    pub fn row(&mut self, row: usize) -> &mut [u8] {
        let mut cells = self.cells.block(row, 1, 0, self.cells.cols());
        let bytes = cells.cols() * ALIGN;
        if bytes == 0 {
            return &mut [];
        }
        // SAFETY: `new` was given a borrow of bytes that hold every row. The lines of one stand side by side,
        // belong to no other view, and stay borrowed from this one.
        unsafe { slice::from_raw_parts_mut(cells.as_mut_ptr(), bytes) }
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.cells.as_mut_ptr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(align(64))]
    struct Lines([u8; 12 * ALIGN]);

    #[test]
    fn parts_share_no_line() {
        let mut lines = Lines([0; 12 * ALIGN]);
        // Three rows of three lines, and one line between rows.
        let codes = CodesMut::new(&mut lines.0, 3, 3, 4 * ALIGN);
        let (above, mut below) = codes.split_rows(2);
        let (mut left, mut right) = above.split_lines(1);
        assert_eq!((left.rows(), left.lines()), (2, 1));
        assert_eq!((right.rows(), right.lines()), (2, 2));
        assert_eq!((below.rows(), below.lines()), (1, 3));
        for row in 0..2 {
            left.row(row).fill(1);
            right.row(row).fill(2);
        }
        below.block(0, 1, 1, 1).row(0).fill(3);
        let starts = lines.0.as_chunks::<ALIGN>().0.iter().map(|line| line[0]);
        let starts: Vec<u8> = starts.collect();
        assert_eq!(starts, [1, 2, 2, 0, 1, 2, 2, 0, 0, 3, 0, 0]);
    }

    #[test]
    fn rows_without_lines_are_empty() {
        let mut lines = Lines([0; 12 * ALIGN]);
        let (mut none, all) = CodesMut::new(&mut lines.0, 12, 1, ALIGN).split_lines(0);
        assert!(none.row(11).is_empty());
        assert_eq!((all.rows(), all.stride()), (12, ALIGN));
    }
}
