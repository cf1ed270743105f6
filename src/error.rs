//! What can be wrong with what a caller passes in.

use alloc::string::String;

use noisyquant_kernels::isa::Isa;
use noisyquant_kernels::view::{Elem, ViewError};

/// Everything that building or running a layer can refuse. Each message names what was expected and
/// what was got.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A slice has the wrong number of elements.
    #[error("{what}: expected {expected} elements, got {got}")]
    Length {
        /// The operand.
        what: &'static str,
        /// Elements needed.
        expected: usize,
        /// Elements given.
        got: usize,
    },
    /// A slice should hold whole rows.
    #[error("{what}: expected rows of {cols} elements, got {got} elements")]
    Rows {
        /// The operand.
        what: &'static str,
        /// Elements of a row.
        cols: usize,
        /// Elements given.
        got: usize,
    },
    /// A matrix has the wrong shape.
    #[error("{what}: expected {expected:?} (rows, columns), got {got:?}")]
    Shape {
        /// The operand.
        what: &'static str,
        /// Shape needed.
        expected: (usize, usize),
        /// Shape given.
        got: (usize, usize),
    },
    /// A dimension is zero, over its limit, or overflows.
    #[error("{what}: expected {expected}, got {got}")]
    Dimension {
        /// The dimension.
        what: &'static str,
        /// The range allowed.
        expected: String,
        /// The value given.
        got: usize,
    },
    /// A value is NaN, infinite, or outside its range.
    #[error("{what}: expected {expected}, got {got} at index {index}")]
    Value {
        /// The operand.
        what: &'static str,
        /// What is allowed.
        expected: &'static str,
        /// The value given.
        got: f32,
        /// Where it stands; 0 for a single value.
        index: usize,
    },
    /// The chosen quantizer or noise needs calibration rows.
    #[error(
        "{what} needs calibration rows: expected at least 1, got 0 (see Builder::calibration_rows)"
    )]
    Calibration {
        /// What needs them.
        what: &'static str,
    },
    /// Noise or zero point are so large against the weights that `acc + comp` could leave i32.
    #[error(
        "output channel {channel}: expected every accumulator plus its correction to fit i32, \
         got a noise or zero point that may exceed it (offsets up to {largest} steps)"
    )]
    CorrectionOverflow {
        /// The first channel where it could happen.
        channel: usize,
        /// Largest offset, in quantization steps.
        largest: f32,
    },
    /// Memory does not hold the matrix that it should be viewed as.
    #[error(transparent)]
    View(#[from] ViewError),
    /// Memory starts at the wrong address.
    #[error(
        "{what}: expected an address that is a multiple of {expected}, got one {past} bytes past"
    )]
    Alignment {
        /// The operand.
        what: &'static str,
        /// What the address should be a multiple of, in bytes.
        expected: usize,
        /// Bytes by which it is past such an address.
        past: usize,
    },
    /// The system does not give so much memory.
    #[error("{what}: expected {bytes} bytes of memory, got none")]
    Memory {
        /// What it is for.
        what: &'static str,
        /// Bytes asked for.
        bytes: usize,
    },
    /// rayon's pool has no threads here: the system refused them, or a `fork()` left them behind.
    #[error("threads: expected a pool of them, got: {got}")]
    Threads {
        /// What went wrong.
        got: String,
    },
    /// Two layers of a set have the same name.
    #[error("layer names: expected each once, got {name:?} twice")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// The scratch cannot hold one block of this layer.
    #[error("{what}: expected at least {expected} bytes for {rows} rows, got {got}")]
    ScratchTooSmall {
        /// The memory: scratch, or that of a packed operand.
        what: &'static str,
        /// Bytes needed.
        expected: usize,
        /// Bytes that the scratch has.
        got: usize,
        /// Rows of the call.
        rows: usize,
    },
    /// Codes are not those that a layer reads, or a layer has none that another could write.
    #[error("codes: expected {expected}, got {got}")]
    Codes {
        /// What is needed.
        expected: &'static str,
        /// What was given.
        got: &'static str,
    },
    /// Norms are of f32 alone, and outputs are added to them alone.
    #[error("{what}: expected f32, got {}", got.name())]
    Element {
        /// The operand.
        what: &'static str,
        /// The element type given.
        got: Elem,
    },
    /// No kernel of the instruction set is exact for such operands.
    #[error(
        "instruction set {isa}: expected a kernel that is exact for activation codes up to {max_code} and \
         weight codes of magnitudes up to {max_weight}, got none"
    )]
    NotExact {
        /// The set.
        isa: Isa,
        /// Largest activation code.
        max_code: u8,
        /// Largest magnitude of a weight code; 128 where one is −128.
        max_weight: u8,
    },
    /// The instruction set asked for is not there.
    #[error("instruction set {isa}: expected one that this CPU can run ({available}), got {isa}")]
    IsaUnavailable {
        /// The set asked for.
        isa: Isa,
        /// Names of those that are there.
        available: String,
    },
    /// `NOISYQUANT_ISA` names no instruction set.
    #[error("NOISYQUANT_ISA: expected one of {expected}, got {got:?}")]
    IsaUnknown {
        /// All names.
        expected: String,
        /// The name given.
        got: String,
    },
    /// A file is not one of quantized layers.
    #[error("file: expected {expected}, got {got}")]
    File {
        /// What should be there.
        expected: String,
        /// What is there, or what went wrong.
        got: String,
    },
}
