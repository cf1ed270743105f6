//! Checkpoints: files, the tensors in them, and how those are named.

mod bytes;
mod files;
mod names;
mod tensors;

pub(crate) use files::Files;
pub(crate) use names::Names;
pub(crate) use tensors::Tensors;
