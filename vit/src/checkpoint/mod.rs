//! Checkpoints: files, the tensors in them, and how those are named.

mod bytes;
mod files;
mod foreign;
mod json;
mod names;
mod tensors;

pub(crate) use bytes::View;
pub(crate) use files::Files;
pub(crate) use foreign::recognise;
pub(crate) use json::Entries;
pub(crate) use names::{Leftover, Names};
pub(crate) use tensors::Tensors;
