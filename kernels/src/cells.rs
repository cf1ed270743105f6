//! Rows of cells in memory that is borrowed for writing, and what can be cut out of them.
//!
//! What a cell is, a number or a code, is for the [views](crate::view) and [outputs](crate::output) to say.

use core::{error, fmt, marker::PhantomData};

/// Why memory is no view of a matrix: the elements do not hold the rows, or the rows overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ViewError {
    /// Rows asked for.
    pub rows: usize,
    /// Columns asked for.
    pub cols: usize,
    /// Elements from one row to the next that were asked for.
    pub stride: usize,
    /// Elements given.
    pub len: usize,
}

impl fmt::Display for ViewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ViewError {
            rows,
            cols,
            stride,
            len,
        } = *self;
        if rows > 1 && stride < cols {
            return write!(
                f,
                "expected a stride of at least {cols} columns, got {stride}"
            );
        }
        write!(f, "expected ")?;
        match span(rows, cols, stride) {
            Some(needed) => write!(f, "{needed} elements")?,
            None => write!(f, "more elements than memory has")?,
        }
        write!(
            f,
            " for {rows} rows of {cols} that begin {stride} apart, got {len}"
        )
    }
}

impl error::Error for ViewError {}

/// Elements that a `rows × cols` view of a row stride spans; `None` if that overflows or if rows
/// overlap (`stride < cols`).
const fn span(rows: usize, cols: usize, stride: usize) -> Option<usize> {
    if rows == 0 || cols == 0 {
        return Some(0);
    }
    if rows > 1 && stride < cols {
        return None;
    }
    match (rows - 1).checked_mul(stride) {
        Some(start) => start.checked_add(cols),
        None => None,
    }
}

/// Checks that `len` elements hold the view, and returns its stride.
pub(crate) fn checked(
    rows: usize,
    cols: usize,
    stride: usize,
    len: usize,
) -> Result<usize, ViewError> {
    match span(rows, cols, stride) {
        // A stride has no meaning without two rows of elements, and must not overflow.
        Some(needed) if needed <= len => Ok(if rows > 1 && cols > 0 { stride } else { cols }),
        _ => Err(ViewError {
            rows,
            cols,
            stride,
            len,
        }),
    }
}

/// Where the element of that number is, of elements of so many bytes. A part of a view that has no elements
/// may be past the end, and of a view without elements, at any number; hence a product and pointers that
/// wrap.
pub(crate) const fn offset(elements: usize, size: usize) -> usize {
    elements.wrapping_mul(size)
}

/// `rows × cols` cells of `size` bytes, row-major with a row stride in cells.
#[derive(Debug)]
pub(crate) struct Cells<'a> {
    ptr: *mut u8,
    size: usize,
    rows: usize,
    cols: usize,
    stride: usize,
    data: PhantomData<&'a mut [u8]>,
}

// SAFETY: `Cells` are a unique borrow of plain numbers.
unsafe impl Send for Cells<'_> {}

impl<'a> Cells<'a> {
    /// `data` as `rows` rows of `cols` cells that begin `stride` apart.
    pub(crate) fn new<T: Copy + Send>(
        data: &'a mut [T],
        rows: usize,
        cols: usize,
        stride: usize,
    ) -> Result<Self, ViewError> {
        Ok(Cells {
            stride: checked(rows, cols, stride, data.len())?,
            ptr: data.as_mut_ptr().cast(),
            size: size_of::<T>(),
            rows,
            cols,
            data: PhantomData,
        })
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    /// See [`MatMut::block`](crate::view::MatMut::block).
    pub(crate) fn block(&mut self, row: usize, rows: usize, col: usize, cols: usize) -> Cells<'_> {
        assert!(
            row <= self.rows && rows <= self.rows - row,
            "rows out of range"
        );
        assert!(
            col <= self.cols && cols <= self.cols - col,
            "columns out of range"
        );
        Cells {
            ptr: self.at(row * self.stride + col),
            rows,
            cols,
            ..*self
        }
    }

    /// See [`MatMut::split_rows`](crate::view::MatMut::split_rows).
    pub(crate) fn split_rows(self, row: usize) -> (Cells<'a>, Cells<'a>) {
        assert!(row <= self.rows, "rows out of range");
        let below = Cells {
            ptr: self.at(row * self.stride),
            rows: self.rows - row,
            ..self
        };
        (Cells { rows: row, ..self }, below)
    }

    /// See [`MatMut::split_cols`](crate::view::MatMut::split_cols).
    pub(crate) fn split_cols(self, col: usize) -> (Cells<'a>, Cells<'a>) {
        assert!(col <= self.cols, "columns out of range");
        let right = Cells {
            ptr: self.at(col),
            cols: self.cols - col,
            ..self
        };
        (Cells { cols: col, ..self }, right)
    }

    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.ptr
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.ptr
    }

    fn at(&self, cell: usize) -> *mut u8 {
        self.ptr.wrapping_add(offset(cell, self.size))
    }
}
