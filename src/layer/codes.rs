//! Codes on their way from one layer to the next.

use alloc::sync::Arc;
use core::ptr;

use noisyquant_kernels::layout::{codes_stride, padded_k};
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

    /// Them, for the layer of that pass.
    pub(crate) fn read_by(&self, pass: &Arc<Pass>) -> Result<CodeRows<'_>, Error> {
        if !ptr::eq(&*self.reader, &**pass) {
            return Err(Error::Codes {
                expected: "codes that were made for this layer",
                got: "codes for another one",
            });
        }
        let stride = codes_stride(pass.k);
        let bytes = &self.memory.as_slice()[..self.rows * stride];
        Ok(CodeRows { bytes, stride })
    }
}

/// What makes the codes of the layer of `pass`.
fn coding(pass: &Pass) -> Result<Coding<'_>, Error> {
    pass.coding().ok_or(Error::Codes {
        expected: "a reader whose codes fit a byte",
        got: "one with a twin quantizer whose codes do not",
    })
}
