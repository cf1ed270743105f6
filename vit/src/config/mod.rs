//! What a model is: its configuration, from what a checkpoint has and states.

mod architecture;
mod description;
mod hugging_face;
mod infer;
mod infer_swin;
mod infer_vit;
mod labels;
mod overrides;
mod preprocess;
mod processor;
mod reader;
mod stated;
mod timm;

pub use architecture::{
    Activation, Architecture, Head, Padding, StageConfig, SwinConfig, VitConfig,
};
pub use description::Config;
pub use labels::Judgement;
pub use overrides::Overrides;
pub use preprocess::{Interpolation, Preprocess};
pub(crate) use stated::Sidecars;
