//! What the table says of a kernel: the five kinds of rows.

use crate::isa::Isa;
use crate::layout::Tile;
use crate::leaf::{
    BlockArgs, FinishArgs, MicroArgs, NormArgs, QuantizeArgs, RaiseArgs, WidenArgs, block_by_steps,
};
use crate::output::Destination;
use crate::view::Elem;

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
    /// The largest magnitude of a weight for which the kernel is exact: 128 where a weight of −128 does
    /// no harm, for which a product bound alone would not vouch.
    pub max_weight: u8,
    /// The kernel reads a code `u` as the signed byte `u − code_offset` (wrapping; 128 is the same
    /// as `u ^ 0x80`). Prologues store codes so, and the layer adds `code_offset · Σ_k wq[n, k]` to
    /// the correction of channel `n` in return.
    pub code_offset: u8,
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
        widen: None,
        max_product: u32::MAX,
        max_code: u8::MAX,
        max_weight: 128,
        code_offset: 0,
        micro: unnamed,
        block: block_by_steps,
    };

    /// Bytes of one code as the kernel reads it: 2 where codes go through
    /// [`widen`](crate::ready::Ready::<MicroKernel>::widen) first.
    pub const fn code_bytes(&self) -> usize {
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
