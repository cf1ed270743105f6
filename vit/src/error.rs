//! What can go wrong: every variant names what was expected and what was got.

use std::path::{Path, PathBuf};

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
    /// The bytes are those of another format, which is known.
    #[error("expected {expected}, got {got}")]
    Format {
        /// What they should be.
        expected: &'static str,
        /// What they are.
        got: String,
    },
    /// A file or folder could not be opened.
    #[error("{}: expected a readable file or folder, got: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something is wrong in a file.
    #[error("{}: {source}", path.display())]
    At {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong there.
        source: Box<Error>,
    },
    /// A JSON text is damaged or not of the form that is expected.
    #[error("{what}: expected JSON of the usual form, got: {source}")]
    Json {
        /// The file or entry.
        what: String,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// A setting is missing, unreadable, contradicts the tensors or is not supported.
    #[error("{what}: expected {expected}, got {got}")]
    Setting {
        /// The setting and where it stands.
        what: String,
        /// What it should be.
        expected: String,
        /// What it is.
        got: String,
    },
    /// No tensor has a name that a supported architecture uses.
    #[error("expected a ViT, DeiT, DINOv2 or Swin checkpoint of timm or Hugging Face, got {got}")]
    Architecture {
        /// What is there.
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
    /// What a file's header promises could not be read: the file has become shorter, or its disk fails.
    #[error("{what}: expected its bytes in the file, got: {source}")]
    Read {
        /// The tensor.
        what: String,
        /// What the system said.
        source: std::io::Error,
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
    #[error("tensor `{name}`: expected no tensor of this name in a {architecture}, got one")]
    UnexpectedTensor {
        /// The tensor.
        name: String,
        /// The architecture that the other tensors make.
        architecture: String,
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
    /// Calibration and model do not belong together.
    #[error("calibration: expected inputs of the model's {expected} layers, got those of {got}")]
    Calibration {
        /// Linear layers of the model.
        expected: usize,
        /// Linear layers of the calibration.
        got: usize,
    },
    /// The quantized layers of a file could not be read or stored.
    #[error("quantized layers: {0}")]
    Quantized(noisyquant::Error),
    /// Two models that are to be compared are not of the same architecture and sizes.
    #[error("expected a quantization of this model: {expected}; got: {got}")]
    Pair {
        /// The float model.
        expected: String,
        /// The quantized model.
        got: String,
    },
    /// A quantized model was made of other tensors than those of the float model.
    #[error(
        "expected a quantization of this checkpoint, whose tensors have digest {expected}, got one of \
         tensors with digest {got}"
    )]
    Origin {
        /// Digest of the float model.
        expected: String,
        /// Digest that the quantized model has of its own.
        got: String,
    },
    /// A model's output for an image is not a number, or infinite.
    #[error("image {image}: expected finite outputs of the {model} model, got {got}")]
    Outputs {
        /// The image.
        image: String,
        /// Which of two models.
        model: &'static str,
        /// The output.
        got: f32,
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

impl Error {
    /// This error with the file that it is about.
    pub(crate) fn at(self, path: &Path) -> Self {
        Self::At {
            path: path.to_path_buf(),
            source: Box::new(self),
        }
    }

    /// What wraps an integer layer's error with the name of the layer.
    pub(crate) fn layer(name: &str) -> impl Fn(noisyquant::Error) -> Self {
        move |source| Self::Layer {
            layer: name.into(),
            source,
        }
    }

    pub(crate) fn open(path: &Path, source: std::io::Error) -> Self {
        Self::Open {
            path: path.to_path_buf(),
            source,
        }
    }
}
