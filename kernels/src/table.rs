//! The kernel table: one row per kernel, and the only way to reach one.
//!
//! Rows are data and list kernels for the whole target architecture. A row becomes callable as a
//! [`Ready`], which exists only if the CPU at hand can run it. Tests, benches, fuzz targets and the
//! layer's choice of kernel iterate the table, so a new row needs no edit anywhere else.

use core::fmt;
use core::ops::Deref;

use crate::arch;
use crate::isa::Isa;
use crate::layout::Tile;
use crate::leaf::{BlockArgs, FinishArgs, MicroArgs, QuantizeArgs, WidenArgs};
use crate::scalar;
use crate::view::{Elem, MatMut, MatRef};

/// A row of the table: codes × packed weights → a block of i32 accumulators.
#[derive(Debug)]
pub struct MicroKernel {
    /// `<isa>_<a><b>_<MR>x<NR>x<KR>`.
    pub name: &'static str,
    /// What the CPU must have.
    pub isa: Isa,
    /// Register tile.
    pub tile: Tile,
    /// How codes are widened to 16 bits in scratch, for a kernel that reads them so.
    pub(crate) widen: Option<unsafe fn(&WidenArgs)>,
    /// The kernel is exact while `max_code · max_weight` of the operands is at most this; see
    /// [`is_exact_for`](MicroKernel::is_exact_for).
    pub max_product: u32,
    /// The largest code for which the kernel is exact.
    pub max_code: u8,
    /// The largest weight, in magnitude, for which the kernel is exact.
    pub max_weight: i8,
    /// The kernel reads a code `u` as the signed byte `u − code_offset` (wrapping; 128 is the same
    /// as `u ^ 0x80`). Prologues store codes so, and the layer adds `code_offset · Σ_k wq[n, k]` to
    /// the correction of channel `n` in return.
    pub code_offset: u8,
    pub(crate) micro: unsafe fn(&MicroArgs),
    pub(crate) block: unsafe fn(&MicroKernel, &BlockArgs),
    pub(crate) probe: unsafe fn(u64) -> u64,
}

/// A row of the table: source elements → codes, with scale, noise and zero point in one FMA.
#[derive(Debug)]
pub struct Prologue {
    /// `<isa>_<source>_u8`.
    pub name: &'static str,
    /// What the CPU must have.
    pub isa: Isa,
    /// Element type of the source.
    pub source: Elem,
    pub(crate) quantize: unsafe fn(&QuantizeArgs),
}

/// A row of the table: i32 accumulators → corrected, scaled and biased output elements.
#[derive(Debug)]
pub struct Epilogue {
    /// `<isa>_i32_<destination>`.
    pub name: &'static str,
    /// What the CPU must have.
    pub isa: Isa,
    /// Element type of the destination.
    pub destination: Elem,
    pub(crate) finish: unsafe fn(&FinishArgs),
}

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

/// All micro-kernels of this target, the scalar rows first.
pub fn micro_kernels() -> impl Iterator<Item = &'static MicroKernel> {
    scalar::MICRO_KERNELS.iter().chain(arch::MICRO_KERNELS)
}

/// All prologues of this target.
pub fn prologues() -> impl Iterator<Item = &'static Prologue> {
    scalar::PROLOGUES.iter().chain(arch::PROLOGUES)
}

/// All epilogues of this target.
pub fn epilogues() -> impl Iterator<Item = &'static Epilogue> {
    scalar::EPILOGUES.iter().chain(arch::EPILOGUES)
}

/// The prologue for `isa` and `source`, or `None` if the CPU lacks the set.
pub fn prologue(isa: Isa, source: Elem) -> Option<Ready<Prologue>> {
    let row = prologues().find(|row| row.isa == isa.base() && row.source == source)?;
    row.ready()
}

/// The epilogue for `isa` and `destination`, or `None` if the CPU lacks the set.
pub fn epilogue(isa: Isa, destination: Elem) -> Option<Ready<Epilogue>> {
    let row = epilogues().find(|row| row.isa == isa.base() && row.destination == destination)?;
    row.ready()
}

impl MicroKernel {
    /// Bytes of one code as the kernel reads it: 2 where codes go through
    /// [`widen`](Ready::<MicroKernel>::widen) first.
    pub fn code_bytes(&self) -> usize {
        if self.widen.is_some() { 2 } else { 1 }
    }

    /// 16-bit weights that the block leaf keeps in working memory, for `k` inputs: those of a panel
    /// where the kernel reads 16-bit codes, else none.
    pub const fn wide_panel(&self, k: usize) -> usize {
        match self.widen {
            Some(_) => self.tile.panel().panel_bytes(k),
            None => 0,
        }
    }

    /// Whether the kernel is exact for all codes up to `max_code` and weights up to `max_weight`.
    pub fn is_exact_for(&self, max_code: u8, max_weight: i8) -> bool {
        max_code <= self.max_code
            && max_weight <= self.max_weight
            && u32::from(max_code) * u32::from(max_weight.unsigned_abs()) <= self.max_product
    }

    /// The row as something to call, or `None` if the CPU lacks the set.
    pub fn ready(&'static self) -> Option<Ready<MicroKernel>> {
        self.isa.is_available().then_some(Ready(self))
    }
}

impl Prologue {
    /// The row as something to call, or `None` if the CPU lacks the set.
    pub fn ready(&'static self) -> Option<Ready<Prologue>> {
        self.isa.is_available().then_some(Ready(self))
    }
}

impl Epilogue {
    /// The row as something to call, or `None` if the CPU lacks the set.
    pub fn ready(&'static self) -> Option<Ready<Epilogue>> {
        self.isa.is_available().then_some(Ready(self))
    }
}

/// Codes of `rows` rows, for a micro-kernel.
#[derive(Clone, Copy, Debug)]
pub struct Codes<'a> {
    /// The bytes, 64-byte aligned rows not required.
    pub bytes: &'a [u8],
    /// Bytes from one row to the next.
    pub stride: usize,
    /// Number of rows.
    pub rows: usize,
}

fn aligned<T>(slice: &[T]) -> bool {
    slice.as_ptr().addr().is_multiple_of(crate::layout::ALIGN)
}

impl Ready<MicroKernel> {
    /// `c[m, n] = Σ_k codes[m, k] · b[n, k]` (eq. 4) for all rows of `codes` and one panel `b`. Codes
    /// are as stored: signed bytes where the row has a [`code_offset`](MicroKernel::code_offset).
    ///
    /// `b` is a multiple of `NR · 64` long and sets `k`; `c` is dense, `rows × NR`.
    ///
    /// # Panics
    ///
    /// If a length does not fit, or `b` or `c` is not aligned to 64 bytes.
    pub fn run(&self, codes: Codes<'_>, b: &[i8], c: &mut [i32]) {
        assert!(c.len() / self.tile.nr >= codes.rows, "accumulators");
        if codes.rows > 0 {
            let args = self.operands(codes, b, 1, c);
            // SAFETY: `Ready` proves CPU support, `operands` and the assert the rest.
            unsafe { (self.micro)(&args) }
        }
    }

    /// The product of all rows of `codes` with all channels of `y`, finished into `y` (eq. 4 and 9) by
    /// `epilogue`, or by the kernel itself as that would, while the sums are in registers. `b` holds their panels; `working` is memory for
    /// [`wide_panel`](MicroKernel::wide_panel) weights and at least one tile of accumulators, better a
    /// few.
    ///
    /// # Panics
    ///
    /// If a length does not fit, `y` has another element type than the epilogue, or `b` or `working` is
    /// not aligned to 64 bytes.
    pub fn run_block(
        &self,
        codes: Codes<'_>,
        b: &[i8],
        epilogue: Ready<Epilogue>,
        channels: Channels<'_>,
        working: &mut [i32],
        y: MatMut<'_>,
    ) {
        let (nr, rows, columns) = (self.tile.nr, y.rows(), y.cols());
        let panels = columns.div_ceil(nr);
        assert_eq!(codes.rows, rows, "rows");
        if rows == 0 || columns == 0 {
            return;
        }
        let wide = self.wide_panel(b.len() / (nr * panels)) / 2;
        assert!(working.len() >= wide + nr * self.tile.mr, "working memory");
        let (wide_panel, c) = working.split_at_mut(wide);
        let step = c.len() / nr;
        let args = BlockArgs {
            first: self.operands(codes, b, panels, c),
            panels,
            step,
            wide_panel: wide_panel.as_mut_ptr().cast(),
            finish: epilogue.finish,
            destination: y.elem(),
            output: epilogue.operands(&[], panels * nr, channels, y),
        };
        // SAFETY: `Ready` proves CPU support, the two `operands` and the asserts the rest.
        unsafe { (self.block)(self, &args) }
    }

    /// Checks codes and panels.
    fn operands(&self, codes: Codes<'_>, b: &[i8], panels: usize, c: &mut [i32]) -> MicroArgs {
        let k = b.len() / (self.tile.nr * panels);
        let whole = self.tile.nr * panels * crate::layout::K_ALIGN;
        assert!(
            !b.is_empty() && b.len().is_multiple_of(whole),
            "packed panels"
        );
        assert!(aligned(b) && aligned(c), "alignment to 64 bytes");
        let last = codes.bytes.len().checked_sub(k * self.code_bytes());
        let last_row = (codes.rows - 1).checked_mul(codes.stride);
        assert!(last_row.is_some() && last >= last_row, "codes");
        MicroArgs {
            a: codes.bytes.as_ptr(),
            a_stride: codes.stride,
            b: b.as_ptr(),
            k,
            m: codes.rows,
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
        assert!(codes.len().is_multiple_of(crate::layout::ALIGN), "codes");
        assert!(wide.len() / 2 >= codes.len(), "widened codes");
        let args = WidenArgs {
            codes: codes.as_ptr(),
            len: codes.len(),
            wide: wide.as_mut_ptr(),
        };
        // SAFETY: `Ready` proves CPU support; the asserts prove the lengths.
        unsafe { leaf(&args) }
    }

    /// Runs the kernel's dot-product instructions `steps` times on registers alone and returns the
    /// number of multiply-accumulates done: the peak that benches compare with.
    pub fn probe(&self, steps: u64) -> u64 {
        // SAFETY: `Ready` proves CPU support, and the probe touches no memory.
        unsafe { (self.probe)(steps) }
    }
}

/// Which codes a prologue stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeForm {
    /// The largest code, at which others saturate (eq. 3).
    pub max: u8,
    /// Subtracted from each code as it is stored, wrapping: the
    /// [`code_offset`](MicroKernel::code_offset) of the micro-kernel that will read it.
    pub offset: u8,
}

impl Ready<Prologue> {
    /// Codes of all rows of `x` (eq. 3), `codes_stride` bytes apart; codes past the columns of `x`,
    /// up to `padded_k`, become 0 (stored with the offset, as all are).
    ///
    /// `inv` and `t` are `padded_k` long; what they hold past the columns must be 0.
    ///
    /// # Panics
    ///
    /// If a length does not fit, `x` has another element type than the row, or `codes` is not
    /// aligned to 64 bytes.
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
        let padded = crate::layout::padded_k(x.cols());
        assert_eq!(x.elem(), self.source, "source type");
        assert!(inv.len() >= padded && t.len() >= padded, "inv and t");
        assert!(aligned(codes), "alignment to 64 bytes");
        if x.rows() == 0 || padded == 0 {
            return;
        }
        assert!(codes_stride >= padded && codes_stride.is_multiple_of(crate::layout::ALIGN));
        let needed = ((x.rows() - 1).checked_mul(codes_stride)).and_then(|v| v.checked_add(padded));
        assert!(needed.is_some_and(|needed| codes.len() >= needed), "codes");
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
            codes_stride,
        };
        // SAFETY: `Ready` proves CPU support; `MatRef` and the asserts prove the rest.
        unsafe { (self.quantize)(&args) }
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
    /// `y[m, n] = fma((c[m, n] + comp[n]) as f32, scale[n], bias[n])` (eq. 9), rounded to the
    /// destination type. `c` has `nr` columns, of which the first `y.cols()` are used.
    ///
    /// # Panics
    ///
    /// If a length does not fit or `y` has another element type than the row.
    pub fn finish(&self, c: &[i32], nr: usize, channels: Channels<'_>, y: MatMut<'_>) {
        assert!(
            y.rows().checked_mul(nr).is_some_and(|len| c.len() >= len),
            "accumulators"
        );
        let args = self.operands(c, nr, channels, y);
        if args.m == 0 || args.n == 0 {
            return;
        }
        // SAFETY: `Ready` proves CPU support; `MatMut`, the assert and `operands` prove the rest.
        unsafe { (self.finish)(&args) }
    }

    /// Checks channels and output.
    fn operands(
        &self,
        c: &[i32],
        nr: usize,
        channels: Channels<'_>,
        mut y: MatMut<'_>,
    ) -> FinishArgs {
        assert_eq!(y.elem(), self.destination, "destination type");
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_grammar_and_are_unique() {
        let mut names: Vec<&str> = Vec::new();
        for row in micro_kernels() {
            let Tile { mr, nr, kr } = row.tile;
            let prefix = format!("{}_u", row.isa);
            let suffix = format!("_{mr}x{nr}x{kr}");
            assert!(row.name.starts_with(&prefix), "{}", row.name);
            assert!(row.name.ends_with(&suffix), "{}", row.name);
            names.push(row.name);
        }
        names.extend(prologues().map(|row| row.name));
        names.extend(epilogues().map(|row| row.name));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn every_isa_with_micro_kernels_has_prologues_and_epilogues() {
        for row in micro_kernels() {
            for elem in Elem::ALL {
                let isa = row.isa.base();
                assert!(prologues().any(|p| p.isa == isa && p.source == elem));
                assert!(epilogues().any(|e| e.isa == isa && e.destination == elem));
            }
        }
    }
}
