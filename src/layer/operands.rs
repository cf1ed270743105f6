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

impl Output<'_, '_> {
    /// As the kernels take it, for `rows` rows of `n` outputs.
    pub(crate) fn of(&mut self, rows: usize, n: usize) -> Result<kernels::Output<'_>, Error> {
        let got = match self {
            Output::Rows(y) | Output::Added(y) => (y.rows(), y.cols()),
            Output::Codes(codes) => (rows, codes.cols()),
        };
        check::shape("output", (rows, n), got)?;
        match self {
            Output::Rows(y) => Ok(y.block(0, rows, 0, n).into()),
            Output::Added(y) => match y.elem() {
                Elem::F32 => Ok(kernels::Output::add(y.block(0, rows, 0, n))),
                got => Err(Error::Residual { got }),
            },
            Output::Codes(codes) => codes.output(rows),
        }
    }

    /// All rows have been written.
    pub(crate) fn made(self, rows: usize) {
        if let Output::Codes(codes) = self {
            codes.made(rows);
        }
    }
}
