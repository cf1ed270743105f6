//! Operands of products of two activations, such as attention's: both are quantized at run time.

use noisyquant_kernels::isa::Isa;
use noisyquant_kernels::layout::{codes_stride, padded_k};
use noisyquant_kernels::output::CodeForm;
use noisyquant_kernels::ready::{Codes, Panels};
use noisyquant_kernels::spec;
use noisyquant_kernels::view::MatRef;

use super::block::as_read;
use super::memory::{Lines, Scratch};
use super::panels::Packing;
use super::plan::Plan;
use super::select::{self, Kernels};
use crate::check;
use crate::error::Error;

/// Largest magnitude of a symmetric code. As the zero point it makes `0..=254` of `−127..=127`, so that
/// −128, which is no weight code, does not occur, not even for NaN.
pub(super) const LEVELS: u8 = spec::max_weight(8) as u8;

/// Columns that are searched for the largest magnitude at a time: whole registers of each kernel.
const COLUMNS: usize = 64;

/// The range of a left operand, and with it step and zero point of its 8-bit codes (eq. 31).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DynamicRange {
    /// `−a..=a` in 255 levels.
    Symmetric(f32),
    /// `0..=a` in 256 levels. What is negative becomes 0.
    Positive(f32),
}

impl DynamicRange {
    /// Step, zero point and largest code.
    pub(super) fn affine(self) -> (f32, u8, u8) {
        match self {
            DynamicRange::Symmetric(a) => (spec::dynamic_step(a, LEVELS), LEVELS, 2 * LEVELS),
            DynamicRange::Positive(a) => (spec::dynamic_step(a, u8::MAX), 0, u8::MAX),
        }
    }
}

/// Products of two matrices that are both quantized to 8 bits at run time, on one instruction set. A right
/// operand is packed into memory of the caller and then multiplied with any number of left ones, each on the
/// thread that asks for it; threads may share a packed operand.
///
/// Steps follow the largest magnitudes, so that nothing needs calibration (docs/math.md, eq. 30–33). The
/// same operands give the same bits on every CPU.
///
/// ```
/// use noisyquant::{DynamicMatmul, MatMut, MatRef, Scratch};
///
/// let (queries, keys) = ([1.0f32, -0.5, 0.25, 2.0], [0.5f32, 1.0, -1.0, 1.0, 2.0, 0.0]);
/// let queries = MatRef::new(&queries, 2, 2, 2)?;
/// let keys = MatRef::new(&keys, 3, 2, 2)?;
///
/// let matmul = DynamicMatmul::new(None)?;
/// let mut memory = Scratch::with_bytes(matmul.operand_bytes(3, 2));
/// let mut scratch = Scratch::with_bytes(matmul.scratch_bytes(2, 3, 2));
/// let operand = matmul.pack_rows(keys, &mut memory, &mut scratch)?;
///
/// let mut scores = [0f32; 6];
/// let y = MatMut::new(&mut scores, 2, 3, 3)?;
/// operand.multiply(queries, matmul.range(queries), 1.0, y, &mut scratch)?;
/// for (score, exact) in scores.iter().zip([0.0, -1.5, 2.0, 2.125, 1.75, 0.5]) {
///     assert!((score - exact).abs() < 0.03);
/// }
/// # Ok::<(), noisyquant::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct DynamicMatmul {
    pub(super) kernels: Kernels,
}

/// A packed right operand; see [`DynamicMatmul`].
#[derive(Clone, Copy, Debug)]
pub struct DynamicOperand<'a> {
    matmul: DynamicMatmul,
    outputs: usize,
    inputs: usize,
    pub(super) panels: &'a [i8],
    /// Of each output channel: the step of its weights, and the sum of their codes; of whole panels.
    pub(super) steps: &'a [f32],
    pub(super) sums: &'a [i32],
}

/// Room for a right operand.
struct Room<'a> {
    panels: &'a mut [i8],
    steps: &'a mut [f32],
    sums: &'a mut [i32],
}

impl DynamicMatmul {
    /// Products on `isa`, or else on the set that `NOISYQUANT_ISA` names, or else on the best of this CPU.
    ///
    /// # Errors
    ///
    /// [`Error::IsaUnavailable`] or [`Error::IsaUnknown`].
    pub fn new(isa: Option<Isa>) -> Result<DynamicMatmul, Error> {
        let isa = select::choose_isa(isa)?;
        let kernels = Kernels::select(isa, u8::MAX, LEVELS, Packing::Expanded)?;
        Ok(DynamicMatmul { kernels })
    }

    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.kernels.micro.isa
    }

    /// The symmetric range of all numbers in `x`, NaN left out.
    pub fn range(&self, x: MatRef<'_>) -> DynamicRange {
        DynamicRange::Symmetric(self.largest(x))
    }

    /// Bytes of memory for a right operand of `outputs` output channels and `inputs` inputs; `usize::MAX` for
    /// one that is larger than any.
    pub fn operand_bytes(&self, outputs: usize, inputs: usize) -> usize {
        let layout = self.kernels.micro.tile.panel();
        let whole = layout.panels(outputs).saturating_mul(layout.nr);
        match layout.packed_len(outputs, inputs) {
            Some(panels) if self.takes(outputs, inputs) => {
                Lines::bytes::<i8>(panels) + Lines::bytes::<f32>(whole) + Lines::bytes::<i32>(whole)
            }
            _ => usize::MAX,
        }
    }

    /// Bytes of scratch for packing such an operand and for products of up to `rows` rows with it.
    pub fn scratch_bytes(&self, rows: usize, outputs: usize, inputs: usize) -> usize {
        if !self.takes(outputs, inputs) {
            return usize::MAX;
        }
        let packing = self.packing_bytes(outputs, inputs);
        packing
            .max(self.packing_bytes(inputs, outputs))
            .max(self.call_bytes(rows, outputs, inputs))
    }

    /// Bytes of memory for the constants of a [`DynamicProduct`](crate::DynamicProduct) with such an operand.
    pub fn product_bytes(&self, outputs: usize, inputs: usize) -> usize {
        if !self.takes(outputs, inputs) {
            return usize::MAX;
        }
        let layout = self.kernels.micro.tile.panel();
        let whole = layout.panels(outputs).saturating_mul(layout.nr);
        let inputs = 2 * Lines::bytes::<f32>(padded_k(inputs));
        inputs.saturating_add(Lines::bytes::<i32>(whole).saturating_mul(3))
    }

    /// Bytes from one row of codes to the next in
    /// [`DynamicProduct::multiply_codes`](crate::DynamicProduct::multiply_codes), for a right operand of so
    /// many inputs; at least as many.
    ///
    /// # Panics
    ///
    /// If there are so many inputs that this overflows.
    pub fn codes_stride(&self, inputs: usize) -> usize {
        codes_stride(inputs)
    }

    /// What is subtracted from each code where it is stored for
    /// [`DynamicProduct::multiply_codes`](crate::DynamicProduct::multiply_codes): 0, or 128 on instruction
    /// sets that multiply signed bytes.
    pub fn code_offset(&self) -> u8 {
        self.kernels.micro.code_offset
    }

    /// Takes `w`, `[outputs, inputs]`, as the right operand of products `x · wᵀ`. All of it has one step.
    ///
    /// # Errors
    ///
    /// [`Error::Dimension`] if there are no outputs, or not between 1 and 65 536 inputs;
    /// [`Error::ScratchTooSmall`] if `memory` has fewer than
    /// [`operand_bytes`](Self::operand_bytes), or `scratch` than [`scratch_bytes`](Self::scratch_bytes).
    pub fn pack_rows<'m>(
        &self,
        w: MatRef<'_>,
        memory: &'m mut Scratch<'_>,
        scratch: &mut Scratch<'_>,
    ) -> Result<DynamicOperand<'m>, Error> {
        let (n, k) = (w.rows(), w.cols());
        let room = self.room(n, k, memory)?;
        let step = spec::dynamic_step(self.largest(w), LEVELS);
        room.steps[..n].fill(step);
        let (codes, stride) = self.quantize_right(w, |_| step, scratch)?;
        let layout = self.kernels.micro.tile.panel();
        layout.pack(codes, stride, n, k, room.panels);
        self.finish(room, n, k, scratch)
    }

    /// Takes `w`, `[inputs, outputs]`, as the right operand of products `x · w`. Each column has its
    /// step.
    ///
    /// # Errors
    ///
    /// As [`pack_rows`](Self::pack_rows).
    pub fn pack_columns<'m>(
        &self,
        w: MatRef<'_>,
        memory: &'m mut Scratch<'_>,
        scratch: &mut Scratch<'_>,
    ) -> Result<DynamicOperand<'m>, Error> {
        let (n, k) = (w.cols(), w.rows());
        let room = self.room(n, k, memory)?;
        let steps = &mut room.steps[..n];
        steps.fill(0.0);
        self.kernels.absmax(w.elem()).raise(w, steps);
        for step in steps {
            *step = spec::dynamic_step(*step, LEVELS);
        }
        let (codes, stride) = self.quantize_right(w, |column| room.steps[column], scratch)?;
        let layout = self.kernels.micro.tile.panel();
        layout.pack_transposed(codes, stride, n, k, room.panels);
        self.finish(room, n, k, scratch)
    }

    /// Of so many, no size below overflows.
    fn most_outputs(&self) -> usize {
        usize::MAX / spec::MAX_K / self.kernels.micro.tile.nr
    }

    fn takes(&self, outputs: usize, inputs: usize) -> bool {
        outputs <= self.most_outputs() && inputs <= spec::MAX_K
    }

    /// Cuts `memory` for a right operand of `n` output channels and `k` inputs.
    fn room<'m>(&self, n: usize, k: usize, memory: &'m mut Scratch<'_>) -> Result<Room<'m>, Error> {
        let layout = self.kernels.micro.tile.panel();
        check::dimension("right operand's inputs", k, spec::MAX_K)?;
        check::dimension("right operand's outputs", n, self.most_outputs())?;
        let whole = layout.panels(n) * layout.nr;
        let needed = self.operand_bytes(n, k);
        let mut lines = Lines(memory.first_of("memory of an operand", needed, n)?);
        Ok(Room {
            panels: lines.take(layout.panels(n) * layout.panel_bytes(k)),
            steps: lines.take(whole),
            sums: lines.take(whole),
        })
    }

    /// Sums the codes of each output channel of packed panels: as a product with ones, which costs what a
    /// row does.
    fn finish<'m>(
        &self,
        room: Room<'m>,
        n: usize,
        k: usize,
        scratch: &mut Scratch<'_>,
    ) -> Result<DynamicOperand<'m>, Error> {
        let (micro, nr) = (self.kernels.micro, self.kernels.micro.tile.nr);
        let padded = padded_k(k);
        let mut lines = Lines(scratch.first(self.packing_bytes(n, k), n)?);
        let (ones, wide) = (lines.take::<u8>(padded), lines.take::<u8>(2 * padded));
        let accumulators = lines.take::<i32>(nr);
        ones.fill(1);
        let (bytes, stride) = as_read(micro, ones, padded, wide);
        let codes = Codes {
            bytes,
            stride,
            rows: 1,
            k: padded,
            max: u8::MAX, // as stored; before the kernel's offset was taken off, they were larger
        };
        let panels = room.panels.chunks_exact(padded * nr);
        for (bytes, sums) in panels.zip(room.sums.chunks_exact_mut(nr)) {
            micro.run(
                codes,
                Panels {
                    bytes,
                    corrections: &[],
                    max: LEVELS,
                },
                accumulators,
            );
            sums.copy_from_slice(accumulators);
        }
        Ok(DynamicOperand {
            matmul: *self,
            outputs: n,
            inputs: k,
            panels: room.panels,
            steps: room.steps,
            sums: room.sums,
        })
    }

    /// The weight codes of all rows of `w`, whose columns have these steps, and their stride.
    fn quantize_right<'s>(
        &self,
        w: MatRef<'_>,
        step: impl Fn(usize) -> f32,
        scratch: &'s mut Scratch<'_>,
    ) -> Result<(&'s [i8], usize), Error> {
        let (rows, columns) = (w.rows(), w.cols());
        let stride = codes_stride(columns);
        let mut lines = Lines(scratch.first(self.packing_bytes(rows, columns), rows)?);
        let (inv, t) = inputs(&mut lines, columns, step, LEVELS);
        let codes = lines.take(rows * stride);
        let form = CodeForm {
            max: 2 * LEVELS,
            offset: LEVELS,
        };
        let prologue = self.kernels.prologue(w.elem());
        prologue.quantize(w, inv, t, form, codes, stride);
        Ok((bytemuck::cast_slice(codes), stride))
    }

    /// Scratch of [`quantize_right`](Self::quantize_right) for a matrix of so many rows and columns, or of
    /// [`finish`](Self::finish) for so many outputs and inputs.
    fn packing_bytes(&self, rows: usize, columns: usize) -> usize {
        let padded = padded_k(columns);
        let codes = rows.saturating_mul(codes_stride(columns));
        let quantize = (2 * Lines::bytes::<f32>(padded)).saturating_add(Lines::bytes::<u8>(codes));
        let sums = Lines::bytes::<i32>(self.kernels.micro.tile.nr);
        quantize.max((3 * padded).saturating_add(sums))
    }

    /// Scratch of a product of up to `rows` rows whose constants are there.
    pub(super) fn task_bytes(&self, rows: usize, n: usize, k: usize) -> usize {
        let plan = |rows: usize| Plan::new(self.kernels.micro, (rows, k, n), 1, 1);
        // A call of fewer rows never has higher blocks than this.
        let highest = plan(usize::MAX).block_rows;
        plan(rows.min(highest).max(1)).task_bytes()
    }

    /// Scratch of a product of up to `rows` rows and its constants.
    pub(super) fn call_bytes(&self, rows: usize, n: usize, k: usize) -> usize {
        let constants = self.product_bytes(n, k);
        constants.saturating_add(self.task_bytes(rows, n, k))
    }

    /// Largest magnitude, NaN left out.
    fn largest(&self, x: MatRef<'_>) -> f32 {
        if x.rows() == 0 {
            return 0.0; // rows that are not there may have any number of columns
        }
        let (absmax, columns) = (self.kernels.absmax(x.elem()), x.cols());
        let mut most = [0.0; COLUMNS];
        for from in (0..columns).step_by(COLUMNS) {
            let part = x.cols_range(from, columns.min(from + COLUMNS));
            absmax.raise(part, &mut most[..part.cols()]);
        }
        most.into_iter().fold(0.0, f32::max)
    }
}

impl DynamicOperand<'_> {
    /// Output channels.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Inputs of an output channel.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// What the operand was packed by, and is multiplied by; tells the scratch of a product.
    pub fn matmul(&self) -> DynamicMatmul {
        self.matmul
    }
}

/// Multipliers and offsets for an operand of `columns` columns with these steps and zero point (eq. 2).
pub(super) fn inputs<'s>(
    lines: &mut Lines<'s>,
    columns: usize,
    step: impl Fn(usize) -> f32,
    zero: u8,
) -> (&'s [f32], &'s [f32]) {
    let padded = padded_k(columns);
    let (inv, t) = (lines.take(padded), lines.take(padded));
    for (column, inv) in inv[..columns].iter_mut().enumerate() {
        *inv = spec::code_multiplier(1.0, step(column));
    }
    inv[columns..].fill(0.0);
    t[..columns].fill(f32::from(zero));
    t[columns..].fill(0.0);
    (inv, t)
}
