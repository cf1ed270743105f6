//! What can go wrong: every variant names what was expected and what was got.

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are not a whole, consistent safetensors file.
    #[error("expected a safetensors file, got {length} bytes that are none: {source}")]
    File {
        /// How many bytes there were.
        length: usize,
        /// What the parser found.
        source: safetensors::SafeTensorError,
    },
    /// A metadata entry is missing, unreadable or contradicts the tensors.
    #[error("metadata `{key}`: expected {expected}, got {got}")]
    Metadata {
        /// The entry.
        key: &'static str,
        /// What it should hold.
        expected: String,
        /// What it holds.
        got: String,
    },
    /// A tensor that the model needs is not in the file.
    #[error("tensor `{name}`: expected shape {expected}, got no such tensor")]
    MissingTensor {
        /// The tensor.
        name: String,
        /// The shape it should have.
        expected: String,
    },
    /// A tensor has another shape than the rest of the file calls for.
    #[error("tensor `{name}`: expected shape {expected}, got {got:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// The shape it should have.
        expected: String,
        /// The shape it has.
        got: Vec<usize>,
    },
    /// A tensor has a number type that is not read here.
    #[error("tensor `{name}`: expected {expected}, got {got}")]
    NumberType {
        /// The tensor.
        name: String,
        /// The types that are read.
        expected: &'static str,
        /// The type it has.
        got: String,
    },
    /// A tensor holds a NaN or an infinity.
    #[error("tensor `{name}`: expected finite numbers, got {got} at index {index}")]
    NonFinite {
        /// The tensor.
        name: String,
        /// Index of the first such number in the flat tensor.
        index: usize,
        /// That number.
        got: f32,
    },
    /// The file has a tensor that this architecture does not use: it is another architecture.
    #[error("tensor `{name}`: expected no tensor of this name in a plain ViT, got one")]
    UnexpectedTensor {
        /// The tensor.
        name: String,
    },
    /// A slice has the wrong length, or a batch the wrong size.
    #[error("{what}: expected {expected}, got {got}")]
    Size {
        /// What was measured.
        what: &'static str,
        /// What it should be.
        expected: String,
        /// What it is.
        got: usize,
    },
    /// A workspace was made for a model of other sizes.
    #[error("expected a workspace made for {expected}, got one for {got}")]
    Workspace {
        /// The sizes of the model.
        expected: String,
        /// The sizes that the workspace was made for.
        got: String,
    },
    /// A layer is quantized already and has no f32 weights left.
    #[error("layer `{layer}`: expected f32 weights to quantize, got a quantized layer")]
    AlreadyQuantized {
        /// The layer.
        layer: String,
    },
    /// A layer could not be quantized or run.
    #[error("layer `{layer}`: {source}")]
    Layer {
        /// The layer.
        layer: String,
        /// What the integer layer said.
        source: noisyquant::Error,
    },
    /// The threads that the measurements need could not be started.
    #[error("expected a thread pool of {threads} threads, got: {source}")]
    Threads {
        /// How many threads were asked for.
        threads: usize,
        /// What rayon said.
        source: rayon::ThreadPoolBuildError,
    },
}
