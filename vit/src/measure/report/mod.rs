//! A page about one quantized model: one HTML file that needs nothing else, for readers who have not
//! read the paper.

mod chart;
mod data;
mod explain;
mod page;
mod tails;

pub use data::{Choice, Histogram, Panel, ReportData, Tail};
pub use page::render;
pub use tails::tails;
