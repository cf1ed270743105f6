//! What a layer reads and where it writes.

use alloc::sync::Arc;

use noisyquant_kernels::output as kernels;
use noisyquant_kernels::view::{MatMut, MatRef};

use super::codes::{Codes, CodesRef};
use super::norm::Norm;
use crate::check;
use crate::error::Error;
use crate::run::block::Operand;
use crate::run::pass::Pass;

/// What a layer reads.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Numbers, `[rows, in_features]`, which it quantizes.
    Rows(MatRef<'a>),
    /// Rows of f32, of which it quantizes the norm. That is the same bits as the norm by itself and then
    /// the layer, and no normalised rows are written.
    Normed {
        /// `[rows, in_features]`.
        x: MatRef<'a>,
        /// Of as many features.
        norm: &'a Norm,
    },
    /// Codes that were made for it.
    Codes(CodesRef<'a>),
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

impl<'a> Input<'a> {
    /// As the kernels of `pass` take it.
    pub(crate) fn of(self, pass: &Arc<Pass>) -> Result<Operand<'a>, Error> {
        let check_shape =
            |x: MatRef<'_>| check::shape("input", (x.rows(), pass.k), (x.rows(), x.cols()));
        match self {
            Input::Rows(x) => check_shape(x).map(|()| Operand::Rows(x)),
            Input::Normed { x, norm } => {
                check_shape(x)?;
                norm.check(x)?;
                Ok(Operand::Normed(x, norm.numbers()))
            }
            Input::Codes(codes) => codes.read_by(pass).map(Operand::Codes),
        }
    }
}

impl<'a> From<MatRef<'a>> for Input<'a> {
    fn from(x: MatRef<'a>) -> Self {
        Input::Rows(x)
    }
}

impl<'a> From<&'a Codes<'_>> for Input<'a> {
    fn from(codes: &'a Codes<'_>) -> Self {
        Input::Codes(codes.rows_range(0, codes.rows()))
    }
}

impl<'a> From<CodesRef<'a>> for Input<'a> {
    fn from(codes: CodesRef<'a>) -> Self {
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
            Output::Added(y) => {
                check::f32("residual", y.elem())?;
                Ok(kernels::Output::add(y.block(0, rows, 0, n)))
            }
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
