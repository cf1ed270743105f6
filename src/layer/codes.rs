//! Codes on their way from one layer to the next.

use alloc::sync::Arc;
use core::ops::Range;
use core::ptr;

use noisyquant_kernels::codes::CodesMut;
use noisyquant_kernels::layout::{K_ALIGN, codes_stride, padded_k};
use noisyquant_kernels::output::{Coding, Output};
use noisyquant_kernels::view::MatRef;

use crate::check;
use crate::error::Error;
use crate::run::memory::Scratch;
use crate::run::pass::{CodeRows, Pass};

/// Rows of inputs of one layer, its *reader*, as the codes that it would make of them (docs/math.md, eq.
/// 39c). Another layer writes them, a byte a number where f32 take four, and the reader need not quantize
/// ([`QuantLinear::forward_with`](crate::QuantLinear::forward_with)). The outputs have the same bits as with
/// numbers in between. [`QuantLinear::codes`](crate::QuantLinear::codes) makes room for them.
///
/// ```
/// use noisyquant::{Activation, Executor, MatMut, MatRef, QuantLinear, Scratch};
/// # use noisyquant::Numbers;
/// # let layer = |n: usize, k: usize| QuantLinear::from_numbers(
/// #     Numbers::new((0..n * k).map(|i| (i % 7) as i8 - 3).collect(), vec![0.1; n], 0.1, 128.0), None);
/// # let (fc1, fc2) = (layer(8, 2)?, layer(3, 8)?);
///
/// let x = [0.3f32, -0.7, 1.1, 0.2]; // two rows
/// let mut y = [0f32; 2 * 3];
/// let mut hidden = fc2.codes(2)?;
/// let bytes = fc1.scratch_bytes(2, 1).max(fc2.scratch_bytes(2, 1));
/// let (scratch, here) = (&mut Scratch::with_bytes(bytes), Executor::serial());
///
/// let (input, output) = (MatRef::new(&x, 2, 2, 2)?, MatMut::new(&mut y, 2, 3, 3)?);
/// fc1.forward_with(input.into(), Activation::Gelu, (&mut hidden).into(), scratch, here)?;
/// fc2.forward_with((&hidden).into(), Activation::Identity, output.into(), scratch, here)?;
///
/// // Which are the bits of one after the other.
/// let mut apart = fc1.forward(&x)?;
/// apart.iter_mut().for_each(|y| *y = Activation::Gelu.of(*y));
/// assert_eq!(fc2.forward(&apart)?, y);
/// # Ok::<(), noisyquant::Error>(())
/// ```
#[derive(Debug)]
pub struct Codes<'a> {
    reader: Arc<Pass>,
    memory: Scratch<'a>,
    most: usize,
    rows: usize,
}

impl<'a> Codes<'a> {
    /// Bytes of room for `max_rows` rows. Where numbers are quantized twice, there is a row more, for the
    /// coarse codes of one.
    pub(crate) fn bytes(reader: &Pass, max_rows: usize) -> usize {
        let rows = max_rows.saturating_add(reader.planes.in_scratch() - 1);
        rows.saturating_mul(codes_stride(reader.k))
    }

    /// Room in `memory` for the codes of up to `max_rows` rows.
    pub(crate) fn new(
        reader: &Arc<Pass>,
        max_rows: usize,
        mut memory: Scratch<'a>,
    ) -> Result<Self, Error> {
        let (k, offset) = (reader.k, coding(reader)?.form.offset);
        let bytes = Codes::bytes(reader, max_rows);
        let bytes = memory.first_of("memory of codes", bytes, max_rows)?;
        // What is between the rows and after their codes is never written again.
        if k < padded_k(k) {
            bytes.fill(0u8.wrapping_sub(offset));
        }
        Ok(Codes {
            reader: Arc::clone(reader),
            memory,
            most: max_rows,
            rows: 0,
        })
    }

    /// Rows that are there.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Codes of a row.
    pub fn cols(&self) -> usize {
        self.reader.k
    }

    /// Makes them of `x`, as the reader does of its input.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if `x` has other columns or more rows than there is room for.
    pub fn quantize(&mut self, x: MatRef<'_>) -> Result<(), Error> {
        check::shape("input", (x.rows(), self.cols()), (x.rows(), x.cols()))?;
        let (reader, rows) = (&*self.reader, x.rows());
        check::at_most("rows of codes", rows, self.most)?;
        let (stride, needed) = (codes_stride(reader.k), Codes::bytes(reader, rows));
        let bytes = self.memory.first_of("codes", needed, rows)?;
        if reader.planes.in_scratch() == 1 {
            reader.quantize(x, 0, rows, bytes);
        } else {
            // The coarse codes of a row stand in the next one until they are merged. The last are erased.
            for row in 0..rows {
                let x = x.rows_range(row, row + 1);
                reader.quantize(x, 0, 1, &mut bytes[row * stride..]);
            }
            bytes[rows * stride..].fill(0u8.wrapping_sub(coding(reader)?.form.offset));
        }
        self.rows = rows;
        Ok(())
    }

    /// Room for the codes of `rows` rows, to be made of numbers in parts, maybe each on a thread of its own.
    /// Codes that no part makes are any, and so are outputs that come of them.
    ///
    /// # Errors
    ///
    /// [`Error::Dimension`] if there are more rows than there is room for.
    pub fn parts(&mut self, rows: usize) -> Result<CodesPart<'_>, Error> {
        check::at_most("rows of codes", rows, self.most)?;
        let (reader, stride) = (&*self.reader, codes_stride(self.reader.k));
        let bytes = self.memory.first_of("codes", rows * stride, rows)?;
        self.rows = rows;
        Ok(CodesPart {
            reader,
            columns: 0..reader.k,
            codes: CodesMut::new(bytes, rows, lines(reader.k), stride),
        })
    }

    /// Rows `from..to`, to be read.
    ///
    /// # Panics
    ///
    /// If the range is not within `0..rows`.
    pub fn rows_range(&self, from: usize, to: usize) -> CodesRef<'_> {
        assert!(from <= to && to <= self.rows, "rows out of range");
        let stride = codes_stride(self.reader.k);
        CodesRef {
            reader: &self.reader,
            rows: CodeRows {
                bytes: &self.memory.as_slice()[from * stride..to * stride],
                stride,
            },
        }
    }

    /// Where another layer writes `rows` rows of them. Until they are [made](Self::made), there are none.
    pub(crate) fn output(&mut self, rows: usize) -> Result<Output<'_>, Error> {
        self.rows = 0;
        let stride = codes_stride(self.reader.k);
        check::at_most("rows of codes", rows, self.most)?;
        let bytes = self.memory.first_of("codes", rows * stride, rows)?;
        Ok(Output::codes(bytes, rows, stride, coding(&self.reader)?)?)
    }

    /// That many rows have been written.
    pub(crate) fn made(&mut self, rows: usize) {
        self.rows = rows;
    }
}

/// Some rows of [`Codes`], to be read.
#[derive(Clone, Copy, Debug)]
pub struct CodesRef<'a> {
    reader: &'a Arc<Pass>,
    rows: CodeRows<'a>,
}

impl<'a> CodesRef<'a> {
    /// Them, for the layer of that pass.
    pub(crate) fn read_by(self, pass: &Arc<Pass>) -> Result<CodeRows<'a>, Error> {
        if !ptr::eq(&**self.reader, &**pass) {
            return Err(Error::Codes {
                expected: "codes that were made for this layer",
                got: "codes for another one",
            });
        }
        Ok(self.rows)
    }
}

/// Some columns of some rows of [`Codes`] that are being made ([`Codes::parts`]). It is split between threads
/// as a [`MatMut`](crate::MatMut) is, but columns only at multiples of [`LINE`](Self::LINE): what makes codes
/// writes whole cache lines.
///
/// ```
/// use noisyquant::{CodesPart, MatRef};
/// # use noisyquant::{Activation, Executor, MatMut, Numbers, QuantLinear, Scratch};
/// # let layer = QuantLinear::from_numbers(Numbers::new(vec![1; 2 * 128], vec![0.5; 2], 0.1, 128.0), None)?;
///
/// # let (left, right) = ([0.3f32; 3 * 64], [-0.5f32; 3 * 64]);
/// // Three rows of 128 inputs, whose halves come from two places.
/// let mut codes = layer.codes(3)?;
/// let (mut a, mut b) = codes.parts(3)?.split_cols(CodesPart::LINE);
/// std::thread::scope(|scope| {
///     scope.spawn(|| a.quantize(MatRef::new(&left, 3, 64, 64)?));
///     b.quantize(MatRef::new(&right, 3, 64, 64)?)
/// })?;
///
/// # let mut y = [0f32; 3 * 2];
/// # let output = MatMut::new(&mut y, 3, 2, 2)?;
/// # let (scratch, none) = (&mut Scratch::with_bytes(layer.scratch_bytes(3, 1)), Activation::Identity);
/// layer.forward_with((&codes).into(), none, output.into(), scratch, Executor::serial())?;
/// # let rows: Vec<f32> = (0..3).flat_map(|_| [&left[..64], &right[..64]].concat()).collect();
/// # assert_eq!(layer.forward(&rows)?, y);
/// # Ok::<(), noisyquant::Error>(())
/// ```
#[derive(Debug)]
pub struct CodesPart<'a> {
    reader: &'a Pass,
    /// Which of the reader's inputs these are.
    columns: Range<usize>,
    codes: CodesMut<'a>,
}

impl<'a> CodesPart<'a> {
    /// Parts begin and end at columns that are a multiple of this, or end at the last.
    pub const LINE: usize = K_ALIGN;

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.codes.rows()
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.columns.len()
    }

    /// The block of rows `row..row + rows` and columns `col..col + cols`, borrowed from this part.
    ///
    /// # Panics
    ///
    /// If the block is not within the part, or begins or ends within a [`LINE`](Self::LINE).
    pub fn block(&mut self, row: usize, rows: usize, col: usize, cols: usize) -> CodesPart<'_> {
        let (from, to) = (self.line(col), self.line(col.saturating_add(cols)));
        let first = self.columns.start + col;
        CodesPart {
            reader: self.reader,
            columns: first..first + cols,
            codes: self.codes.block(row, rows, from, to - from),
        }
    }

    /// The rows before `row` and the rows from it on.
    ///
    /// # Panics
    ///
    /// If `row` is more than the number of rows.
    pub fn split_rows(self, row: usize) -> (CodesPart<'a>, CodesPart<'a>) {
        let (above, below) = self.codes.split_rows(row);
        let part = |codes| CodesPart {
            reader: self.reader,
            columns: self.columns.clone(),
            codes,
        };
        (part(above), part(below))
    }

    /// The columns before `col` and the columns from it on.
    ///
    /// # Panics
    ///
    /// If `col` is more than the number of columns, or within a [`LINE`](Self::LINE).
    pub fn split_cols(self, col: usize) -> (CodesPart<'a>, CodesPart<'a>) {
        let line = self.line(col);
        let Range { start, end } = self.columns;
        let (left, right) = self.codes.split_lines(line);
        let part = |columns, codes| CodesPart {
            reader: self.reader,
            columns,
            codes,
        };
        (
            part(start..start + col, left),
            part(start + col..end, right),
        )
    }

    /// Makes the codes of `x`, as the reader does of these columns of its input.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if `x` has other rows or columns than the part.
    pub fn quantize(&mut self, x: MatRef<'_>) -> Result<(), Error> {
        let (rows, columns) = (self.rows(), self.cols());
        check::shape("part of an input", (rows, columns), (x.rows(), x.cols()))?;
        let codes = self.codes.block(0, rows, 0, lines(columns));
        self.reader.quantize_into(x, self.columns.start, codes);
        Ok(())
    }

    /// The line that begins at column `col`, or past the last one.
    fn line(&self, col: usize) -> usize {
        let cols = self.cols();
        assert!(col <= cols, "columns out of range");
        let whole = col.is_multiple_of(Self::LINE) || col == cols;
        assert!(whole, "columns within a line of codes");
        lines(col)
    }
}

/// Lines of so many codes.
fn lines(codes: usize) -> usize {
    codes.div_ceil(K_ALIGN)
}

/// What makes the codes of the layer of `pass`.
fn coding(pass: &Pass) -> Result<Coding<'_>, Error> {
    pass.coding().ok_or(Error::Codes {
        expected: "a reader whose codes fit a byte",
        got: "one with a twin quantizer whose codes do not",
    })
}
