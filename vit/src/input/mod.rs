//! What a model sees: photos, and the images that are part of the program.

pub mod embedded;
mod images;
pub mod photo;

pub use images::Images;
