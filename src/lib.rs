//! # noisyquant
//!
//! int8 and int6 linear layers of vision transformers on CPUs, with
//! [NoisyQuant](https://arxiv.org/abs/2211.16056) (CVPR 2023) built in, on hand-written SIMD kernels
//! that give the same bits on every CPU.
//!
//! ```
//! use noisyquant::{Noise, QuantLinear, Quantizer, Range};
//!
//! # fn main() -> Result<(), noisyquant::Error> {
//! // A linear layer of 3 outputs and 4 inputs, as PyTorch stores it: weight [out, in], bias [out].
//! let weight = [0.5, -1.0, 0.25, 2.0, 1.0, 1.0, -1.0, 0.0, 0.1, 0.2, 0.3, 0.4f32];
//! let bias = [0.1, 0.2, 0.3];
//! // Real inputs of the layer, [rows, in]; here two rows.
//! let rows = [0.1, -0.9, 0.4, 3.0, 0.2, 0.8, -0.5, -2.0f32];
//!
//! let layer = QuantLinear::builder(&weight, 3, 4)
//!     .bias(&bias)
//!     .weight_bits(8)
//!     .activation_bits(6)
//!     .quantizer(Quantizer::symmetric(Range::MinMax))
//!     .noise(Noise::Searched { seed: 0 })
//!     .calibrate(&rows)
//!     .build()?;
//!
//! let mut scratch = layer.scratch(2); // reuse it: `forward_into` does not allocate
//! let mut y = [0f32; 6];
//! layer.forward_into(&rows, &mut y, &mut scratch)?;
//! println!("{}", layer.explain(2)); // which kernel and blocking ran, and why
//! # Ok(())
//! # }
//! ```
//!
//! The layer computes `f(X) = Qw(W) · Qa(X + N) + (B − Qw(W) · N)` in one pass over the input: noise,
//! quantization, integer product, correction and output conversion. The numerics are fixed by
//! [`spec`](noisyquant_kernels::spec) and written down in `docs/math.md`.

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
