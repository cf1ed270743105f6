//! What quantization gains and costs: time, distance from the float model, a page and a demo about them.
//! What is found can be written and read as JSON. Fields that a later version adds are passed over.

pub mod bench;
pub mod compare;
pub mod demo;
pub mod report;
pub(crate) mod table;
mod timing;
