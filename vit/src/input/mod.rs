//! What a model sees: photos, and the images that are part of the program.

mod decode;
pub mod embedded;
mod images;
mod jpeg;
pub mod photo;
mod resize;

pub use images::Images;
