//! Vision transformers whose every linear layer runs in f32 or as a [`noisyquant::QuantLinear`].
//!
//! A model is read from a safetensors file with timm's tensor names ([`Vit::from_safetensors`]),
//! run on images in f32, calibrated on a few of them ([`Calibration::collect`]) and quantized layer
//! by layer by a [`Recipe`] ([`Vit::quantize`]). A small model and the images to judge it by are
//! embedded ([`embedded`]); [`demo`] measures on them what quantization and its noise do to
//! accuracy and to latency.
//!
//! ```
//! use noisyquant_vit::{Calibration, Recipe, Vit, Workspace, embedded};
//!
//! let float = Vit::from_safetensors(embedded::WEIGHTS)?;
//! let images = embedded::calibration()?.normalised(float.config(), 0..16)?;
//! let calibration = Calibration::collect(&float, &images, 256)?;
//! let quantized = float.quantize(&Recipe::new(8), &calibration)?;
//!
//! let test = embedded::test()?;
//! let mut logits = [0.0; 10];
//! let mut workspace = Workspace::new(&quantized, 1);
//! quantized.forward(&test.normalised(float.config(), 0..1)?, &mut logits, &mut workspace)?;
//! # Ok::<(), noisyquant_vit::Error>(())
//! ```

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod attention;
mod calibrate;
mod config;
pub mod demo;
pub mod embedded;
mod error;
mod images;
mod linear;
mod model;
mod ops;
mod tensor_file;
mod workspace;

pub use calibrate::{Calibration, Recipe};
pub use config::Config;
pub use error::Error;
pub use images::Images;
pub use linear::{FloatLinear, Linear, float_kernel};
pub use model::Vit;
pub use workspace::Workspace;
