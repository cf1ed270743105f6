//! Products of two activations, of which the right one is packed: what all calls for one range of left
//! operands share, and the calls.

use noisyquant_kernels::layout::codes_stride;
use noisyquant_kernels::output::{CodeForm, Destination};
use noisyquant_kernels::ready::{Channels, Codes, Panels};
use noisyquant_kernels::spec;
use noisyquant_kernels::view::{MatMut, MatRef};

use super::block::{Parts, as_read, steps};
use super::dynamic::{DynamicOperand, DynamicRange, LEVELS, inputs};
use super::memory::{Lines, Scratch};
use super::plan::Plan;
use crate::check;
use crate::error::Error;

/// A packed right operand with what all its products with left operands of one range and one factor have in
/// common: made once, where those come a few rows at a time.
///
/// ```
/// use noisyquant::{DynamicMatmul, DynamicRange, MatMut, MatRef, Scratch};
///
/// let values = [1.0f32, -2.0, 3.0, 0.5, 0.0, -1.0];
/// let values = MatRef::new(&values, 2, 3, 3)?;
///
/// let matmul = DynamicMatmul::new(None)?;
/// let mut memory = Scratch::with_bytes(matmul.operand_bytes(3, 2));
/// let mut constants = Scratch::with_bytes(matmul.product_bytes(3, 2));
/// let mut scratch = Scratch::with_bytes(matmul.scratch_bytes(1, 3, 2));
/// let values = matmul.pack_columns(values, &mut memory, &mut scratch)?;
/// let product = values.product(DynamicRange::Positive(1.0), 1.0, &mut constants)?;
///
/// for (weights, exact) in [([0.2f32, 0.8], [0.6, -0.4, -0.2]), ([1.0, 0.0], [1.0, -2.0, 3.0])] {
///     let mut mixed = [0f32; 3];
///     let weights = MatRef::new(&weights, 1, 2, 2)?;
///     product.multiply(weights, MatMut::new(&mut mixed, 1, 3, 3)?, &mut scratch)?;
///     for (mixed, exact) in mixed.iter().zip(exact) {
///         assert!((mixed - exact).abs() < 0.03, "{mixed} {exact}");
///     }
/// }
/// # Ok::<(), noisyquant::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct DynamicProduct<'a> {
    operand: DynamicOperand<'a>,
    /// Of the inputs.
    inv: &'a [f32],
    t: &'a [f32],
    /// The largest code of the left operand.
    max: u8,
    channels: Channels<'a>,
}

impl<'a> DynamicOperand<'a> {
    /// Makes what products with left operands of this `range` and with this `factor` have in common, in
    /// `memory`.
    ///
    /// # Errors
    ///
    /// [`Error::Value`] for a factor that is not finite or a range that is negative or NaN;
    /// [`Error::ScratchTooSmall`] if `memory` has fewer than
    /// [`product_bytes`](crate::DynamicMatmul::product_bytes).
    pub fn product<'p>(
        &self,
        range: DynamicRange,
        factor: f32,
        memory: &'p mut Scratch<'_>,
    ) -> Result<DynamicProduct<'p>, Error>
    where
        'a: 'p,
    {
        let (n, k) = (self.outputs(), self.inputs());
        let needed = self.matmul().product_bytes(n, k);
        check_range(range, factor)?;
        let mut lines = Lines(memory.first_of("memory of a product", needed, n)?);
        Ok(self.constants(range, factor, &mut lines))
    }

    /// Writes `y = factor · x · w`, or `wᵀ`, with `w` the operand that was packed. `x` is
    /// `[rows, inputs]`, its codes those of `range`, at whose ends they saturate; `y` is `[rows, outputs]`.
    /// NaN has the code of the lower end of its range.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if shapes do not fit; [`Error::Value`] for a factor that is not finite or a range
    /// that is negative or NaN; [`Error::ScratchTooSmall`] if `scratch` has fewer than
    /// [`scratch_bytes`](crate::DynamicMatmul::scratch_bytes).
    pub fn multiply(
        &self,
        x: MatRef<'_>,
        range: DynamicRange,
        factor: f32,
        y: MatMut<'_>,
        scratch: &mut Scratch<'_>,
    ) -> Result<(), Error> {
        let (m, n, k) = (x.rows(), self.outputs(), self.inputs());
        self.check_shapes(x, &y)?;
        check_range(range, factor)?;
        if m == 0 {
            return Ok(());
        }
        let needed = self.matmul().call_bytes(m, n, k);
        let mut lines = Lines(scratch.first(needed, m)?);
        self.constants(range, factor, &mut lines).run(x, y, lines.0);
        Ok(())
    }

    fn check_shapes(&self, x: MatRef<'_>, y: &MatMut<'_>) -> Result<(), Error> {
        let (m, n, k) = (x.rows(), self.outputs(), self.inputs());
        check::shape("left operand", (m, k), (m, x.cols()))?;
        check::shape("output", (m, n), (y.rows(), y.cols()))
    }

    /// Multipliers and offsets of the inputs (eq. 2), and constants of the output channels (eq. 32 and 33).
    fn constants<'p>(
        &self,
        range: DynamicRange,
        factor: f32,
        lines: &mut Lines<'p>,
    ) -> DynamicProduct<'p>
    where
        'a: 'p,
    {
        let (step, zero, max) = range.affine();
        let (inv, t) = inputs(lines, self.inputs(), |_| step, zero);
        let whole = self.sums.len();
        let (comp, scale, bias) = (lines.take(whole), lines.take(whole), lines.take(whole));
        // The kernel sums Σ (u − offset) · wq, and Σ (u − zero) · wq is asked for. Sums wrap, and what they
        // end in fits.
        let offset = i32::from(self.matmul().code_offset()) - i32::from(zero);
        for (comp, sum) in comp.iter_mut().zip(self.sums) {
            *comp = offset.wrapping_mul(*sum);
        }
        scale.fill(0.0);
        for (scale, right) in scale.iter_mut().zip(&self.steps[..self.outputs()]) {
            *scale = spec::dynamic_scale(step, *right, factor);
        }
        bias.fill(0.0);
        DynamicProduct {
            operand: *self,
            inv,
            t,
            max,
            channels: Channels { comp, scale, bias },
        }
    }
}

impl DynamicProduct<'_> {
    /// [`DynamicOperand::multiply`] with the range and the factor of this product.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if shapes do not fit; [`Error::ScratchTooSmall`] if `scratch` has fewer than
    /// [`scratch_bytes`](crate::DynamicMatmul::scratch_bytes).
    pub fn multiply(
        &self,
        x: MatRef<'_>,
        y: MatMut<'_>,
        scratch: &mut Scratch<'_>,
    ) -> Result<(), Error> {
        self.operand.check_shapes(x, &y)?;
        if x.rows() > 0 {
            self.run(x, y, self.task(x.rows(), scratch)?);
        }
        Ok(())
    }

    /// [`multiply`](Self::multiply) with codes that are there already. `codes` holds as many rows as `y`,
    /// [`codes_stride`](crate::DynamicMatmul::codes_stride) bytes each: first the codes `u` of the inputs,
    /// each as `u` less [`code_offset`](crate::DynamicMatmul::code_offset) (wrapping), then bytes that do not
    /// matter. A code of 0 ..= 255 stands for `(u − z) · s`, with step and zero point of the range (eq. 30
    /// and 31).
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for more or fewer codes; otherwise as [`multiply`](Self::multiply).
    pub fn multiply_codes(
        &self,
        codes: &[u8],
        mut y: MatMut<'_>,
        scratch: &mut Scratch<'_>,
    ) -> Result<(), Error> {
        let (m, n) = (y.rows(), self.operand.outputs());
        check::shape("output", (m, n), (m, y.cols()))?;
        let stride = codes_stride(self.operand.inputs());
        check::length("codes", m.saturating_mul(stride), codes.len())?;
        if m == 0 {
            return Ok(());
        }
        let plan = self.plan(m);
        let parts = &mut Parts::of(&plan, self.task(m, scratch)?);
        for block in steps(m, plan.block_rows) {
            let y = y.block(block.start, block.len(), 0, n);
            let codes = &codes[block.start * stride..block.end * stride];
            self.block(codes, u8::MAX, parts.wide, parts.working, y);
        }
        Ok(())
    }

    fn plan(&self, rows: usize) -> Plan {
        let (n, k) = (self.operand.outputs(), self.operand.inputs());
        Plan::new(self.operand.matmul().kernels.micro, (rows, k, n), 1, 1)
    }

    /// Scratch for `rows` rows, at least one.
    fn task<'s>(&self, rows: usize, scratch: &'s mut Scratch<'_>) -> Result<&'s mut [u8], Error> {
        let (n, k) = (self.operand.outputs(), self.operand.inputs());
        scratch.first(self.operand.matmul().task_bytes(rows, n, k), rows)
    }

    /// A product of operands that fit.
    fn run(&self, x: MatRef<'_>, mut y: MatMut<'_>, scratch: &mut [u8]) {
        let kernels = self.operand.matmul().kernels;
        let (prologue, stride) = (kernels.prologue(x.elem()), codes_stride(x.cols()));
        let form = CodeForm {
            max: self.max,
            offset: kernels.micro.code_offset,
        };
        let plan = self.plan(x.rows());
        let parts = Parts::of(&plan, scratch);
        for block in steps(x.rows(), plan.block_rows) {
            let x = x.rows_range(block.start, block.end);
            prologue.quantize(x, self.inv, self.t, form, parts.codes, stride);
            let y = y.block(block.start, block.len(), 0, self.operand.outputs());
            let codes = &parts.codes[..block.len() * stride];
            self.block(codes, self.max, parts.wide, parts.working, y);
        }
    }

    /// A block of rows of codes, none above `max`.
    fn block(&self, codes: &[u8], max: u8, wide: &mut [u8], working: &mut [i32], y: MatMut<'_>) {
        let kernels = self.operand.matmul().kernels;
        let k = self.operand.inputs();
        let (bytes, stride) = as_read(kernels.micro, codes, codes_stride(k), wide);
        let codes = Codes {
            bytes,
            stride,
            rows: y.rows(),
            k,
            max,
        };
        let panels = Panels {
            bytes: self.operand.panels,
            sums: &[],
            max: LEVELS,
        };
        let epilogue = kernels.epilogue(Destination::Store(y.elem()));
        (kernels.micro).run_block(codes, panels, epilogue, self.channels, working, y.into());
    }
}

fn check_range(range: DynamicRange, factor: f32) -> Result<(), Error> {
    check::finite("factor", &[factor])?;
    let (DynamicRange::Symmetric(end) | DynamicRange::Positive(end)) = range;
    check::all("end of the range", "0 or more", &[end], |end| end >= 0.0)
}
