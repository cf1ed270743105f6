//! Strided, row-major matrix views over f32, f16 and bf16, the input and output of a layer.
//!
//! The element type is a value here and not a type parameter: kernels are chosen by it at run time.

use core::{marker::PhantomData, slice};

use half::{bf16, f16};

use crate::cells::{Cells, checked, offset};

pub use crate::cells::ViewError;

/// Element type of a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Elem {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// bfloat16: the upper half of an f32.
    Bf16,
}

impl Elem {
    /// All element types.
    pub const ALL: [Elem; 3] = [Elem::F32, Elem::F16, Elem::Bf16];

    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            Elem::F32 => 4,
            Elem::F16 | Elem::Bf16 => 2,
        }
    }

    /// The name used in kernel names.
    pub const fn name(self) -> &'static str {
        match self {
            Elem::F32 => "f32",
            Elem::F16 => "f16",
            Elem::Bf16 => "bf16",
        }
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
}

/// A type that a layer can read and write: `f32`, `half::f16` or `half::bf16`.
pub trait Element: sealed::Sealed + Copy + Default + Send + Sync + 'static {
    /// The type as a value.
    const ELEM: Elem;

    /// Converts exactly.
    fn to_f32(self) -> f32;

    /// Rounds to nearest, ties to even.
    fn from_f32(value: f32) -> Self;
}

impl Element for f32 {
    const ELEM: Elem = Elem::F32;
    fn to_f32(self) -> f32 {
        self
    }
    fn from_f32(value: f32) -> f32 {
        value
    }
}

impl Element for f16 {
    const ELEM: Elem = Elem::F16;
    fn to_f32(self) -> f32 {
        f16::to_f32(self)
    }
    fn from_f32(value: f32) -> f16 {
        f16::from_f32(value)
    }
}

impl Element for bf16 {
    const ELEM: Elem = Elem::Bf16;
    fn to_f32(self) -> f32 {
        bf16::to_f32(self)
    }
    fn from_f32(value: f32) -> bf16 {
        bf16::from_f32(value)
    }
}

/// An immutable matrix view, `rows × cols`, row-major with a row stride in elements.
#[derive(Clone, Copy, Debug)]
pub struct MatRef<'a> {
    ptr: *const u8,
    elem: Elem,
    rows: usize,
    cols: usize,
    stride: usize,
    data: PhantomData<&'a [u8]>,
}

// SAFETY: a `MatRef` is a shared borrow of plain numbers.
unsafe impl Send for MatRef<'_> {}
// SAFETY: as above.
unsafe impl Sync for MatRef<'_> {}

impl<'a> MatRef<'a> {
    /// A view of `data` as `rows` rows of `cols` elements that begin `stride` elements apart.
    ///
    /// # Errors
    ///
    /// [`ViewError`] if `data` does not hold `(rows − 1) · stride + cols` elements, or if there are two
    /// rows or more and `stride` is less than `cols`. A view without rows or columns needs no elements.
    pub fn new<T: Element>(
        data: &'a [T],
        rows: usize,
        cols: usize,
        stride: usize,
    ) -> Result<Self, ViewError> {
        Ok(MatRef {
            ptr: data.as_ptr().cast(),
            elem: T::ELEM,
            rows,
            cols,
            stride: checked(rows, cols, stride, data.len())?,
            data: PhantomData,
        })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Elements from one row to the next; the number of columns where there are no two rows of elements.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Element type.
    pub fn elem(&self) -> Elem {
        self.elem
    }

    /// Rows `from..to`.
    ///
    /// # Panics
    ///
    /// If the range is not within `0..rows`.
    pub fn rows_range(&self, from: usize, to: usize) -> MatRef<'a> {
        assert!(from <= to && to <= self.rows, "rows out of range");
        MatRef {
            ptr: self
                .ptr
                .wrapping_add(offset(from * self.stride, self.elem.size())),
            rows: to - from,
            ..*self
        }
    }

    /// Columns `from..to`.
    ///
    /// # Panics
    ///
    /// If the range is not within `0..cols`.
    pub fn cols_range(&self, from: usize, to: usize) -> MatRef<'a> {
        assert!(from <= to && to <= self.cols, "columns out of range");
        MatRef {
            ptr: self.ptr.wrapping_add(offset(from, self.elem.size())),
            cols: to - from,
            ..*self
        }
    }

    /// The elements of row `row`.
    ///
    /// # Panics
    ///
    /// If there is no such row or the elements are of another type.
    pub fn row<T: Element>(&self, row: usize) -> &'a [T] {
        assert!(row < self.rows, "row out of range");
        assert_eq!(self.elem, T::ELEM, "element type");
        if self.cols == 0 {
            return &[]; // a view without columns may be of less memory than its strides span
        }
        // SAFETY: `new`, or that of a `MatMut`, was given a borrow for `'a` of elements of this type that
        // hold every row; a row has no elements of another view.
        unsafe { slice::from_raw_parts(self.ptr.cast::<T>().add(row * self.stride), self.cols) }
    }

    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.ptr
    }
}

/// A mutable matrix view, `rows × cols`, row-major with a row stride in elements.
#[derive(Debug)]
pub struct MatMut<'a> {
    cells: Cells<'a>,
    elem: Elem,
}

impl<'a> MatMut<'a> {
    /// A view of `data` as `rows` rows of `cols` elements that begin `stride` elements apart.
    ///
    /// # Errors
    ///
    /// As [`MatRef::new`].
    pub fn new<T: Element>(
        data: &'a mut [T],
        rows: usize,
        cols: usize,
        stride: usize,
    ) -> Result<Self, ViewError> {
        Ok(MatMut {
            cells: Cells::new(data, rows, cols, stride)?,
            elem: T::ELEM,
        })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.cells.rows()
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cells.cols()
    }

    /// Elements from one row to the next; the number of columns where there are no two rows of elements.
    pub fn stride(&self) -> usize {
        self.cells.stride()
    }

    /// Element type.
    pub fn elem(&self) -> Elem {
        self.elem
    }

    /// The same elements to read.
    pub fn as_ref(&self) -> MatRef<'_> {
        MatRef {
            ptr: self.cells.as_ptr(),
            elem: self.elem,
            rows: self.rows(),
            cols: self.cols(),
            stride: self.stride(),
            data: PhantomData,
        }
    }

    /// The block of rows `row..row + rows` and columns `col..col + cols`, borrowed from this view.
    ///
    /// # Panics
    ///
    /// If the block is not within the view.
    pub fn block(&mut self, row: usize, rows: usize, col: usize, cols: usize) -> MatMut<'_> {
        MatMut {
            cells: self.cells.block(row, rows, col, cols),
            elem: self.elem,
        }
    }

    /// The rows before `row` and the rows from it on.
    ///
    /// # Panics
    ///
    /// If `row` is more than the number of rows.
    pub fn split_rows(self, row: usize) -> (MatMut<'a>, MatMut<'a>) {
        let elem = self.elem;
        let (above, below) = self.cells.split_rows(row);
        (MatMut { cells: above, elem }, MatMut { cells: below, elem })
    }

    /// The columns before `col` and the columns from it on. The halves interleave in memory and
    /// share no element.
    ///
    /// # Panics
    ///
    /// If `col` is more than the number of columns.
    pub fn split_cols(self, col: usize) -> (MatMut<'a>, MatMut<'a>) {
        let elem = self.elem;
        let (left, right) = self.cells.split_cols(col);
        (MatMut { cells: left, elem }, MatMut { cells: right, elem })
    }

    pub(crate) fn into_cells(self) -> Cells<'a> {
        self.cells
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_check_their_bounds() {
        let data = [0f32; 10];
        assert!(MatRef::new(&data, 2, 5, 5).is_ok());
        assert!(MatRef::new(&data, 2, 4, 6).is_ok());
        assert!(MatRef::new(&data, 2, 5, 6).is_err());
        assert!(MatRef::new(&data, 2, 5, 4).is_err(), "rows overlap");
        assert!(MatRef::new(&data, usize::MAX, 2, usize::MAX).is_err());
        assert!(MatRef::new::<f32>(&[], 0, 7, 0).is_ok());
        assert!(MatRef::new(&data, 1, 11, 11).is_err());
    }

    #[test]
    fn errors_say_what_was_expected_and_given() {
        let said = |rows, cols, stride| {
            let error = MatRef::new(&[0f32; 10], rows, cols, stride).unwrap_err();
            assert_eq!((error.rows, error.cols, error.len), (rows, cols, 10));
            error.to_string()
        };
        let short = "expected 11 elements for 2 rows of 5 that begin 6 apart, got 10";
        assert_eq!(said(2, 5, 6), short);
        let overlap = "expected a stride of at least 5 columns, got 4";
        assert_eq!(said(2, 5, 4), overlap);
        assert!(said(usize::MAX, 2, usize::MAX).starts_with("expected more elements than memory"));
    }

    #[test]
    fn rows_are_what_was_given() {
        let data: Vec<f32> = (0..11).map(|i| i as f32).collect();
        let view = MatRef::new(&data, 3, 3, 4).unwrap();
        assert_eq!(view.row::<f32>(2), [8.0, 9.0, 10.0]);
        assert_eq!(view.rows_range(1, 3).row::<f32>(0), [4.0, 5.0, 6.0]);
        assert_eq!(view.cols_range(1, 3).row::<f32>(2), [9.0, 10.0]);
        assert!(view.cols_range(3, 3).row::<f32>(2).is_empty());
        let empty = MatRef::new::<f32>(&[], 9, 0, 5).unwrap();
        assert!(empty.row::<f32>(8).is_empty());
        let refused = |read: fn(MatRef<'_>)| std::panic::catch_unwind(|| read(view)).is_err();
        assert!(refused(|view| _ = view.row::<f32>(3)));
        assert!(refused(|view| _ = view.cols_range(2, 4)));
        assert!(refused(|view| _ = view.cols_range(2, 1)));
        assert!(refused(|view| _ = view.row::<bf16>(0)));
    }

    #[test]
    fn the_stride_of_one_row_does_not_matter() {
        let mut data = [0f32; 4];
        let view = MatRef::new(&data, 1, 4, usize::MAX).unwrap();
        assert_eq!((view.rows_range(1, 1).rows(), view.stride()), (0, 4));
        let mut view = MatMut::new(&mut data, 1, 4, usize::MAX).unwrap();
        assert_eq!(view.block(1, 0, 4, 0).rows(), 0);
        assert_eq!(view.split_rows(1).1.rows(), 0);
    }

    #[test]
    fn views_without_elements_may_have_any_shape_and_stride() {
        const MANY: usize = usize::MAX;
        for (rows, cols, stride) in [(MANY, 0, MANY), (MANY, 0, 5), (0, MANY, MANY), (0, MANY, 1)] {
            let view = MatRef::new::<f32>(&[], rows, cols, stride).unwrap();
            assert_eq!((view.rows(), view.cols()), (rows, cols));
            assert_eq!(view.rows_range(rows, rows).rows(), 0);
            assert_eq!(view.rows_range(rows / 2, rows).rows(), rows - rows / 2);
            assert!(rows == 0 || view.row::<f32>(rows - 1).is_empty());
            let whole = || MatMut::new::<f32>(&mut [], rows, cols, stride).unwrap();
            let mut view = whole();
            assert_eq!(view.block(rows, 0, cols, 0).rows(), 0);
            assert_eq!(view.block(rows / 2, 0, cols / 2, 0).cols(), 0);
            assert_eq!(whole().split_rows(rows).1.rows(), 0);
            assert_eq!(whole().split_cols(cols).1.cols(), 0);
            let (left, right) = whole().split_cols(cols / 2);
            assert_eq!(left.cols() + right.cols(), cols);
        }
        // Of a view with elements, too, a block without any may be anywhere.
        let mut data = [0f32; 12];
        let mut view = MatMut::new(&mut data, 3, 4, 4).unwrap();
        assert_eq!(view.block(3, 0, 4, 0).cols(), 0);
    }

    #[test]
    fn split_columns_share_no_element() {
        let mut data = [0f32; 12];
        let view = MatMut::new(&mut data, 3, 4, 4).unwrap();
        let (left, right) = view.split_cols(1);
        assert_eq!((left.cols(), right.cols()), (1, 3));
        assert_eq!((left.stride(), right.stride()), (4, 4));
        let (above, below) = right.split_rows(2);
        assert_eq!((above.rows(), below.rows()), (2, 1));
    }
}
