//! Where the outputs of a block go.

use core::ops::Range;

use crate::cells::{Cells, ViewError};
use crate::spec::Activation;
use crate::view::{Elem, MatMut};

/// What becomes of an output, as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    /// It is written as an element of that type.
    Store(Elem),
    /// It is added to the f32 that is there, as in a residual connection.
    Add,
    /// It is quantized for the layer that reads it (eq. 3), and its code written.
    Code,
    /// It is quantized twice for a layer with a twin quantizer, and both codes written in one byte (eq. 24).
    TwinCode,
}

impl Destination {
    /// All destinations.
    pub const ALL: [Destination; 6] = [
        Destination::Store(Elem::F32),
        Destination::Store(Elem::F16),
        Destination::Store(Elem::Bf16),
        Destination::Add,
        Destination::Code,
        Destination::TwinCode,
    ];

    /// Bytes of what is written.
    pub const fn size(self) -> usize {
        match self {
            Destination::Store(elem) => elem.size(),
            Destination::Add => Elem::F32.size(),
            Destination::Code | Destination::TwinCode => 1,
        }
    }

    /// The name used in kernel names.
    pub const fn name(self) -> &'static str {
        match self {
            Destination::Store(elem) => elem.name(),
            Destination::Add => "add",
            Destination::Code => "u8",
            Destination::TwinCode => "twin",
        }
    }
}

/// Which codes are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeForm {
    /// The largest code, at which others saturate (eq. 3); of a twin quantizer, the largest fine one.
    pub max: u8,
    /// Subtracted from each code as it is stored, wrapping: the
    /// [`code_offset`](crate::row::MicroKernel::code_offset) of the micro-kernel that will read it.
    pub offset: u8,
}

/// What an output is quantized with: of each column a multiplier and an offset (eq. 2), and the form.
#[derive(Clone, Copy, Debug)]
pub struct Coding<'a> {
    /// Multipliers, one for each column.
    pub inv: &'a [f32],
    /// Offsets, as many.
    pub t: &'a [f32],
    /// Form of the codes.
    pub form: CodeForm,
    /// Of a twin quantizer, the coarse code; what stands above is the fine one.
    pub coarse: Option<Coarse<'a>>,
}

/// The coarse code that a twin quantizer adds to the fine one in a byte (eq. 24).
#[derive(Clone, Copy, Debug)]
pub struct Coarse<'a> {
    /// Multipliers, one for each column.
    pub inv: &'a [f32],
    /// Offsets, as many.
    pub t: &'a [f32],
    /// The largest coarse code.
    pub max: u8,
    /// By how many bits it is shifted to the left.
    pub shift: u32,
}

impl<'a> Coding<'a> {
    fn columns(self, columns: Range<usize>) -> Coding<'a> {
        let part = |values: &'a [f32]| &values[columns.clone()];
        Coding {
            inv: part(self.inv),
            t: part(self.t),
            coarse: self.coarse.map(|coarse| Coarse {
                inv: part(coarse.inv),
                t: part(coarse.t),
                ..coarse
            }),
            ..self
        }
    }
}

/// Where outputs go, `rows × cols`, and what becomes of them on the way.
#[derive(Debug)]
pub struct Output<'a> {
    cells: Cells<'a>,
    destination: Destination,
    activation: Activation,
    /// Of codes alone.
    coding: Option<Coding<'a>>,
}

impl<'a> From<MatMut<'a>> for Output<'a> {
    /// Outputs are written.
    fn from(y: MatMut<'a>) -> Self {
        let destination = Destination::Store(y.elem());
        Output::new(y.into_cells(), destination, None)
    }
}

impl<'a> Output<'a> {
    fn new(cells: Cells<'a>, destination: Destination, coding: Option<Coding<'a>>) -> Self {
        Output {
            cells,
            destination,
            activation: Activation::Identity,
            coding,
        }
    }

    /// Outputs are added to the numbers that are there.
    ///
    /// # Panics
    ///
    /// If these are not f32.
    pub fn add(y: MatMut<'a>) -> Self {
        assert_eq!(y.elem(), Elem::F32, "what outputs are added to");
        Output::new(y.into_cells(), Destination::Add, None)
    }

    /// Codes of outputs are written, a byte each: `rows` rows that begin `stride` bytes apart, of as many
    /// columns as `coding` has.
    ///
    /// # Errors
    ///
    /// As [`MatRef::new`](crate::view::MatRef::new).
    ///
    /// # Panics
    ///
    /// If there are not as many offsets as multipliers, or the largest fine and the largest coarse code do
    /// not fit a byte together.
    pub fn codes(
        bytes: &'a mut [u8],
        rows: usize,
        stride: usize,
        coding: Coding<'a>,
    ) -> Result<Self, ViewError> {
        let columns = coding.inv.len();
        assert_eq!(columns, coding.t.len(), "multipliers and offsets");
        let destination = match coding.coarse {
            None => Destination::Code,
            Some(Coarse { inv, t, max, shift }) => {
                let lens = (inv.len(), t.len());
                assert_eq!(lens, (columns, columns), "coarse multipliers and offsets");
                let room = u32::from(u8::MAX - coding.form.max);
                let fits = shift < u8::BITS && u32::from(max) << shift <= room;
                assert!(fits, "fine and coarse codes in a byte");
                Destination::TwinCode
            }
        };
        let cells = Cells::new(bytes, rows, columns, stride)?;
        Ok(Output::new(cells, destination, Some(coding)))
    }

    /// The same with an activation on the way.
    pub fn activated(self, activation: Activation) -> Self {
        Output { activation, ..self }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.cells.rows()
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cells.cols()
    }

    /// What becomes of an output.
    pub fn destination(&self) -> Destination {
        self.destination
    }

    /// The block of rows `row..row + rows` and columns `col..col + cols`, borrowed from this output.
    ///
    /// # Panics
    ///
    /// If the block is not within the output.
    pub fn block(&mut self, row: usize, rows: usize, col: usize, cols: usize) -> Output<'_> {
        Output {
            cells: self.cells.block(row, rows, col, cols),
            coding: self.coding.map(|coding| coding.columns(col..col + cols)),
            ..*self
        }
    }

    /// The rows before `row` and the rows from it on.
    ///
    /// # Panics
    ///
    /// If `row` is more than the number of rows.
    pub fn split_rows(self, row: usize) -> (Output<'a>, Output<'a>) {
        let (above, below) = self.cells.split_rows(row);
        let part = |cells| Output { cells, ..self };
        (part(above), part(below))
    }

    /// The columns before `col` and the columns from it on.
    ///
    /// # Panics
    ///
    /// If `col` is more than the number of columns.
    pub fn split_cols(self, col: usize) -> (Output<'a>, Output<'a>) {
        let (cols, coding) = (self.cells.cols(), self.coding);
        let (left, right) = self.cells.split_cols(col);
        let part = |cells, columns: Range<usize>| Output {
            cells,
            coding: coding.map(|coding| coding.columns(columns)),
            ..self
        };
        (part(left, 0..col), part(right, col..cols))
    }

    pub(crate) fn activation(&self) -> Activation {
        self.activation
    }

    pub(crate) fn coding(&self) -> Option<Coding<'a>> {
        self.coding
    }

    pub(crate) fn stride(&self) -> usize {
        self.cells.stride()
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.cells.as_mut_ptr()
    }
}
