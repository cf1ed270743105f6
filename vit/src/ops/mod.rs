//! What a model does with numbers: linear layers, attention, and the f32 steps between them.
//!
//! Norms, GELU and addition run on the calling thread; who has many rows gives a part of them to
//! each thread. Additions keep a fixed order, and multiplications and additions are fused where
//! `mul_add` says so and nowhere else, so the results have the same bits on every CPU.

mod activate;
mod add;
mod attention;
mod linear;
mod lines;
mod norm;
mod vectorise;

pub(crate) use activate::activate;
pub(crate) use add::{add, mean_of_rows};
pub(crate) use attention::{
    Arithmetic, AttentionScratch, AttentionSizes, Bias, Heads, MAX_KEYS, Mixed,
};
pub use linear::{FloatLinear, Linear, float_kernel};
pub(crate) use lines::{Lines, scratch};
pub(crate) use norm::{add_normalise, normalise};
