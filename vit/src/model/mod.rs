//! Models: their layers, the memory that they run in, and the forward pass.

mod attended;
mod attention;
mod digest;
mod forward;
mod layer;
mod memory;
mod named;
mod operation;
mod patches;
mod positions;
mod run;
mod source;
mod swin;
mod transformer;
mod vit;
mod windows;
mod workspace;

pub use attention::Attention;
pub use layer::{Layer, LayerReport};
pub use memory::Workspace;
pub use operation::Operation;
pub use run::{Observed, Output};
pub(crate) use source::Source;
pub use transformer::Model;
