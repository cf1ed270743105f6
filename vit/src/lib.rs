//! Vision transformers whose every linear layer runs in f32 or as a [`noisyquant::QuantLinear`].
//!
//! [`Model::open`] reads a checkpoint of ViT, DeiT, DINOv2 or Swin with the tensor names of timm or of
//! Hugging Face's transformers. A [`Calibration`] samples the inputs of its layers on a few images,
//! [`Model::quantize`] replaces each layer as a [`LayerPlan`] says, and [`Model::to_bytes`] makes one
//! file of the result, which [`Model::open`] reads again. A small model and the images to judge it by
//! are embedded ([`embedded`]); [`demo`] measures on them what quantization and its noise do to
//! accuracy and to latency.
//!
//! Around that, [`photo`] makes a model's input of an image file, [`compare`] puts a quantized model next to
//! its float model, [`bench`](mod@bench) times models in turn, [`report`] writes a page about them, and
//! [`cli`] is the command `noisyquant`.
//!
//! ```
//! use noisyquant_vit::{Calibration, LayerPlan, Model, Output, Workspace, embedded};
//!
//! let float = Model::from_safetensors(embedded::WEIGHTS)?;
//! let images = embedded::calibration()?.normalised(float.config(), 0..16)?;
//! let mut calibration = Calibration::new(&float, 256, 0)?;
//! calibration.observe(&float, &images, &mut Workspace::new(&float, 16))?;
//! let (quantized, _) = float.quantize(&|_| LayerPlan::new(8), &calibration, &|_| ())?;
//!
//! let test = embedded::test()?;
//! let mut logits = [0.0; 10];
//! let mut workspace = Workspace::new(&quantized, 1);
//! let image = test.normalised(float.config(), 0..1)?;
//! quantized.forward(&image, &mut Output::logits(&mut logits), &mut workspace)?;
//! # Ok::<(), noisyquant_vit::Error>(())
//! ```

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod checkpoint;
pub mod cli;
mod config;
mod error;
mod input;
mod measure;
mod model;
mod ops;
mod quantize;
mod readable;
mod store;
mod warning;

pub use config::{
    Activation, Architecture, Config, Head, Interpolation, Judgement, Overrides, Padding,
    Preprocess, StageConfig, SwinConfig, VitConfig,
};
pub use error::Error;
pub use input::{Images, embedded, photo};
pub use measure::{bench, compare, demo, report};
pub use model::{Attention, Layer, LayerReport, Model, Observed, Operation, Output, Workspace};
pub use ops::{FloatLinear, Linear, float_kernel};
pub use quantize::{Calibration, Choice, LayerPlan, Uninformative};
pub use store::OpenOptions;
pub use warning::{Warning, Warnings};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
