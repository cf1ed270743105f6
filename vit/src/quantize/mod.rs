//! From a float model to a quantized one: calibration, plans, and what was chosen.

mod build;
mod calibration;
mod plan;
pub(crate) mod words;

pub use calibration::{Calibration, Uninformative};
pub use plan::{Choice, LayerPlan};
