#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod calibrate;
mod error;
mod gemm;
mod kernels;
mod linear;
mod noise;
mod parallel;
mod plan;
mod quantizer;
mod scratch;
pub mod theory;
mod weights;

pub use error::Error;
pub use linear::{Builder, QuantLinear};
pub use noise::Noise;
pub use noisyquant_kernels::isa::Isa;
pub use noisyquant_kernels::view::{Elem, Element, MatMut, MatRef};
pub use plan::{Plan, Split};
pub use quantizer::{Quantizer, Range};
pub use scratch::Scratch;
