//! What quantization gains and costs: time, distance from the float model, a page and a demo about them.

pub mod bench;
pub mod compare;
pub mod demo;
pub mod report;
pub(crate) mod table;
mod timing;
