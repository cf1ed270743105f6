//! What a layer is: its numbers, and the layer that is made of them.

pub(crate) mod affine;
pub(crate) mod assemble;
pub(crate) mod codes;
#[cfg(feature = "io")]
pub mod io;
pub(crate) mod linear;
pub(crate) mod mlp;
pub(crate) mod norm;
pub(crate) mod numbers;
pub(crate) mod operands;
