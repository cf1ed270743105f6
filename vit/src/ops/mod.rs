//! What a model does with numbers: linear layers, attention, and the f32 steps between them.
//!
//! LayerNorm, GELU and addition run on the calling thread; who has many rows gives a part of them to
//! each thread. Additions keep a fixed order, and multiplications and additions are fused where
//! `mul_add` says so and nowhere else, so the results have the same bits on every CPU.

mod add;
mod attention;
mod gelu;
mod gelu_by_sigmoid;
mod linear;
mod lines;
mod norm;
mod vectorise;

pub(crate) use add::{add, mean_of_rows};
pub(crate) use attention::{Arithmetic, AttentionScratch, AttentionSizes, Bias, Heads, MAX_KEYS};
pub(crate) use gelu::gelu;
pub(crate) use gelu_by_sigmoid::{gelu_tanh, quick_gelu};
pub use linear::{FloatLinear, Linear, float_kernel};
pub(crate) use lines::{Lines, scratch};
pub(crate) use norm::LayerNorm;
