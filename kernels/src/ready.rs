//! Rows that the CPU at hand can run, and their checked calls: the only way to reach a kernel.
//!
//! A [`Ready`] row exists only if the CPU has the row's instruction set. Its calls assert all that a leaf
//! trusts, and then run the leaf.

use core::fmt;
use core::ops::Deref;

use crate::codes::CodesMut;
use crate::isa::Isa;
use crate::layout::{ALIGN, Tile, padded_k};
use crate::leaf::{
    BlockArgs, CodeArgs, CodingArgs, FinishArgs, MicroArgs, Next, NormArgs, QuantizeArgs,
    RaiseArgs, WidenArgs,
};
use crate::output::{CodeForm, Coding, Destination, Output};
use crate::row::{Absmax, Epilogue, MicroKernel, Norm, Prologue};
use crate::spec::{MAX_K, NormKind};
use crate::table;
use crate::view::{Elem, MatMut, MatRef};

/// A row of the table that the CPU at hand can run: holding one is the proof.
pub struct Ready<R: 'static>(&'static R);

impl<R> Clone for Ready<R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Ready<R> {}

impl<R> Deref for Ready<R> {
    type Target = R;
    fn deref(&self) -> &R {
        self.0
    }
}

impl<R: fmt::Debug> fmt::Debug for Ready<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl MicroKernel {
    /// The row as something to call, or `None` if the CPU lacks the set or the operating system refuses
    /// its use. This is choosing the set: it asks for what [`Isa::enable`] asks for.
    pub fn ready(&'static self) -> Option<Ready<MicroKernel>> {
        self.isa.enable().then_some(Ready(self))
    }
}

impl Prologue {
    /// The row as something to call, or `None` if the CPU lacks the set.
    pub fn ready(&'static self) -> Option<Ready<Prologue>> {
        // Of a [base](Isa::base), which needs no permission.
        self.isa.is_available().then_some(Ready(self))
    }
}

impl Norm {
    /// The row as something to call, or `None` if the CPU lacks the set.
    pub fn ready(&'static self) -> Option<Ready<Norm>> {
        self.isa.is_available().then_some(Ready(self))
    }
}

impl Absmax {
    /// The row as something to call, or `None` if the CPU lacks the set.
    pub fn ready(&'static self) -> Option<Ready<Absmax>> {
        self.isa.is_available().then_some(Ready(self))
    }
}

impl Epilogue {
    /// The row as something to call, or `None` if the CPU lacks the set.
    pub fn ready(&'static self) -> Option<Ready<Epilogue>> {
        self.isa.is_available().then_some(Ready(self))
    }
}

/// The prologue for `isa` and `source`, or `None` if the CPU lacks the set.
pub fn prologue(isa: Isa, source: Elem) -> Option<Ready<Prologue>> {
    table::prologues()
        .find(|row| row.isa == isa.base() && row.source == source)?
        .ready()
}

/// The norm for `isa`, or `None` if the CPU lacks the set.
pub fn norm(isa: Isa) -> Option<Ready<Norm>> {
    table::norms().find(|row| row.isa == isa.base())?.ready()
}

/// The leaf of largest magnitudes for `isa` and `source`, or `None` if the CPU lacks the set.
pub fn absmax(isa: Isa, source: Elem) -> Option<Ready<Absmax>> {
    table::absmaxes()
        .find(|row| row.isa == isa.base() && row.source == source)?
        .ready()
}

/// The epilogue for `isa` and `destination`, or `None` if the CPU lacks the set.
pub fn epilogue(isa: Isa, destination: Destination) -> Option<Ready<Epilogue>> {
    table::epilogues()
        .find(|row| row.isa == isa.base() && row.destination == destination)?
        .ready()
}

/// Rows of codes, the left operand of a micro-kernel.
#[derive(Clone, Copy, Debug)]
pub struct Codes<'a> {
    /// The codes as the kernel reads them: with its [`code_offset`](MicroKernel::code_offset) taken off,
    /// and [`code_bytes`](MicroKernel::code_bytes) wide. Rows need no alignment.
    pub bytes: &'a [u8],
    /// Bytes from one row to the next.
    pub stride: usize,
    /// Number of rows.
    pub rows: usize,
    /// Inputs of a row, from 1 to [`MAX_K`]. There are [`padded_k`] codes of it: those past the inputs, too,
    /// are no more than `max`, and else do not matter.
    pub k: usize,
    /// The largest code, before the offset was taken off.
    pub max: u8,
}

/// Packed panels of weights, the right operand of a micro-kernel.
#[derive(Clone, Copy, Debug)]
pub struct Panels<'a> {
    /// Whole panels, one after another, aligned to 64 bytes; see [`layout`](crate::layout).
    pub bytes: &'a [i8],
    /// Their [corrections](MicroKernel::correct), for a kernel that reads such.
    pub corrections: &'a [i32],
    /// The largest magnitude of a weight: 128 where −128 occurs.
    pub max: u8,
}

impl Ready<MicroKernel> {
    /// `c[m, n] = Σ_k codes[m, k] · b[n, k]` (eq. 4) for all rows of `codes` and the one panel `b`. Codes
    /// are as stored: signed bytes where the row has a [`code_offset`](MicroKernel::code_offset).
    ///
    /// `c` is dense, `rows × NR`. A call without rows does nothing.
    ///
    /// # Panics
    ///
    /// If the codes' `k` is not from 1 to [`MAX_K`]; if `b` is not one [panel](MicroKernel::panel) long; if
    /// the kernel is not [exact](MicroKernel::is_exact_for) for such codes and weights; if `codes` or `c` is
    /// too short; or if `b` or `c` is not aligned to 64 bytes.
    pub fn run(&self, codes: Codes<'_>, b: Panels<'_>, c: &mut [i32]) {
        if codes.rows == 0 {
            return;
        }
        assert!(c.len() / self.tile.nr >= codes.rows, "accumulators");
        let args = self.operands(codes, b, 1, c);
        // SAFETY: `Ready` proves CPU support, `operands` and the assert the rest.
        unsafe { (self.micro)(&args) }
    }

    /// The product of all rows of `codes` with all channels of `y`, finished into `y` (eq. 4 and 9, and what
    /// the output asks for) by `epilogue`, or by the kernel itself as that would, while the sums are in
    /// registers.
    ///
    /// `b` holds the panels of the channels of `y`. `working` is memory for what the kernel has a use for,
    /// [`room`](MicroKernel::room), and at least one tile of accumulators, better a few: `room(rows, k) +
    /// mr · nr` values or more. A call without rows or channels does nothing.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run), with `b` as long as the panels of `y`'s columns; and if `codes` and `y`
    /// differ in rows, `channels` or `working` is too short, `y` is for another
    /// epilogue, or `working` is not aligned to 64 bytes.
    pub fn run_block(
        &self,
        codes: Codes<'_>,
        b: Panels<'_>,
        epilogue: Ready<Epilogue>,
        channels: Channels<'_>,
        working: &mut [i32],
        y: Output<'_>,
    ) {
        let (Tile { mr, nr, .. }, columns) = (self.tile, y.cols());
        let panels = columns.div_ceil(nr);
        assert_eq!(codes.rows, y.rows(), "rows");
        if codes.rows == 0 || columns == 0 {
            return;
        }
        assert!(codes.k <= MAX_K, "inputs");
        let corrections = self.corrections(panels, codes.k);
        assert_eq!(b.corrections.len(), corrections, "corrections");
        let room = self.room(codes.rows, codes.k);
        assert!(room.is_multiple_of(ALIGN / size_of::<i32>()), "whole lines");
        assert!(working.len() >= room + nr * mr, "working memory");
        let (room, c) = working.split_at_mut(room);
        let step = c.len() / nr;
        let args = BlockArgs {
            first: self.operands(codes, b, panels, c),
            panels,
            step,
            tile: self.tile,
            micro: self.micro,
            room: room.as_mut_ptr(),
            corrections: b.corrections.as_ptr(),
            finish: epilogue.finish,
            destination: epilogue.destination,
            output: epilogue.operands(&[], panels * nr, channels, y),
        };
        // SAFETY: `Ready` proves CPU support, the two `operands` and the asserts the rest.
        unsafe { (self.block)(&args) }
    }

    /// Checks codes and panels. There is a row and a panel.
    fn operands(&self, codes: Codes<'_>, b: Panels<'_>, panels: usize, c: &mut [i32]) -> MicroArgs {
        let inputs = codes.k;
        let possible = (1..=MAX_K).contains(&inputs);
        assert!(possible, "inputs: from 1 to {MAX_K}, got {inputs}");
        let k = padded_k(inputs);
        let len = panels.checked_mul(self.panel().panel_bytes(inputs));
        assert_eq!(Some(b.bytes.len()), len, "panels of {k} inputs");
        let exact = self.is_exact_for(codes.max, b.max);
        assert!(
            exact,
            "{} for codes to {}, weights to {}",
            self.name, codes.max, b.max
        );
        assert!(aligned(b.bytes) && aligned(c), "alignment to 64 bytes");
        let last = codes.bytes.len().checked_sub(k * self.code_bytes());
        let last_row = (codes.rows - 1).checked_mul(codes.stride);
        assert!(last_row.is_some() && last >= last_row, "codes");
        MicroArgs {
            a: codes.bytes.as_ptr(),
            a_stride: codes.stride,
            b: b.bytes.as_ptr(),
            k,
            inputs,
            m: codes.rows,
            next: Next::none(b.bytes.as_ptr()),
            c: c.as_mut_ptr(),
        }
    }

    /// Widens `codes` to 16 bits each for a kernel whose [`code_bytes`](MicroKernel::code_bytes) is 2.
    ///
    /// # Panics
    ///
    /// If the kernel reads codes as they are stored, `codes` is not a multiple of 64 long, or
    /// `wide` is shorter than twice that.
    #[inline]
    pub fn widen(&self, codes: &[u8], wide: &mut [u8]) {
        let leaf = self.widen.expect("a kernel that reads 16-bit codes");
        assert!(codes.len().is_multiple_of(ALIGN), "codes");
        assert!(wide.len() / 2 >= codes.len(), "widened codes");
        let args = WidenArgs {
            codes: codes.as_ptr(),
            len: codes.len(),
            wide: wide.as_mut_ptr(),
        };
        // SAFETY: `Ready` proves CPU support; the asserts prove the lengths.
        unsafe { leaf(&args) }
    }
}

impl Ready<Prologue> {
    /// Codes of all rows of `x` (eq. 3), `codes_stride` bytes apart; codes past the columns of `x`,
    /// up to [`padded_k`], become 0 (stored with the offset, as all are).
    ///
    /// `inv` and `t` are `padded_k` long; what they hold past the columns must be 0. A call without rows or
    /// columns does nothing.
    ///
    /// # Panics
    ///
    /// If `x` has another element type than the row, a length does not fit, `codes_stride` is less than
    /// `padded_k` or not a multiple of 64, or `codes` is not aligned to 64 bytes.
    #[inline]
    pub fn quantize(
        &self,
        x: MatRef<'_>,
        inv: &[f32],
        t: &[f32],
        form: CodeForm,
        codes: &mut [u8],
        codes_stride: usize,
    ) {
        if x.rows() == 0 || x.cols() == 0 {
            return;
        }
        let lines = x.cols().div_ceil(ALIGN);
        let codes = CodesMut::new(codes, x.rows(), lines, codes_stride);
        self.quantize_into(x, inv, t, form, codes);
    }

    /// The same into codes that may be a part of rows, as many rows and lines of them as `x` has.
    ///
    /// # Panics
    ///
    /// If `x` has another element type than the row, or a length or a shape does not fit.
    #[inline]
    pub fn quantize_into(
        &self,
        x: MatRef<'_>,
        inv: &[f32],
        t: &[f32],
        form: CodeForm,
        mut codes: CodesMut<'_>,
    ) {
        assert_eq!(x.elem(), self.source, "source type");
        let shape = (x.rows(), x.cols().div_ceil(ALIGN));
        assert_eq!(shape, (codes.rows(), codes.lines()), "rows and lines");
        if x.rows() == 0 || x.cols() == 0 {
            return;
        }
        let padded = padded_k(x.cols());
        assert!(inv.len() >= padded && t.len() >= padded, "inv and t");
        let args = QuantizeArgs {
            x: x.as_ptr(),
            x_stride: x.stride(),
            m: x.rows(),
            k: x.cols(),
            inv: inv.as_ptr(),
            t: t.as_ptr(),
            max_code: form.max,
            code_offset: form.offset,
            codes: codes.as_mut_ptr(),
            codes_stride: codes.stride(),
        };
        // SAFETY: `Ready` proves CPU support; `MatRef`, `CodesMut` and the asserts prove the rest.
        unsafe { (self.quantize)(&args) }
    }
}

/// What a norm is taken with (eq. 40).
#[derive(Clone, Copy, Debug)]
pub struct NormNumbers<'a> {
    /// About what.
    pub kind: NormKind,
    /// Of each column.
    pub weight: &'a [f32],
    /// Of each column.
    pub bias: &'a [f32],
    /// Added to the mean square.
    pub eps: f32,
}

impl Ready<Norm> {
    /// The norm of each row of `x` (eq. 40) in the same row of `y`. A call without rows or columns does
    /// nothing.
    ///
    /// # Panics
    ///
    /// If `x` or `y` is not of f32, they differ in shape, or there is not a weight and a bias for each
    /// column.
    #[inline]
    pub fn normalize(&self, x: MatRef<'_>, numbers: NormNumbers<'_>, y: MatMut<'_>) {
        let elems = [x.elem(), y.elem()];
        assert_eq!(elems, [Elem::F32; 2], "element types");
        assert_eq!((x.rows(), x.cols()), (y.rows(), y.cols()), "shapes");
        let lengths = [numbers.weight.len(), numbers.bias.len()];
        assert_eq!(lengths, [x.cols(); 2], "weights and biases");
        if x.rows() == 0 || x.cols() == 0 {
            return;
        }
        let mut y = y.into_cells();
        let args = NormArgs {
            x: x.as_ptr().cast(),
            x_stride: x.stride(),
            m: x.rows(),
            k: x.cols(),
            kind: numbers.kind,
            eps: numbers.eps,
            weight: numbers.weight.as_ptr(),
            bias: numbers.bias.as_ptr(),
            y: y.as_mut_ptr().cast(),
            y_stride: y.stride(),
        };
        // SAFETY: `Ready` proves CPU support; `MatRef`, `MatMut` and the asserts prove the rest.
        unsafe { (self.normalize)(&args) }
    }
}

impl Ready<Absmax> {
    /// Raises each of `most` to the largest magnitude of its column of `x`, if that is larger; NaN is left
    /// out (eq. 30). A call without rows does nothing.
    ///
    /// # Panics
    ///
    /// If `x` has another element type than the row, or `most` is not as long as a row of `x`.
    #[inline]
    pub fn raise(&self, x: MatRef<'_>, most: &mut [f32]) {
        assert_eq!(x.elem(), self.source, "source type");
        assert_eq!(x.cols(), most.len(), "columns");
        if x.rows() == 0 || x.cols() == 0 {
            return;
        }
        let args = RaiseArgs {
            x: x.as_ptr(),
            x_stride: x.stride(),
            m: x.rows(),
            k: x.cols(),
            most: most.as_mut_ptr(),
        };
        // SAFETY: `Ready` proves CPU support; `MatRef` and the asserts prove the rest.
        unsafe { (self.raise)(&args) }
    }
}

/// Per-channel constants of an epilogue, each as long as the panel is wide or longer. Scales and biases
/// are finite: only then is the output never NaN, and the same on every instruction set.
#[derive(Clone, Copy, Debug)]
pub struct Channels<'a> {
    /// Integer corrections (eq. 6).
    pub comp: &'a [i32],
    /// Output scales (eq. 8a).
    pub scale: &'a [f32],
    /// Corrected biases (eq. 8b).
    pub bias: &'a [f32],
}

impl Ready<Epilogue> {
    /// `fma((c[m, n] + comp[n]) as f32, scale[n], bias[n])` (eq. 9), then the activation of `y`, then
    /// written, added or quantized as `y` says. `c` has `nr` columns, of which the first `y.cols()` are used.
    /// A call without rows or columns does nothing.
    ///
    /// # Panics
    ///
    /// If `y` has another destination than the row or more than `nr` columns, or if `c` or `channels` is
    /// too short.
    pub fn finish(&self, c: &[i32], nr: usize, channels: Channels<'_>, y: Output<'_>) {
        assert_eq!(y.destination(), self.destination, "destination");
        if y.rows() == 0 || y.cols() == 0 {
            return;
        }
        let needed = y.rows().checked_mul(nr);
        assert!(
            needed.is_some_and(|needed| c.len() >= needed),
            "accumulators"
        );
        let args = self.operands(c, nr, channels, y);
        // SAFETY: `Ready` proves CPU support; `MatMut`, the assert and `operands` prove the rest.
        unsafe { (self.finish)(&args) }
    }

    /// Checks channels and output.
    fn operands(
        &self,
        c: &[i32],
        nr: usize,
        channels: Channels<'_>,
        mut y: Output<'_>,
    ) -> FinishArgs {
        assert_eq!(y.destination(), self.destination, "destination");
        assert!(y.cols() <= nr, "columns");
        let Channels { comp, scale, bias } = channels;
        assert!(
            comp.len() >= nr && scale.len() >= nr && bias.len() >= nr,
            "channels"
        );
        FinishArgs {
            c: c.as_ptr(),
            c_stride: nr,
            m: y.rows(),
            n: y.cols(),
            comp: comp.as_ptr(),
            scale: scale.as_ptr(),
            bias: bias.as_ptr(),
            y: y.as_mut_ptr(),
            y_stride: y.stride(),
            activation: y.activation(),
            coding: y.coding().map_or(CodingArgs::NONE, coding_args),
        }
    }
}

/// What a leaf is given of `coding`. An output for codes has a multiplier and an offset for each of its
/// columns, and of a twin quantizer two of each.
fn coding_args(coding: Coding<'_>) -> CodingArgs {
    let code = |inv: &[f32], t: &[f32], max| CodeArgs {
        inv: inv.as_ptr(),
        t: t.as_ptr(),
        max,
    };
    let coarse = coding.coarse;
    CodingArgs {
        code: code(coding.inv, coding.t, coding.form.max),
        coarse: coarse.map_or(CodeArgs::NONE, |c| code(c.inv, c.t, c.max)),
        shift: coarse.map_or(0, |coarse| coarse.shift),
        code_offset: coding.form.offset,
    }
}

/// Whether a buffer starts on a cache line, as leaves trust.
fn aligned<T>(slice: &[T]) -> bool {
    slice.as_ptr().addr().is_multiple_of(ALIGN)
}
