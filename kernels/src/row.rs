//! What the table says of a kernel: the five kinds of rows.

use crate::isa::Isa;
use crate::layout::{Form, PanelLayout, Tile};
use crate::leaf::{
    BlockArgs, FinishArgs, MicroArgs, NormArgs, QuantizeArgs, RaiseArgs, WidenArgs, block_by_steps,
};
use crate::output::Destination;
use crate::strassen::{self, Bias};
use crate::view::Elem;

/// A row of the table: codes × packed weights → a block of i32 accumulators.
#[derive(Debug)]
pub struct MicroKernel {
    /// `<isa>_<a><b>_<MR>x<NR>x<KR>`, where `<b>` is `d` and the bits of a weight of dense panels, or else
    /// `s` and those of the largest weight.
    pub name: &'static str,
    /// What the CPU must have.
    pub isa: Isa,
    /// Register tile.
    pub tile: Tile,
    /// How the packed weights are stored that it reads.
    pub form: Form,
    /// How codes are widened to 16 bits in scratch, for a kernel that reads them so.
    pub(crate) widen: Option<unsafe fn(&WidenArgs)>,
    /// The kernel is exact while `max_code · max_weight` of the operands is at most this; see
    /// [`is_exact_for`](MicroKernel::is_exact_for).
    pub max_product: u32,
    /// The largest code for which the kernel is exact.
    pub max_code: u8,
    /// The largest magnitude of a weight for which the kernel is exact: 128 where a weight of −128 does
    /// no harm, for which a product bound alone would not vouch.
    pub max_weight: u8,
    /// The kernel reads a code `u` as the signed byte `u − code_offset` (wrapping; 128 is the same
    /// as `u ^ 0x80`). Prologues store codes so, and the layer adds `code_offset · Σ_k wq[n, k]` to
    /// the correction of channel `n` in return.
    pub code_offset: u8,
    /// For a kernel whose block leaf multiplies by Strassen's algorithm.
    pub(crate) strassen: Option<Bias>,
    pub(crate) micro: unsafe fn(&MicroArgs),
    pub(crate) block: unsafe fn(&BlockArgs),
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

/// A row of the table: rows of f32 → their norms, of which a prologue makes codes.
#[derive(Debug)]
pub struct Norm {
    /// `<isa>_norm`.
    pub name: &'static str,
    /// What the CPU must have.
    pub isa: Isa,
    pub(crate) normalize: unsafe fn(&NormArgs),
}

/// A row of the table: source elements → the largest magnitude of each column.
#[derive(Debug)]
pub struct Absmax {
    /// `<isa>_<source>_absmax`.
    pub name: &'static str,
    /// What the CPU must have.
    pub isa: Isa,
    /// Element type of the source.
    pub source: Elem,
    pub(crate) raise: unsafe fn(&RaiseArgs),
}

/// A row of the table: i32 accumulators → corrected, scaled and biased outputs, with an activation, and
/// written, added or quantized.
#[derive(Debug)]
pub struct Epilogue {
    /// `<isa>_i32_<destination>`.
    pub name: &'static str,
    /// What the CPU must have.
    pub isa: Isa,
    /// What becomes of an output.
    pub destination: Destination,
    pub(crate) finish: unsafe fn(&FinishArgs),
}

impl MicroKernel {
    /// What most rows have in common, of which a row writes the differences: codes are read as they are
    /// stored, any codes and weights are exact, and blocks are made of steps.
    pub(crate) const DEFAULT: MicroKernel = MicroKernel {
        name: "",
        isa: Isa::Scalar,
        tile: Tile::new(0, 0, 0),
        form: Form::Bytes,
        widen: None,
        max_product: u32::MAX,
        max_code: u8::MAX,
        max_weight: 128,
        code_offset: 0,
        strassen: None,
        micro: unnamed,
        block: block_by_steps,
    };

    /// The packed layout that the kernel reads.
    pub const fn panel(&self) -> PanelLayout {
        PanelLayout {
            form: self.form,
            ..self.tile.panel()
        }
    }

    /// Bytes of one code as the kernel reads it: 2 where codes go through
    /// [`widen`](crate::ready::Ready::<MicroKernel>::widen) first.
    pub const fn code_bytes(&self) -> usize {
        if self.widen.is_some() { 2 } else { 1 }
    }

    /// Whether a block of `rows` rows of `k` inputs is multiplied by Strassen's algorithm, with seven
    /// products in place of eight.
    pub fn is_strassen(&self, rows: usize, k: usize) -> bool {
        self.strassen.is_some() && strassen::applies(rows, k)
    }

    /// Panels that belong together: a call of the block leaf of a kernel that reads
    /// [corrections](Self::correct) takes whole pairs, but for the last panel.
    pub fn together(&self) -> usize {
        if self.strassen.is_some() { 2 } else { 1 }
    }

    /// Corrections that the block leaf reads beside `panels` panels of `k` inputs.
    ///
    /// # Panics
    ///
    /// If that overflows.
    pub fn corrections(&self, panels: usize, k: usize) -> usize {
        let pair = (self.strassen).map_or(0, |_| strassen::corrections(self.tile, k));
        let all = (panels / 2).checked_mul(pair);
        all.expect("corrections: expected fewer than memory has")
    }

    /// Makes the corrections of `panels`, whole panels of `k` inputs: what sums of codes that are stored with
    /// something added (docs/math.md, after eq. 43) add to the outputs of a pair.
    ///
    /// # Panics
    ///
    /// If there are not as many as [`corrections`](Self::corrections) says.
    pub fn correct(&self, panels: &[i8], k: usize, corrections: &mut [i32]) {
        let panel = self.panel().panel_bytes(k);
        let expected = self.corrections(panels.len() / panel, k);
        assert_eq!(corrections.len(), expected, "corrections");
        let Some(bias) = self.strassen.filter(|_| expected > 0) else {
            return;
        };
        let pairs = panels.chunks_exact(2 * panel);
        let each = corrections.chunks_exact_mut(strassen::corrections(self.tile, k));
        for (pair, corrections) in pairs.zip(each) {
            strassen::correct(pair, self.tile, bias, corrections);
        }
    }

    /// Values of working memory that the block leaf has a use for beside accumulators, for blocks of `rows`
    /// rows of `k` inputs: whole cache lines. More rows never take less.
    ///
    /// # Panics
    ///
    /// If that overflows.
    pub fn room(&self, rows: usize, k: usize) -> usize {
        match self.strassen {
            Some(_) => strassen::room(self.tile, rows, k),
            // A panel of 16-bit weights.
            None if self.widen.is_some() => self.panel().panel_bytes(k) / 2,
            None => 0,
        }
    }

    /// Whether the kernel is exact for all codes up to `max_code` and all weights of magnitudes up to
    /// `max_weight`, which is 128 where −128 occurs.
    pub const fn is_exact_for(&self, max_code: u8, max_weight: u8) -> bool {
        max_code <= self.max_code
            && max_weight <= self.max_weight
            && max_code as u32 * max_weight as u32 <= self.max_product
    }
}

/// The micro-kernel of [`MicroKernel::DEFAULT`]; every row names its own.
unsafe fn unnamed(_: &MicroArgs) {
    unreachable!("a row without a micro-kernel");
}
