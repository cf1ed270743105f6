//! What a model is: its configuration, from what a checkpoint has and states.

mod architecture;
mod description;
mod infer;
mod overrides;
mod preprocess;
mod stated;

pub use architecture::{Architecture, Head, Padding, StageConfig, SwinConfig, VitConfig};
pub use description::Config;
pub use overrides::Overrides;
pub use preprocess::{Interpolation, Preprocess};
pub(crate) use stated::Sidecars;
