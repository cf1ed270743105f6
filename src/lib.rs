#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod auto;
mod builder;
mod calibrator;
mod check;
mod compensate;
mod dynamic;
mod error;
mod gemm;
pub mod io;
mod kernels;
mod linear;
mod matrix;
mod noise;
mod objective;
mod parallel;
mod parts;
mod plan;
mod problem;
mod quantizer;
mod recipe;
mod refine;
mod scratch;
mod search;
pub mod theory;
mod weights;

pub use auto::{Candidates, Outcome};
pub use builder::Builder;
pub use calibrator::{Calibrated, Calibrator, FloatLayer, LayerReport, Reservoir, calibrate};
pub use dynamic::{DynamicMatmul, DynamicRange};
pub use error::Error;
pub use linear::QuantLinear;
pub use noise::Noise;
pub use noisyquant_kernels::isa::Isa;
pub use noisyquant_kernels::view::{Elem, Element, MatMut, MatRef};
pub use objective::{Errors, Objective};
pub use plan::{Plan, Split};
pub use quantizer::{Quantizer, Range};
pub use recipe::{ChannelScale, Recipe, Shift};
pub use refine::Refine;
pub use scratch::Scratch;
pub use weights::{WeightQuantizer, WeightRange};
