//! Products of two activations, such as attention's: both operands are quantized at run time.

use half::{bf16, f16};
use noisyquant_kernels::isa::Isa;
use noisyquant_kernels::layout::{codes_stride, padded_k};
use noisyquant_kernels::ready::{Channels, CodeForm, Codes, Panels};
use noisyquant_kernels::spec;
use noisyquant_kernels::view::{Elem, Element, MatMut, MatRef};

use crate::check;
use crate::error::Error;
use crate::gemm;
use crate::kernels::{self, Kernels};
use crate::plan::Plan;
use crate::weights::{Aligned, aligned};

/// Largest magnitude of a symmetric code. As the zero point it makes `0..=254` of `−127..=127`, so that
/// −128, which is no weight code, does not occur, not even for NaN.
const LEVELS: u8 = spec::max_weight(8) as u8;

/// The range of a left operand, and with it step and zero point of its 8-bit codes (eq. 31).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DynamicRange {
    /// `−a..=a` in 255 levels.
    Symmetric(f32),
    /// `0..=a` in 256 levels. What is negative becomes 0.
    Positive(f32),
}

impl DynamicRange {
    /// The symmetric range of all numbers in `x`, NaN left out.
    pub fn of(x: MatRef<'_>) -> DynamicRange {
        DynamicRange::Symmetric(largest(x))
    }

    /// Step, zero point and largest code.
    fn affine(self) -> (f32, u8, u8) {
        match self {
            DynamicRange::Symmetric(a) => (spec::dynamic_step(a, LEVELS), LEVELS, 2 * LEVELS),
            DynamicRange::Positive(a) => (spec::dynamic_step(a, u8::MAX), 0, u8::MAX),
        }
    }
}

/// A product of two matrices that are both quantized to 8 bits at run time: a right operand is packed and
/// then multiplied with any number of left ones, on the calling thread.
///
/// Steps follow the largest magnitudes, so that nothing needs calibration (docs/math.md, eq. 30–33). The
/// same operands give the same bits on every CPU. Memory is kept from product to product and grows when a
/// larger one comes.
///
/// ```
/// use noisyquant::{DynamicMatmul, DynamicRange, MatMut, MatRef};
///
/// let (queries, keys) = ([1.0f32, -0.5, 0.25, 2.0], [0.5f32, 1.0, -1.0, 1.0, 2.0, 0.0]);
/// let queries = MatRef::new(&queries, 2, 2, 2).expect("2 × 2 numbers");
/// let keys = MatRef::new(&keys, 3, 2, 2).expect("3 × 2 numbers");
/// let mut scores = [0f32; 6];
///
/// let mut matmul = DynamicMatmul::new(None)?;
/// matmul.pack_rows(keys)?;
/// let y = MatMut::new(&mut scores, 2, 3, 3).expect("2 × 3 numbers");
/// matmul.multiply(queries, DynamicRange::of(queries), 1.0, y)?;
/// for (score, exact) in scores.iter().zip([0.0, -1.5, 2.0, 2.125, 1.75, 0.5]) {
///     assert!((score - exact).abs() < 0.03);
/// }
/// # Ok::<(), noisyquant::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct DynamicMatmul {
    kernels: Kernels,
    /// Output channels and inputs of the right operand; none before the first.
    outputs: usize,
    inputs: usize,
    panels: Aligned<i8>,
    /// Of each output channel: the step of its weights, and the sum of their codes.
    steps: Aligned<f32>,
    sums: Aligned<i32>,
    /// Multipliers and offsets of the operand that is being quantized.
    inv: Aligned<f32>,
    t: Aligned<f32>,
    /// Constants of a product's output channels.
    comp: Aligned<i32>,
    scale: Aligned<f32>,
    bias: Aligned<f32>,
    /// Codes, and the kernel's working memory.
    scratch: Aligned<u8>,
}

impl DynamicMatmul {
    /// Products on `isa`, or else on the set that `NOISYQUANT_ISA` names, or else on the best of this CPU.
    ///
    /// # Errors
    ///
    /// [`Error::IsaUnavailable`] or [`Error::IsaUnknown`].
    pub fn new(isa: Option<Isa>) -> Result<DynamicMatmul, Error> {
        let isa = kernels::choose_isa(isa)?;
        Ok(DynamicMatmul {
            kernels: Kernels::select(isa, u8::MAX, spec::max_weight(8))?,
            outputs: 0,
            inputs: 0,
            panels: aligned(0),
            steps: aligned(0),
            sums: aligned(0),
            inv: aligned(0),
            t: aligned(0),
            comp: aligned(0),
            scale: aligned(0),
            bias: aligned(0),
            scratch: aligned(0),
        })
    }

    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.kernels.micro.isa
    }

    /// Takes `w`, `[outputs, inputs]`, as the right operand of products `x · wᵀ`. All of it has one step.
    ///
    /// # Errors
    ///
    /// [`Error::Dimension`] if there are no outputs, or not between 1 and 65 536 inputs.
    pub fn pack_rows(&mut self, w: MatRef<'_>) -> Result<(), Error> {
        let (n, k) = (w.rows(), w.cols());
        let panels = self.resize(n, k)?;
        let step = spec::dynamic_step(largest(w), LEVELS);
        self.steps[..n].fill(step);
        self.set_inputs(k, |_| step, LEVELS);
        let stride = self.quantize_right(w);
        let codes = bytemuck::cast_slice(&self.scratch);
        let layout = self.kernels.micro.tile.panel();
        layout.pack(codes, stride, n, k, &mut self.panels[..panels]);
        self.sum_channels(panels);
        Ok(())
    }

    /// Takes `w`, `[inputs, outputs]`, as the right operand of products `x · w`. Each column has its
    /// step.
    ///
    /// # Errors
    ///
    /// As [`pack_rows`](Self::pack_rows).
    pub fn pack_columns(&mut self, w: MatRef<'_>) -> Result<(), Error> {
        let (n, k) = (w.cols(), w.rows());
        let panels = self.resize(n, k)?;
        let mut steps = std::mem::replace(&mut self.steps, aligned(0));
        largest_of_columns(w, &mut steps[..n]);
        for step in &mut steps[..n] {
            *step = spec::dynamic_step(*step, LEVELS);
        }
        self.set_inputs(n, |column| steps[column], LEVELS);
        self.steps = steps;
        let stride = self.quantize_right(w);
        let codes: &[i8] = bytemuck::cast_slice(&self.scratch);
        let layout = self.kernels.micro.tile.panel();
        layout.pack_transposed(codes, stride, n, k, &mut self.panels[..panels]);
        self.sum_channels(panels);
        Ok(())
    }

    /// Writes `y = factor · x · w`, or `wᵀ`, with `w` the right operand that was packed last. `x` is
    /// `[rows, inputs]`, its codes those of `range`, at whose ends they saturate; `y` is `[rows, outputs]`.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if shapes do not fit; [`Error::Value`] for a factor that is not finite or a range that
    /// is negative or NaN.
    pub fn multiply(
        &mut self,
        x: MatRef<'_>,
        range: DynamicRange,
        factor: f32,
        mut y: MatMut<'_>,
    ) -> Result<(), Error> {
        let (m, n, k) = (x.rows(), self.outputs, self.inputs);
        check::shape("left operand", (m, k), (m, x.cols()))?;
        check::shape("output", (m, n), (y.rows(), y.cols()))?;
        check::finite("factor", &[factor])?;
        let (DynamicRange::Symmetric(end) | DynamicRange::Positive(end)) = range;
        check::all("end of the range", "0 or more", &[end], |end| end >= 0.0)?;
        if m == 0 || n == 0 {
            return Ok(());
        }
        let micro = self.kernels.micro;
        let (step, zero, max) = range.affine();
        self.set_inputs(k, |_| step, zero);
        // The kernel sums Σ (u − offset) · wq, and Σ (u − zero) · wq is asked for (eq. 32). Sums wrap, and
        // what they end in fits.
        let offset = i32::from(micro.code_offset) - i32::from(zero);
        for (comp, sum) in self.comp.iter_mut().zip(&self.sums[..n]) {
            *comp = offset.wrapping_mul(*sum);
        }
        for (scale, right) in self.scale.iter_mut().zip(&self.steps[..n]) {
            *scale = spec::dynamic_scale(step, *right, factor);
        }
        let plan = Plan::new(micro, (m, k, n), 1, 1);
        grow(&mut self.scratch, plan.task_bytes());
        let (codes, wide, working) = gemm::split_scratch(&plan, &mut self.scratch);
        let panels = micro.tile.panel().packed_len(n, k).expect("was resized");
        let channels = Channels {
            comp: &self.comp,
            scale: &self.scale,
            bias: &self.bias,
        };
        let prologue = self.kernels.prologue(x.elem());
        let epilogue = self.kernels.epilogue(y.elem());
        let form = CodeForm {
            max,
            offset: micro.code_offset,
        };
        for block in gemm::steps(m, plan.block_rows) {
            let (rows, stride) = (block.len(), codes_stride(k));
            let x = x.rows_range(block.start, block.end);
            prologue.quantize(x, &self.inv, &self.t, form, codes, stride);
            let (bytes, stride) = gemm::as_read(micro, &codes[..rows * stride], stride, wide);
            let codes = Codes {
                bytes,
                stride,
                rows,
                k: padded_k(k),
                max,
            };
            let weights = Panels {
                bytes: &self.panels[..panels],
                max: spec::max_weight(8),
            };
            let y = y.block(block.start, rows, 0, n);
            micro.run_block(codes, weights, epilogue, channels, working, y);
        }
        Ok(())
    }

    /// Sums the codes of each output channel: as a product with ones, which costs what a row does.
    fn sum_channels(&mut self, panels: usize) {
        let (micro, nr) = (self.kernels.micro, self.kernels.micro.tile.nr);
        let padded = padded_k(self.inputs);
        grow(&mut self.scratch, 3 * padded + nr * size_of::<i32>());
        let (ones, rest) = self.scratch.split_at_mut(padded);
        let (wide, rest) = rest.split_at_mut(2 * padded);
        let accumulators = bytemuck::cast_slice_mut(&mut rest[..nr * size_of::<i32>()]);
        ones.fill(1);
        let (bytes, stride) = gemm::as_read(micro, ones, padded, wide);
        let codes = Codes {
            bytes,
            stride,
            rows: 1,
            k: padded,
            max: u8::MAX, // of stored bytes: ones, whatever the offset
        };
        let panels = self.panels[..panels].chunks_exact(padded * nr);
        for (panel, sums) in panels.zip(self.sums.chunks_exact_mut(nr)) {
            let weights = Panels {
                bytes: panel,
                max: spec::max_weight(8),
            };
            micro.run(codes, weights, accumulators);
            sums.copy_from_slice(accumulators);
        }
    }

    /// Makes room for a right operand of `n` output channels and `k` inputs; returns the length of its
    /// panels.
    fn resize(&mut self, n: usize, k: usize) -> Result<usize, Error> {
        let layout = self.kernels.micro.tile.panel();
        check::dimension("right operand's inputs", k, spec::MAX_K)?;
        check::dimension(
            "right operand's outputs",
            n,
            usize::MAX / spec::MAX_K / layout.nr,
        )?;
        let panels = layout.packed_len(n, k).expect("limited above");
        grow(&mut self.panels, panels);
        grow(&mut self.steps, n);
        let whole = n.next_multiple_of(layout.nr);
        grow(&mut self.sums, whole);
        grow(&mut self.comp, whole);
        grow(&mut self.scale, whole);
        grow(&mut self.bias, whole);
        (self.outputs, self.inputs) = (n, k);
        Ok(panels)
    }

    /// Sets multipliers and offsets for an operand of `columns` columns with these steps and zero point
    /// (eq. 2).
    fn set_inputs(&mut self, columns: usize, step: impl Fn(usize) -> f32, zero: u8) {
        let padded = padded_k(columns);
        grow(&mut self.inv, padded);
        grow(&mut self.t, padded);
        for (column, inv) in self.inv[..columns].iter_mut().enumerate() {
            *inv = spec::code_multiplier(1.0, step(column));
        }
        self.inv[columns..padded].fill(0.0);
        self.t[..columns].fill(f32::from(zero));
        self.t[columns..padded].fill(0.0);
    }

    /// Writes the weight codes of all rows of `w` to the scratch; returns their stride.
    fn quantize_right(&mut self, w: MatRef<'_>) -> usize {
        let stride = codes_stride(w.cols());
        let form = CodeForm {
            max: 2 * LEVELS,
            offset: LEVELS,
        };
        grow(&mut self.scratch, w.rows() * stride);
        let prologue = self.kernels.prologue(w.elem());
        prologue.quantize(w, &self.inv, &self.t, form, &mut self.scratch, stride);
        stride
    }
}

/// Makes `values` at least `len` long.
fn grow<T: Default + Clone>(values: &mut Aligned<T>, len: usize) {
    if values.len() < len {
        values.resize(len, T::default());
    }
}

/// Largest magnitude, NaN left out.
fn largest(x: MatRef<'_>) -> f32 {
    /// One magnitude a lane, so that the compiler can compare vectors.
    fn of<T: Element>(x: MatRef<'_>) -> f32 {
        let mut lanes = [0f32; 16];
        for row in 0..x.rows() {
            let (whole, rest) = x.row::<T>(row).as_chunks::<16>();
            for numbers in whole {
                raise(&mut lanes, numbers);
            }
            raise(&mut lanes, rest);
        }
        lanes.into_iter().fold(0.0, f32::max)
    }
    match x.elem() {
        Elem::F32 => of::<f32>(x),
        Elem::F16 => of::<f16>(x),
        Elem::Bf16 => of::<bf16>(x),
    }
}

/// Largest magnitude of each column, NaN left out.
fn largest_of_columns(x: MatRef<'_>, columns: &mut [f32]) {
    fn of<T: Element>(x: MatRef<'_>, columns: &mut [f32]) {
        for row in 0..x.rows() {
            raise(columns, x.row::<T>(row));
        }
    }
    columns.fill(0.0);
    match x.elem() {
        Elem::F32 => of::<f32>(x, columns),
        Elem::F16 => of::<f16>(x, columns),
        Elem::Bf16 => of::<bf16>(x, columns),
    }
}

/// Raises each of `most` to the magnitude of its number.
fn raise<T: Element>(most: &mut [f32], numbers: &[T]) {
    for (most, number) in most.iter_mut().zip(numbers) {
        let magnitude = number.to_f32().abs();
        // Not `max`, which is more than one instruction; false for NaN.
        *most = if magnitude > *most { magnitude } else { *most };
    }
}
