//! What a layer reads and where it writes.

use noisyquant_kernels::output as kernels;
use noisyquant_kernels::view::{Elem, MatMut, MatRef};

use super::codes::Codes;
use crate::check;
use crate::error::Error;

/// What a layer reads.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Numbers, `[rows, in_features]`, which it quantizes.
    Rows(MatRef<'a>),
    /// Codes that were made for it.
    Codes(&'a Codes<'a>),
}

/// Where the outputs of a layer go.
#[derive(Debug)]
pub enum Output<'a, 'c> {
    /// They are written, `[rows, out_features]`, rounded to the element type.
    Rows(MatMut<'a>),
    /// They are added to the f32 that are there, `[rows, out_features]`: a residual connection. Where one of
    /// the two is not finite, so is the sum; its bits are then those of the CPU.
    Added(MatMut<'a>),
    /// They are quantized for the layer that reads them next.
    Codes(&'a mut Codes<'c>),
}

impl<'a> From<MatRef<'a>> for Input<'a> {
    fn from(x: MatRef<'a>) -> Self {
        Input::Rows(x)
    }
}

impl<'a> From<&'a Codes<'a>> for Input<'a> {
    fn from(codes: &'a Codes<'a>) -> Self {
        Input::Codes(codes)
    }
}

impl<'a> From<MatMut<'a>> for Output<'a, '_> {
    fn from(y: MatMut<'a>) -> Self {
        Output::Rows(y)
    }
}

impl<'a, 'c> From<&'a mut Codes<'c>> for Output<'a, 'c> {
    fn from(codes: &'a mut Codes<'c>) -> Self {
        Output::Codes(codes)
    }
}

impl<'a> Output<'a, '_> {
    /// As the kernels take it, for `rows` rows of `n` outputs.
    pub(crate) fn of(self, rows: usize, n: usize) -> Result<kernels::Output<'a>, Error> {
        let y = match self {
            Output::Rows(y) => y.into(),
            Output::Added(y) if y.elem() == Elem::F32 => kernels::Output::add(y),
            Output::Added(y) => return Err(Error::Residual { got: y.elem() }),
            Output::Codes(codes) => codes.output(rows)?,
        };
        check::shape("output", (rows, n), (y.rows(), y.cols()))?;
        Ok(y)
    }
}
