//! Models in files. One file holds a whole model: the quantized layers as [`noisyquant::io`] stores
//! them, all other tensors in f32, and a metadata entry that says what they make.

mod header;
mod open;
mod save;

pub use open::OpenOptions;
pub(crate) use open::is_float_checkpoint;
